"""Shadow pages: one table of ours for each guest table and level, and the links between them.

A shadow page is keyed by (guest table's frame, level, role) and linked from every shadow entry whose guest entry names
that table: address spaces that share a guest table share its shadow, as do aliases. The guest table is traced as long as
it has a shadow. A shadow page nobody links to is destroyed at once, so the trace ends when the guest unlinks its table.

Roles: 0 for all ordinary pages; with CR0.WP=0 a role holds the rights accumulated on the way down (see wp0.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from dbgvmm.hardware.layout import MONITOR_SIZE, PAGE_SIZE, MonitorPhysical
from dbgvmm.hardware.memory import FramePool
from dbgvmm.mmu.rmap import ReverseMap
from dbgvmm.mmu.tlb import TlbState
from dbgvmm.mmu.trace import Traces
from dbgvmm.mmu.trace_kinds import TABLE

POOL_OFFSET: Final = MONITOR_SIZE - PAGE_SIZE
"""`(entry & POOL_OFFSET) >> 3` is the base of the table that a shadow entry links to (MONITOR_PA is aligned)."""
TOP: Final = 4


class ShadowPage:
    """The shadow of guest table `gfn` read as a table of `level` (4 PML4, 3 PDPT, 2 PD, 1 PT).

    base: slot of entry 0. high: the same for entries 256 to 511, which differs at the top level only: the two halves of
    the guest's address space hang on different PML5 entries. parents: slots of the links to it.
    """

    __slots__ = ("address", "alive", "base", "gfn", "high", "level", "parents", "role")

    def __init__(self, gfn: int, level: int, role: int, address: MonitorPhysical, base: int, high: int) -> None:
        self.gfn = gfn
        self.level = level
        self.role = role
        self.address = address
        self.base = base
        self.high = high
        self.parents: set[int] = set()
        self.alive = True

    @property
    def key(self) -> int:
        """The number that identifies (gfn, level, role)."""
        return self.gfn << 8 | self.role << 4 | self.level


class ShadowPages:
    """All shadow pages, found by key, by base, and by guest table.

    paths: what is known of the way down to a page table, see ShadowFiller.refill. Whatever changes or removes a link
    above a leaf clears it.
    """

    def __init__(self, frames: FramePool, traces: Traces, rmap: ReverseMap, tlb: TlbState) -> None:
        self._frames = frames
        self._q = frames.u64
        self._traces = traces
        self._rmap = rmap
        self._tlb = tlb
        self.by_key: dict[int, ShadowPage] = {}
        self.by_base: dict[int, ShadowPage] = {}
        self.of_table: dict[int, list[ShadowPage]] = {}
        self.paths: dict[int, tuple[int, int, int]] = {}
        self.on_untraced: Callable[[int], None] = lambda gfn: None
        self.created = 0
        self.destroyed = 0

    def child(self, slot: int, gfn: int, level: int, role: int) -> ShadowPage:
        """The shadow of guest table `gfn` for a link in `slot`; the caller writes the entry."""
        page = self.by_key.get(gfn << 8 | role << 4 | level)
        if page is None:
            address = self._frames.allocate()
            base = self._frames.index(address)
            page = ShadowPage(gfn, level, role, address, base, base)
            self.by_base[base] = page
            if level == 1:
                self._rmap.leaf_tables.add(base)
            self.register(page)
        page.parents.add(slot)
        return page

    def register(self, page: ShadowPage) -> None:
        """Take in a new page and trace its guest table."""
        self.created += 1
        self.by_key[page.key] = page
        self.of_table.setdefault(page.gfn, []).append(page)
        self._traces.add(page.gfn, TABLE)

    def drop(self, slot: int) -> None:
        """Clear a link, and destroy the page it led to if that was the last one."""
        q = self._q
        page = self.by_base.get((q[slot] & POOL_OFFSET) >> 3)
        q[slot] = 0
        self._tlb.outdated()
        self.paths.clear()
        if page is not None:
            page.parents.discard(slot)
            if not page.parents:
                self.destroy(page)

    def clear(self, page: ShadowPage) -> None:
        """Drop all entries of a page."""
        q = self._q
        self._tlb.outdated()
        if page.level == 1:
            q[page.base : page.base + 512] = memoryview(bytes(PAGE_SIZE)).cast("Q")
            return
        halves = ((page.base, 0, 512),) if page.base == page.high else ((page.base, 0, 256), (page.high, 256, 512))
        for base, first, end in halves:
            for slot, entry in enumerate(q[base + first : base + end], base + first):
                if entry:
                    self.drop(slot)

    def unregister(self, page: ShadowPage) -> None:
        """Forget a page; its guest table is untraced if this was its last shadow."""
        self.destroyed += 1
        page.alive = False
        del self.by_key[page.key]
        siblings = self.of_table[page.gfn]
        siblings.remove(page)
        if not siblings:
            del self.of_table[page.gfn]
            self._traces.remove(page.gfn, TABLE)
            self.on_untraced(page.gfn)

    def destroy(self, page: ShadowPage) -> None:
        """Remove a page below the top level, the links to it and what hangs on it alone."""
        q = self._q
        self.paths.clear()
        self.unregister(page)
        for slot in page.parents:
            q[slot] = 0
        page.parents.clear()
        if page.level > 1:
            self.clear(page)
        else:
            self._rmap.leaf_tables.discard(page.base)
        del self.by_base[page.base]
        self._frames.release(page.address)
        self._tlb.outdated()
