"""The reverse map: from a guest frame to the shadow leaf entries that may map it.

Entries are added when a leaf is filled and never removed when it is dropped: a slot counts only if it still belongs to
a leaf table and still maps the frame, which costs one look. So dropping leaves, which happens far more often than
write-protecting a frame, costs nothing here. Frames mapped by large guest pages are found through `RegionTables`.
"""

from __future__ import annotations

from typing import Final

from dbgvmm.hardware.memory import FramePool
from dbgvmm.hardware.paging import PTE

_SLOTS: Final = 511
_PRUNE_FROM: Final = 16


class ReverseMap:
    """`slots` holds one slot as an int, several as a set: most frames are mapped once."""

    def __init__(self, frames: FramePool) -> None:
        self._q = frames.u64
        self.leaf_tables: set[int] = set()
        self.slots: dict[int, int | set[int]] = {}

    def add(self, frame: int, slot: int) -> None:
        """Note that `slot` maps `frame`."""
        slots = self.slots
        old = slots.get(frame)
        if old is None:
            slots[frame] = slot
        elif isinstance(old, int):
            if old != slot:
                slots[frame] = {old, slot}
        else:
            old.add(slot)
            size = len(old)
            if size >= _PRUNE_FROM and not size & size - 1:
                slots[frame] = set(self.live(frame)) | {slot}

    def live(self, frame: int) -> list[int]:
        """The slots that map the frame now, in ascending order."""
        noted = self.slots.get(frame)
        if noted is None:
            return []
        q, leaf_tables = self._q, self.leaf_tables
        return [
            slot
            for slot in ((noted,) if isinstance(noted, int) else sorted(noted))
            if slot & ~_SLOTS in leaf_tables and (q[slot] & PTE.ADDRESS) >> 12 == frame and q[slot] & PTE.P
        ]

    def drop(self, frame: int) -> None:
        """Clear all leaves that map the frame."""
        for slot in self.live(frame):
            self._q[slot] = 0

    def write_protect(self, frame: int) -> bool:
        """Take W from all leaves that map the frame. Says whether one had it."""
        q = self._q
        had = False
        for slot in self.live(frame):
            entry = q[slot]
            if entry & PTE.W:
                q[slot] = entry & ~PTE.W
                had = True
        return had
