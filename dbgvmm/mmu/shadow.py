"""Hidden faults: filling the shadow from a successful guest walk (4-level paging, CR0.WP=1), and unpaged mode.

Upper entries copy W and U of the guest's, and the hardware ANDs them as it does natively; so a shadow page does not depend
on how it was reached and can be shared. A leaf is writable if the guest's is, if the guest's D bit is set (or the first
write would not set it) and if the frame is not traced. No guest page is executable, as guest code runs from the TC,
except with `user_execute`: then NX counts at all levels, and supervisor pages are never executable.

Caching attributes and G mean nothing to the engine and are not copied.
"""

from __future__ import annotations

from typing import Final, Protocol

from dbgvmm.hardware.memory import FramePool, PhysicalMemory
from dbgvmm.hardware.paging import PTE
from dbgvmm.mmu.access import FRAME_MASK, HIDDEN, TRACE, WRITE
from dbgvmm.mmu.pages import POOL_OFFSET, ShadowPages
from dbgvmm.mmu.regions import LINK, RegionTables
from dbgvmm.mmu.rmap import ReverseMap
from dbgvmm.mmu.roots import Root
from dbgvmm.mmu.trace_kinds import HIDE
from dbgvmm.mmu.walk import Walk

FILL_AROUND: Final = 16
"""Entries of the guest's page table that one hidden fault looks at (a power of two)."""
_PA: Final = PTE.P | PTE.A
_WD: Final = PTE.W | PTE.D
_AD: Final = PTE.A | PTE.D
_RIGHTS: Final = PTE.W | PTE.U
_LEAF_ADDRESS: Final = FRAME_MASK << 12
_LEAF_COPY: Final = _LEAF_ADDRESS | PTE.U
_LEAF_FIXED: Final = LINK | PTE.NX
_TABLE_MASK: Final = FRAME_MASK << 9
_MAX_PATHS: Final = 1 << 14


class Filler(Protocol):
    """How one paging mode's shadow is filled."""

    def fill(self, root: Root, va: int, walk: Walk, access: int) -> int: ...

    def path(self, root: Root, va: int, walk: Walk) -> None: ...


