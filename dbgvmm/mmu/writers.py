"""Who writes to traced frames: per frame what it has cost so far, per page-table entry the last writer. For people only.

Whoever finds out that a guest instruction writes to a traced frame says so (`fault`, `store`) before the write is carried
out; a write that nobody has announced is the monitor's own: a frame of an interrupt, a callout's operand, a debugger's poke.
Both records forget what was written longest ago.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

NOBODY: Final = -1
"""In the place of a guest address: the monitor itself, or a debugger."""
MOST_FRAMES: Final = 1 << 14
MOST_ENTRIES: Final = 1 << 13


class EntryWrite(NamedTuple):
    """The last write to a page-table entry. rip: of the guest instruction, or NOBODY. when: instructions retired until then
    (exact to within one unit)."""

    rip: int
    when: int


class FrameWrites:
    """What the trace on one frame has cost: trace faults, stores of adapted code (bt/adaptation.py), writes by the monitor.
    The last writer, and at which instruction count."""

    __slots__ = ("count", "faults", "monitor", "rip", "stores")

    def __init__(self) -> None:
        self.faults = self.stores = self.monitor = 0
        self.rip = NOBODY
        self.count = 0


class Writers:
    """The records. rip: who is writing now. time: the count at which that was announced."""

    __slots__ = ("_entries", "frames", "now", "rip", "time")

    def __init__(self) -> None:
        self.frames: dict[int, FrameWrites] = {}
        self._entries: dict[int, tuple[int, int]] = {}
        self.rip = NOBODY
        self.time = 0
        self.now: Callable[[], int] = lambda: 0
        """The instruction count."""

    def _note(self, frame: int, rip: int) -> FrameWrites:
        noted = self.frames.get(frame)
        if noted is None:
            if len(self.frames) >= MOST_FRAMES:
                del self.frames[next(iter(self.frames))]
            noted = self.frames[frame] = FrameWrites()
        noted.rip = self.rip = rip
        noted.count = self.time = self.now()
        return noted

    def fault(self, frame: int, rip: int) -> None:
        """The instruction at `rip` faulted on the frame's trace and is about to be carried out."""
        self._note(frame, rip).faults += 1

    def store(self, frame: int, rip: int) -> None:
        """The adapted store at `rip` is about to be carried out."""
        self._note(frame, rip).stores += 1

    def by_monitor(self, frame: int) -> None:
        """The monitor writes."""
        self._note(frame, NOBODY).monitor += 1

    def entry(self, gpa: int) -> None:
        """The page-table entry at guest-physical `gpa` has been written."""
        entries = self._entries
        if gpa in entries:
            del entries[gpa]
        elif len(entries) >= MOST_ENTRIES:
            del entries[next(iter(entries))]
        entries[gpa] = self.rip, self.time

    def last(self, gpa: int) -> EntryWrite | None:
        """The last write to a page-table entry; None if it is not known (any more)."""
        found = self._entries.get(gpa)
        return None if found is None else EntryWrite(*found)


__all__ = ["EntryWrite", "FrameWrites", "NOBODY", "Writers"]
