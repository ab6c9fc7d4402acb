"""`TraceBuffer`: the frames of a run, bounded, in order. A full one takes no more, or (circular) drops the oldest."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from itertools import accumulate, islice
from typing import Final

from gdbstub.tracing.frames import RegisterLayout, TraceFrame

DEFAULT_SIZE: Final = 5 << 20
LARGEST_SIZE: Final = 1 << 30
"""Bytes of the frames (`TraceFrame.size`)."""


class TraceBuffer:
    """Frames; those that are there have the numbers from 0 on, the oldest first.

    created: how many frames there were in this run, those that were dropped included.
    """

    def __init__(self) -> None:
        self.circular = False
        self.created = 0
        self.used = 0
        self._size = DEFAULT_SIZE
        self._frames: deque[TraceFrame] = deque()
        self._ends: tuple[RegisterLayout, list[int]] | None = None

    def __len__(self) -> int:
        return len(self._frames)

    def __iter__(self) -> Iterator[TraceFrame]:
        return iter(self._frames)

    @property
    def size(self) -> int:
        """How many bytes there is room for. Making it smaller drops the oldest frames that are too many."""
        return self._size

    @size.setter
    def size(self, size: int) -> None:
        self._size = size
        self._drop(size)

    @property
    def free(self) -> int:
        """Bytes that are not used."""
        return self._size - self.used

    def clear(self) -> None:
        """Empty it for a new run."""
        self._frames.clear()
        self._ends = None
        self.created = self.used = 0

    def append(self, frame: TraceFrame) -> bool:
        """Take a frame; False if it does not fit: there is no room left, or (circular) there is less in all."""
        size = frame.size
        if size > self.free:
            if not self.circular or size > self._size:
                return False
            self._drop(self._size - size)
        self._frames.append(frame)
        self._ends = None
        self.used += size
        self.created += 1
        return True

    def _drop(self, most: int) -> None:
        """Drop the oldest frames until no more than `most` bytes are used."""
        while self.used > most:
            self.used -= self._frames.popleft().size
            self._ends = None

    # -- finding frames

    def frame(self, number: int) -> TraceFrame | None:
        """The frame with this number."""
        return self._frames[number] if 0 <= number < len(self._frames) else None

    def find(self, wanted: Callable[[TraceFrame], bool], after: int = -1) -> int | None:
        """The number of the first frame behind number `after` that is wanted."""
        for number, frame in enumerate(islice(self._frames, after + 1, None), after + 1):
            if wanted(frame):
                return number
        return None

    # -- as bytes

    def read(self, layout: RegisterLayout, offset: int, length: int) -> bytes:
        """A part of all frames in gdb's trace file format."""
        if self._ends is None or self._ends[0] != layout:
            self._ends = layout, list(accumulate(frame.encoded_size(layout) for frame in self._frames))
        ends = self._ends[1]
        data = b""
        number = bisect_right(ends, offset)
        start = ends[number - 1] if number else 0
        for frame in islice(self._frames, number, None):
            data += frame.encode(layout)
            if start + len(data) >= offset + length:
                break
        return data[offset - start : offset - start + length] if data else b""
