"""Code windows: TC pages that are executable only while the guest maps the code they were translated from.

A TC page holds translations of the code of one guest page. In a root, its entry is present exactly while that root maps
the code's page at that address to that frame with execute permission; so a jump within the TC to code that is not mapped
(any more) faults, and no translated branch has to compare address spaces. Windows are opened by fetch faults, and
closed when a guest entry that they depend on changes. They are shadow entries like any other (see tlb.py).

Windows onto global code lie in page tables that all roots share. As hardware keeps global translations over CR3 writes,
these windows stay until the address is invalidated, or global ones are altogether.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from dbgvmm.hardware.layout import MONITOR_PA, PAGE_SIZE, TC_OFFSET
from dbgvmm.hardware.memory import FramePool
from dbgvmm.hardware.paging import PTE
from dbgvmm.mmu.monitor_space import GLOBAL_TC_PAGES, MonitorSpace, MonitorTables
from dbgvmm.mmu.tlb import TlbState

_OPEN: Final = PTE.P | PTE.A
_MATTERS: Final = PTE.P | PTE.U | PTE.PS | PTE.G | PTE.ADDRESS | PTE.NX


class Window:
    """An open window: its TC page, the guest entries it depends on (frame << 9 | index), the code's page numbers."""

    __slots__ = ("entries", "pages", "tables", "tc_page")

    def __init__(self, tc_page: int, tables: MonitorTables, entries: tuple[int, ...], pages: tuple[int, ...]) -> None:
        self.tc_page = tc_page
        self.tables = tables
        self.entries = entries
        self.pages = pages


class Windows:
    """All open windows, by slot; and by TC page, by guest table entry, by code page, and by root."""

    def __init__(self, frames: FramePool, monitor: MonitorSpace, tlb: TlbState) -> None:
        self._q = frames.u64
        self._monitor = monitor
        self._tlb = tlb
        self.open: dict[int, Window] = {}
        self._by_tc_page: dict[int, set[int]] = {}
        self.by_table: dict[int, dict[int, set[int]]] = {}
        self._by_page: dict[int, set[int]] = {}
        self._by_root: dict[MonitorTables, set[int]] = {}
        self.opened = 0
        self.closed = 0

    def add(
        self, tables: MonitorTables, tc_page: int, user: bool, entries: tuple[int, ...], pages: tuple[int, ...]
    ) -> None:
        """Open a window in one root (in all, for a TC page of global code)."""
        slot = self._monitor.tc_slot(tables, tc_page)
        if slot in self.open:
            self._close(slot)
        window = Window(tc_page, tables, entries, pages)
        self.open[slot] = window
        self._by_tc_page.setdefault(tc_page, set()).add(slot)
        for entry in entries:
            self.by_table.setdefault(entry >> 9, {}).setdefault(entry & 511, set()).add(slot)
        for page in pages:
            self._by_page.setdefault(page, set()).add(slot)
        if tc_page >= GLOBAL_TC_PAGES:
            self._by_root.setdefault(tables, set()).add(slot)
        self._q[slot] = MONITOR_PA + TC_OFFSET + tc_page * PAGE_SIZE | (_OPEN | PTE.U if user else _OPEN)
        self.opened += 1

    def _close(self, slot: int) -> None:
        window = self.open.pop(slot)
        self._q[slot] = 0
        self._tlb.outdated()
        self.closed += 1
        self._by_tc_page[window.tc_page].discard(slot)
        for entry in window.entries:
            table = self.by_table.get(entry >> 9)
            if table is not None and entry & 511 in table:
                table[entry & 511].discard(slot)
                if not table[entry & 511]:
                    del table[entry & 511]
                    if not table:
                        del self.by_table[entry >> 9]
        for page in window.pages:
            slots = self._by_page.get(page)
            if slots is not None:
                slots.discard(slot)
                if not slots:
                    del self._by_page[page]
        if window.tc_page >= GLOBAL_TC_PAGES:
            self._by_root[window.tables].discard(slot)

    def _close_each(self, slots: Iterable[int]) -> None:
        for slot in tuple(slots):
            self._close(slot)

    # -- why windows close

    def entry_changed(self, gfn: int, index: int, old: int, new: int) -> None:
        """A guest table entry was written. D and a set A do not matter; a cleared A must be set by the next fetch."""
        table = self.by_table.get(gfn)
        if table is not None and index in table and ((old ^ new) & _MATTERS or old & ~new & PTE.A):
            self._close_each(table[index])

    def table_untraced(self, gfn: int) -> None:
        """Writes to this guest table are not seen any more."""
        table = self.by_table.get(gfn)
        if table is not None:
            for index in tuple(table):
                self._close_each(table.get(index, ()))

    def page_invalidated(self, page: int) -> None:
        """The guest invalidated virtual page number `page`."""
        slots = self._by_page.get(page)
        if slots:
            self._close_each(slots)

    def close_tc_page(self, tc_page: int) -> None:
        """The TC page is to hold something else: close its windows in all roots, effective at once."""
        self._close_each(self._by_tc_page.get(tc_page, ()))

    def close_global(self) -> None:
        """The guest invalidated global translations."""
        self._close_each([slot for slot, window in self.open.items() if window.tc_page < GLOBAL_TC_PAGES])

    def close_all(self) -> None:
        """Close every window."""
        self._close_each(self.open)

    def forget_root(self, tables: MonitorTables) -> None:
        """A root is about to be destroyed."""
        self._close_each(self._by_root.get(tables, ()))
        self._by_root.pop(tables, None)
