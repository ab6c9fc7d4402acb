"""Filling the shadow while the guest runs with CR0.WP=0: supervisor writes ignore the W bits.

The hardware always has WP=1, so W has to be faked per leaf, and what a leaf may say depends on the rights of the whole
path. So these shadow pages have a role of their own, (8 | accumulated W and U), links carry all rights, and leaves the
combined ones. A supervisor page is writable whatever W says. A read-only user page is one of two things at a time: a
read-only user page, or, after a supervisor write, a writable supervisor page; each access of the other kind flips it.
With SMAP the second form would hide violations: such a write is then a trace fault, to be emulated.

Guest writes to a table drop these entries, whatever the policy is.
"""

from __future__ import annotations

from typing import Final

from dbgvmm.hardware.memory import FramePool
from dbgvmm.hardware.paging import PTE
from dbgvmm.mmu.access import FRAME_MASK, HIDDEN, TRACE, USER, WRITE
from dbgvmm.mmu.pages import POOL_OFFSET, ShadowPages
from dbgvmm.mmu.regions import LINK, RegionTables
from dbgvmm.mmu.rmap import ReverseMap
from dbgvmm.mmu.roots import Root
from dbgvmm.mmu.tlb import TlbState
from dbgvmm.mmu.trace_kinds import HIDE
from dbgvmm.mmu.walk import Walk

WP0_ROLE: Final = 8
"""Role bit of shadow pages made with CR0.WP=0; the two rights follow in bits 1 and 2."""
_RIGHTS: Final = PTE.W | PTE.U
_OPEN_LINK: Final = LINK | _RIGHTS


class Wp0Filler:
    """4-level paging with CR0.WP=0. `smap` follows CR4.SMAP."""

    def __init__(
        self, frames: FramePool, pages: ShadowPages, regions: RegionTables, rmap: ReverseMap, traced: dict[int, int],
        tlb: TlbState, *, user_execute: bool,
    ) -> None:  # fmt: skip
        self._q = frames.u64
        self._child = pages.child
        self._regions = regions
        self._rmap = rmap
        self._traced = traced
        self._tlb = tlb
        self._user_execute = user_execute
        self.smap = False

    def fill(self, root: Root, va: int, walk: Walk, access: int) -> int:
        """Map `va` for this kind of access."""
        gpa, e4, e3, e2, e1 = walk
        leaf = e1 or e2 or e3
        forbidden = e4 | e3 | e2 | e1
        rights = e4 & e3 & (e2 or _RIGHTS) & (e1 or _RIGHTS) & _RIGHTS
        rights = self._effective(rights, leaf, access)
        if rights < 0:
            return TRACE
        slot = self._descend(root, va, walk)
        nx = 0 if self._user_execute and rights & PTE.U and not forbidden & PTE.NX else PTE.NX
        old = self._q[slot]
        frame = gpa >> 12
        kinds = self._traced.get(frame, 0)
        if e1:
            if kinds & HIDE:
                return TRACE
            entry = frame << 12 | LINK | rights | nx
            if kinds:
                entry &= ~PTE.W
            self._rmap.add(frame, slot)
        else:
            if e2:
                entry = self._regions.link(gpa >> 21) | LINK | rights | nx
            else:
                entry = self._regions.gigabyte_link(gpa >> 30, gpa >> 21) | LINK | rights | nx
        self._q[slot] = entry
        if old & ~entry & _RIGHTS:
            self._tlb.outdated()
        if kinds & HIDE:
            return TRACE
        if access & WRITE:
            if kinds:
                return TRACE
            self._regions.unprotect(frame)
        return HIDDEN

    def force(self, root: Root, va: int, walk: Walk) -> int:
        """Map a read-only user page for one stepped supervisor write under SMAP. The caller clears the slot returned."""
        smap, self.smap = self.smap, False
        self.fill(root, va, walk, WRITE)
        self.smap = smap
        return self._descend(root, va, walk)

    def _effective(self, rights: int, leaf: int, access: int) -> int:
        """W and U of the shadow leaf for combined guest rights; -1 for a write that cannot be mapped."""
        if not rights & PTE.W:
            if not rights & PTE.U:
                rights |= PTE.W
            elif access & WRITE and not access & USER:
                if self.smap:
                    return -1
                rights = PTE.W
        return rights if leaf & PTE.D else rights & ~PTE.W

    def _descend(self, root: Root, va: int, walk: Walk) -> int:
        """The slot of the leaf (or of a large page's link), the tables above it linked."""
        _, e4, e3, e2, e1 = walk
        q = self._q
        index = va >> 39 & 511
        slot = (root.low if index < 256 else root.high) + index
        rights = _RIGHTS
        for entry, below, level, shift in ((e4, e3, 3, 30), (e3, e2, 2, 21), (e2, e1, 1, 12)):
            if not below:
                break
            rights &= entry
            if not q[slot]:
                page = self._child(slot, entry >> 12 & FRAME_MASK, level, WP0_ROLE | rights)
                q[slot] = page.address | _OPEN_LINK
            slot = (q[slot] & POOL_OFFSET) >> 3 | va >> shift & 511
        return slot

    def path(self, root: Root, va: int, walk: Walk) -> None:
        """Shadow (and so trace) all tables of a walk, without mapping its page."""
        self._descend(root, va, walk)
