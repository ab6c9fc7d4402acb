"""Region tables: how guest pages of 2 MiB and 1 GiB (and the unpaged address space) are mapped.

Each 2 MiB region of guest-physical memory that a large page maps has ONE page table of ours, filled completely when it is
made: all frames, writable except the traced ones. All large mappings of the region link to it, and the link carries
the guest entry's rights (the hardware ANDs them). So tracing a frame clears one bit whoever maps it and however, a large
page never has to be broken up or put together, and no frame of it needs an entry in the reverse map. A 2 MiB entry
in the shadow would gain nothing: the engine's TLB holds 4 KiB pages only.

A *gigabyte table* is the same one level up: a page directory whose entries are made on demand.
"""

from __future__ import annotations

from array import array
from typing import Final

from dbgvmm.hardware.layout import MonitorPhysical
from dbgvmm.hardware.memory import FramePool
from dbgvmm.hardware.paging import PTE
from dbgvmm.mmu.trace_kinds import HIDE

LINK: Final = PTE.P | PTE.A | PTE.D
_OPEN: Final = LINK | PTE.W | PTE.U
REGION_SHIFT: Final = 21


class RegionTables:
    """The tables, by region number (gpa >> 21) and gigabyte number (gpa >> 30). They are shared by all roots."""

    def __init__(self, frames: FramePool, traced: dict[int, int], *, execute: bool) -> None:
        self._frames = frames
        self._q = frames.u64
        self._traced = traced
        self._leaf = _OPEN if execute else _OPEN | PTE.NX
        self.tables: dict[int, MonitorPhysical] = {}
        self.gigabytes: dict[int, MonitorPhysical] = {}

    def link(self, region: int) -> int:
        """The physical address of the region's page table."""
        table = self.tables.get(region)
        if table is None:
            self.tables[region] = table = self._frames.allocate()
            base = self._frames.index(table)
            first = region << REGION_SHIFT | self._leaf
            q = self._q
            q[base : base + 512] = memoryview(array("Q", range(first, first + (1 << REGION_SHIFT), 4096)))
            for frame in range(region << 9, region + 1 << 9):
                if frame in self._traced:
                    q[base | frame & 511] = self._entry(frame)
        return table

    def gigabyte_link(self, gigabyte: int, region: int) -> int:
        """The physical address of a page directory for 1 GiB that (at least) maps `region`."""
        table = self.gigabytes.get(gigabyte)
        if table is None:
            self.gigabytes[gigabyte] = table = self._frames.allocate()
        slot = self._frames.index(table) | region & 511
        if not self._q[slot]:
            self._q[slot] = self.link(region) | _OPEN
        return table

    def slot(self, frame: int) -> int:
        """The slot that maps the frame, or -1 if its region has no table."""
        table = self.tables.get(frame >> 9)
        return -1 if table is None else self._frames.index(table) | frame & 511

    def _entry(self, frame: int) -> int:
        kinds = self._traced.get(frame, 0)
        if kinds & HIDE:
            return 0
        entry = frame << 12 | self._leaf
        return entry & ~PTE.W if kinds else entry

    def hide(self, frame: int) -> None:
        """Clear the frame's entry."""
        slot = self.slot(frame)
        if slot >= 0:
            self._q[slot] = 0

    def show(self, frame: int) -> None:
        """Make the frame's entry again, writable unless it is traced for another reason."""
        slot = self.slot(frame)
        if slot >= 0:
            self._q[slot] = self._entry(frame)

    def write_protect(self, frame: int) -> bool:
        """Take W from the frame's entry. Says whether it had it."""
        slot = self.slot(frame)
        if slot < 0 or not self._q[slot] & PTE.W:
            return False
        self._q[slot] &= ~PTE.W
        return True

    def unprotect(self, frame: int) -> None:
        """Give W back to the frame's entry (whether a mapping is writable is up to the link)."""
        slot = self.slot(frame)
        if slot >= 0:
            self._q[slot] |= PTE.W

    def drop_all(self) -> None:
        """Give all tables back. Nothing may link to them any more."""
        for table in (*self.tables.values(), *self.gigabytes.values()):
            self._frames.release(table)
        self.tables.clear()
        self.gigabytes.clear()