class ShadowFiller:
    """4-level paging with CR0.WP=1. `reserved`: bits that no guest entry may have set (see FourLevel.reserved)."""

    def __init__(
        self, frames: FramePool, ram: PhysicalMemory, pages: ShadowPages, regions: RegionTables, rmap: ReverseMap,
        traced: dict[int, int], floods: dict[int, int], *, user_execute: bool,
    ) -> None:  # fmt: skip
        self._q = frames.u64
        self._ram_q = ram.u64
        self._child = pages.child
        self._by_key = pages.by_key
        self._paths = pages.paths
        self._regions = regions
        self._rmap = rmap
        self._slots = rmap.slots
        self._traced = traced
        self._floods = floods
        self._user_execute = user_execute
        self._link_mask = PTE.W | PTE.U | PTE.NX if user_execute else PTE.W | PTE.U
        self.reserved = 0
        self.filled_around = 0
        self.gpa = 0
        self.ad_updates = 0

    # -- what a shadow entry must say, given the guest's

    def leaf(self, entry: int) -> int:
        """The shadow of a 4 KiB entry that is present, accessed and has no reserved bit set."""
        shadow = entry & (_LEAF_ADDRESS | PTE.U) | LINK
        kinds = self._traced.get(entry >> 12 & FRAME_MASK, 0)
        if kinds & HIDE:
            return 0
        if entry & _WD == _WD and not kinds:
            shadow |= PTE.W
        if not self._user_execute or not entry & PTE.U:
            shadow |= PTE.NX
        return shadow | entry & PTE.NX

    def link_rights(self, entry: int) -> int:
        """What a link to the shadow of a guest table copies from the guest's entry, and the fixed bits."""
        return entry & self._link_mask | LINK

    def large_rights(self, entry: int) -> int:
        """The same for a link that stands for a large page: W only once the page is dirty."""
        rights = entry & PTE.U | LINK
        if entry & _WD == _WD:
            rights |= PTE.W
        if self._user_execute and (entry & PTE.NX or not entry & PTE.U):
            rights |= PTE.NX
        return rights

    # -- filling

    def fill(self, root: Root, va: int, walk: Walk, access: int) -> int:
        """Map `va` after a successful walk: HIDDEN, or TRACE for a write to a traced frame."""
        gpa, e4, e3, e2, e1 = walk
        q = self._q
        index = va >> 39 & 511
        slot = (root.low if index < 256 else root.high) + index
        link = q[slot] or self._link(slot, e4, 3)
        slot = (link & POOL_OFFSET) >> 3 | va >> 30 & 511
        if e3 & PTE.PS:
            q[slot] = self._regions.gigabyte_link(gpa >> 30, gpa >> 21) | self.large_rights(e3)
            return self._region_access(gpa >> 12, access)
        link = q[slot] or self._link(slot, e3, 2)
        slot = (link & POOL_OFFSET) >> 3 | va >> 21 & 511
        if e2 & PTE.PS:
            q[slot] = self._regions.link(gpa >> 21) | self.large_rights(e2)
            return self._region_access(gpa >> 12, access)
        link = q[slot] or self._link(slot, e2, 1)

        base = (link & POOL_OFFSET) >> 3
        table = e2 >> 3 & _TABLE_MASK
        paths = self._paths
        if len(paths) >= _MAX_PATHS:
            paths.clear()
        paths[root.path_key | va >> 21] = base, table, e4 & e3 & e2 & _RIGHTS
        return self._fill_leaf(base, table, va >> 12 & 511, e1, access)

    def refill(self, root: Root, va: int, access: int, with_user_pages: int) -> int:
        """The whole hidden fault in one go, if the way to the page table is known: HIDDEN or TRACE (with `gpa` set).

        Returns -1, having done nothing, if it is not known or the access may be denied: walk, then `fill`. The tables
        on the way are traced, so what was found in them still holds. with_user_pages: 0 if supervisor accesses to user
        pages are in question (SMAP), else PTE.U.
        """
        path = self._paths.get(root.path_key | va >> 21)
        if path is None:
            return -1
        base, table, rights = path
        index = va >> 12 & 511
        at = table | index
        entry = self._ram_q[at]
        if not entry & PTE.P or entry & self.reserved or access & ~(rights & entry):
            return -1
        if entry & ~(access | with_user_pages) & PTE.U:
            return -1
        if access & WRITE:
            if entry & _AD != _AD:
                self._ram_q[at] = entry = entry | _AD
                self.ad_updates += 1
        elif not entry & PTE.A:
            self._ram_q[at] = entry = entry | PTE.A
            self.ad_updates += 1
        self.gpa = entry & _LEAF_ADDRESS | va & 0xFFF
        return self._fill_leaf(base, table, index, entry, access)

    def _fill_leaf(self, base: int, table: int, index: int, entry: int, access: int) -> int:
        """Fill one entry of a page table. `table` is the index of the guest table's first entry in RAM's quadwords."""
        q = self._q
        slot = base | index
        frame = entry >> 12 & FRAME_MASK
        kinds = self._traced.get(frame, 0)
        if kinds & HIDE:
            return TRACE
        if self._user_execute:
            shadow = self.leaf(entry)
        else:
            shadow = entry & _LEAF_COPY | _LEAF_FIXED
            if entry & _WD == _WD and not kinds:
                shadow |= PTE.W
        old = q[slot]
        q[slot] = shadow
        slots = self._slots
        noted = slots.get(frame)
        if noted is None:
            slots[frame] = slot
        elif noted != slot:
            self._rmap.add(frame, slot)
        if not old:  # else it is an upgrade: the neighbours had their chance
            self._fill_around(base, table, index)
        if self._floods:
            self._floods.pop(table >> 9, None)
        return TRACE if access & WRITE and not shadow & PTE.W else HIDDEN

    def _link(self, slot: int, entry: int, level: int) -> int:
        """Link the shadow of the guest table that `entry` names."""
        page = self._child(slot, entry >> 12 & FRAME_MASK, level, 0)
        link = page.address | self.link_rights(entry)
        self._q[slot] = link
        return link

    def _region_access(self, frame: int, access: int) -> int:
        """The large page is linked; what remains is whether this frame of it is traced."""
        kinds = self._traced.get(frame, 0)
        if not access & WRITE:
            return TRACE if kinds & HIDE else HIDDEN
        if kinds:
            return TRACE
        self._regions.unprotect(frame)
        return HIDDEN

    def _fill_around(self, base: int, table: int, index: int) -> None:
        """Fill the neighbours that the guest has used already; their A and D bits stay as they are."""
        first = index & -FILL_AROUND
        start = table + first
        entries = self._ram_q[start : start + FILL_AROUND].tolist()
        if entries.count(0) == FILL_AROUND - 1:
            return
        q = self._q
        reserved = self.reserved
        for slot, entry in enumerate(entries, base + first):
            if entry & _PA == _PA and not q[slot] and not entry & reserved:
                q[slot] = self.leaf(entry)
                self._rmap.add(entry >> 12 & FRAME_MASK, slot)
                self.filled_around += 1

    def path(self, root: Root, va: int, walk: Walk) -> None:
        """Shadow (and so trace) all tables of a walk, without mapping its page."""
        _, e4, e3, e2, e1 = walk
        q = self._q
        index = va >> 39 & 511
        slot = (root.low if index < 256 else root.high) + index
        link = q[slot] or self._link(slot, e4, 3)
        if e2:
            slot = (link & POOL_OFFSET) >> 3 | va >> 30 & 511
            link = q[slot] or self._link(slot, e3, 2)
            if e1:
                slot = (link & POOL_OFFSET) >> 3 | va >> 21 & 511
                if not q[slot]:
                    self._link(slot, e2, 1)

    def prefill(self, root: Root) -> None:
        """Link what a new root shares with others: top-level entries whose tables have a shadow already."""
        page = root.page
        if page is None:
            return
        for index, entry in enumerate(self._ram_q[page.gfn << 9 : page.gfn + 1 << 9].tolist()):
            if (
                entry
                and entry & _PA == _PA
                and not entry & (self.reserved | PTE.PS)
                and (entry >> 12 & FRAME_MASK) << 8 | 3 in self._by_key
            ):
                self._link((root.low if index < 256 else root.high) + index, entry, 3)


class IdentityFiller:
    """CR0.PG=0: 4 GiB mapped straight through, in pieces of 2 MiB, with all rights."""

    def __init__(self, frames: FramePool, regions: RegionTables, traced: dict[int, int]) -> None:
        self._frames = frames
        self._q = frames.u64
        self._regions = regions
        self._traced = traced

    def fill(self, root: Root, va: int, walk: Walk, access: int) -> int:
        """Map the 2 MiB around the address; TRACE for a write to a traced frame."""
        gpa = walk[0]
        q = self._q
        rights = LINK | PTE.W | PTE.U
        if not q[root.low]:
            q[root.low] = self._frames.allocate() | rights
        slot = (q[root.low] & POOL_OFFSET) >> 3 | va >> 30 & 3
        q[slot] = self._regions.gigabyte_link(gpa >> 30, gpa >> 21) | rights
        kinds = self._traced.get(gpa >> 12, 0)
        if not access & WRITE:
            return TRACE if kinds & HIDE else HIDDEN
        if kinds:
            return TRACE
        self._regions.unprotect(gpa >> 12)
        return HIDDEN

    def path(self, root: Root, va: int, walk: Walk) -> None:
        """There are no guest tables to trace."""
