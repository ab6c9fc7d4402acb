"""Writes to guest memory that the monitor carries out, and what follows from them for shadow tables, windows and code.

Guest page tables with a shadow are traced, so every write to one comes through here (or through an opened page), and the
shadow is always in step. Two policies for the entries written: *eager* computes the new shadow entry at once (no hidden
fault later), *lazy* only drops the old one.

A table that is written many times while none of its entries is used is probably no page table any more, or is being
taken down; after FLOOD_LIMIT writes it is released: its shadows are dropped and further writes run at full speed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from dbgvmm.hardware.layout import PAGE_SIZE
from dbgvmm.hardware.memory import FramePool, PhysicalMemory
from dbgvmm.hardware.paging import PTE
from dbgvmm.mmu.access import FRAME_MASK
from dbgvmm.mmu.pages import POOL_OFFSET, ShadowPage, ShadowPages
from dbgvmm.mmu.rmap import ReverseMap
from dbgvmm.mmu.shadow import ShadowFiller
from dbgvmm.mmu.tlb import TlbState
from dbgvmm.mmu.trace import Traces
from dbgvmm.mmu.trace_kinds import CODE, HIDE, IN_PLACE, TABLE
from dbgvmm.mmu.windows import Windows
from dbgvmm.mmu.writers import NOBODY, Writers

FLOOD_LIMIT: Final = 8
_PA: Final = PTE.P | PTE.A
_MASKS: Final = {1: 0xFF, 2: 0xFFFF, 4: 0xFFFF_FFFF, 8: (1 << 64) - 1}


_CODE: Final = CODE | IN_PLACE


def _ignore_code_write(gpa: int, size: int) -> None:
    """Nobody keeps translated code."""


def _ignore_in_place_write(frame: int, by_engine: bool) -> None:
    """No code runs in place."""


class GuestWrites:
    """Stores to guest RAM with all their consequences."""

    def __init__(
        self, ram: PhysicalMemory, frames: FramePool, pages: ShadowPages, filler: ShadowFiller, rmap: ReverseMap,
        traces: Traces, windows: Windows, tlb: TlbState, floods: dict[int, int], writers: Writers, *, eager: bool,
    ) -> None:  # fmt: skip
        self._ram = ram
        self._ram_q = ram.u64
        self._q = frames.u64
        self._pages = pages
        self._filler = filler
        self._rmap = rmap
        self._traces = traces
        self._kinds = traces.kinds
        self._windows = windows
        self._tlb = tlb
        self._floods = floods
        self._writers = writers
        self._eager = eager
        self._opened: dict[int, tuple[bytes, int]] = {}
        self.on_code_write: Callable[[int, int], None] = _ignore_code_write
        self.on_in_place_write: Callable[[int, bool], None] = _ignore_in_place_write
        """Called with a frame's number after bytes of code that runs in place were stored, and whether the engine did it."""
        self.on_flood: Callable[[int], None] = lambda gfn: None
        self.table_writes = 0
        self.code_writes = 0
        self.pages_opened = 0

    # -- stores

    def write_int(self, gpa: int, value: int, size: int) -> None:
        """Store the low `size` (1, 2, 4, 8) bytes of `value` at a RAM address."""
        kinds = self._kinds.get(gpa >> 12, 0)
        if size == 8 and not gpa & 7:
            at = gpa >> 3
            q = self._ram_q
            if kinds and self._writers.rip == NOBODY:
                self._writers.by_monitor(gpa >> 12)
            if kinds & TABLE:
                old = q[at]
                q[at] = value
                self.entry_written(gpa >> 12, at & 511, old, value)
            else:
                q[at] = value
            if kinds & _CODE:
                self._code_written(gpa, 8, kinds)
        elif gpa & PAGE_SIZE - 1 <= PAGE_SIZE - size and kinds:
            self._write_in_page(gpa, (value & _MASKS[size]).to_bytes(size, "little"))
        else:
            self.write(gpa, (value & _MASKS[size]).to_bytes(size, "little"))

    def write(self, gpa: int, data: bytes) -> None:
        """Store `data` at a RAM address; it may cross pages. Raises IndexError outside RAM, with nothing written."""
        end = gpa + len(data)
        kinds = self._kinds
        first, last = gpa >> 12, end - 1 >> 12
        if not (first in kinds if first == last else any(frame in kinds for frame in range(first, last + 1))):
            self._ram.write(gpa, data)
            return
        if end > self._ram.size:
            raise IndexError(f"guest-physical {gpa:#x}..{end:#x} is outside RAM (size {self._ram.size:#x})")
        at = gpa
        while at < end:
            stop = min(end, (at | PAGE_SIZE - 1) + 1)
            self._write_in_page(at, data[at - gpa : stop - gpa])
            at = stop

    def _write_in_page(self, gpa: int, data: bytes) -> None:
        frame = gpa >> 12
        kinds = self._kinds.get(frame, 0)
        if kinds and self._writers.rip == NOBODY:
            self._writers.by_monitor(frame)
        if kinds & TABLE:
            first, last = gpa >> 3, gpa + len(data) - 1 >> 3
            old = self._ram_q[first : last + 1].tolist()
            self._ram.write(gpa, data)
            for at, before in enumerate(old, first):
                self.entry_written(frame, at & 511, before, self._ram_q[at])
        else:
            self._ram.write(gpa, data)
        if kinds & _CODE:
            self._code_written(gpa, len(data), kinds)

    def _code_written(self, gpa: int, size: int, kinds: int, *, by_engine: bool = False) -> None:
        self.code_writes += 1
        if kinds & CODE:
            self.on_code_write(gpa, size)
        if kinds & IN_PLACE:
            self.on_in_place_write(gpa >> 12, by_engine)

    # -- consequences for the shadow

    def entry_written(self, gfn: int, index: int, old: int, new: int) -> None:
        """A guest table entry has changed from `old` to `new`."""
        pages = self._pages.of_table.get(gfn)
        if pages is None:
            return  # released by an earlier entry of the same store
        self.table_writes += 1
        self._writers.entry(gfn << 12 | index << 3)
        floods = self._floods
        count = floods.get(gfn, 0) + 1
        if count > FLOOD_LIMIT:
            floods.pop(gfn, None)
            self.on_flood(gfn)
            pages = self._pages.of_table.get(gfn)
            if pages is None:
                return
        else:
            floods[gfn] = count
        if old == new:
            return
        if gfn in self._windows.by_table:
            self._windows.entry_changed(gfn, index, old, new)
        if len(pages) == 1 and pages[0].level == 1:
            self._leaf_written(pages[0], index, new)
            return
        for page in tuple(pages):
            if page.alive:
                if page.level == 1:
                    self._leaf_written(page, index, new)
                else:
                    self._link_written(page, index, new)

    def _leaf_written(self, page: ShadowPage, index: int, new: int) -> None:
        slot = page.base | index
        q = self._q
        old = q[slot]
        shadow = 0
        if self._eager and new & _PA == _PA and not page.role and not new & self._filler.reserved:
            shadow = self._filler.leaf(new)
            self._rmap.add(new >> 12 & FRAME_MASK, slot)
        if shadow != old:
            q[slot] = shadow
            if old:
                self._tlb.outdated()

    def _link_written(self, page: ShadowPage, index: int, new: int) -> None:
        """A link stays while the guest's entry names the same table, with the rights it now gives."""
        slot = (page.base if index < 256 else page.high) + index
        link = self._q[slot]
        if not link:
            return
        child = self._pages.by_base.get((link & POOL_OFFSET) >> 3)
        if (
            self._eager
            and child is not None
            and not page.role
            and new & (_PA | PTE.PS) == _PA
            and not new & self._filler.reserved
            and child.gfn == new >> 12 & FRAME_MASK
        ):
            changed = child.address | self._filler.link_rights(new)
            if changed != link:
                self._q[slot] = changed
                self._tlb.outdated()
                self._pages.paths.clear()
        else:
            self._pages.drop(slot)

    # -- one stepped instruction

    def open_page(self, gpa: int) -> None:
        """Let writes to the frame of `gpa` through until `close_page`; what they did is applied then."""
        frame = gpa >> 12
        kinds = self._kinds.get(frame)
        if kinds is None:
            return
        if frame not in self._opened:  # or it was traced anew while open
            self._opened[frame] = bytes(self._ram.bytes[frame << 12 : frame + 1 << 12]), kinds
        del self._kinds[frame]
        if kinds & HIDE:
            self._traces.show(frame)
        self.pages_opened += 1

    def close_page(self, gpa: int) -> None:
        """Trace the frame again and apply all entries and code bytes that changed since `open_page`."""
        frame = gpa >> 12
        opened = self._opened.pop(frame, None)
        writers = self._writers
        if opened is None:
            writers.rip = NOBODY
            return
        before, kinds = opened
        # Tables may have come and gone while it was open.
        table_now = self._kinds.get(frame, 0) & TABLE or frame in self._pages.of_table
        self._kinds[frame] = kinds & ~TABLE | (TABLE if table_now else 0)
        if not self._kinds[frame]:
            del self._kinds[frame]
        elif kinds & HIDE:
            self._traces.hide(frame)
        else:
            self._traces.write_protect(frame)
        after = bytes(self._ram.bytes[frame << 12 : frame + 1 << 12])
        if before == after:
            writers.rip = NOBODY
            return
        old_q, new_q = memoryview(before).cast("Q"), memoryview(after).cast("Q")
        changed = [index for index in range(512) if old_q[index] != new_q[index]]
        if kinds & TABLE:
            for index in changed:
                self.entry_written(frame, index, old_q[index], new_q[index])
        if kinds & _CODE:
            for start, size in _changed_ranges(before, after, changed):
                self._code_written(frame << 12 | start, size, kinds, by_engine=True)
        writers.rip = NOBODY


def _changed_ranges(before: bytes, after: bytes, quadwords: list[int]) -> list[tuple[int, int]]:
    """The maximal runs (offset, size) of bytes that differ, which all lie in the given quadwords."""
    ranges: list[tuple[int, int]] = []
    for quadword in quadwords:
        for at in range(quadword << 3, quadword + 1 << 3):
            if before[at] != after[at]:
                if ranges and sum(ranges[-1]) == at:
                    ranges[-1] = ranges[-1][0], ranges[-1][1] + 1
                else:
                    ranges.append((at, 1))
    return ranges
