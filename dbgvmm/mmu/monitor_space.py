"""The part of every address space that is the monitor's: data page, translation cache, lookup tables.

In each root's PML5 table, slot MONITOR_PML5_SLOT leads to tables of that root alone, for the upper half of the TC is
mapped root by root; what they lead to for the data page and the lower half of the TC is shared. The PML4 tables behind
the slots of the two lookup tables are shared by all roots and grow on demand.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from typing import Final

from dbgvmm.hardware.engine import Engine
from dbgvmm.hardware.layout import (
    CODE_ALIAS_VA,
    COUNTERS_OFFSET,
    COUNTERS_SIZE,
    COUNTERS_VA,
    DATA_OFFSET,
    DATA_VA,
    KERNEL_LOOKUP_VA,
    LOOKUP_SPAN,
    MASK64,
    MONITOR_PA,
    MONITOR_PML5_SLOT,
    MONITOR_VA,
    PAGE_SHIFT,
    PAGE_SIZE,
    TC_OFFSET,
    TC_SIZE,
    TC_TABLES,
    TC_VA,
    TRACE_OFFSET,
    TRACE_PAGES,
    TRACE_VA,
    USER_DATA_VA,
    USER_LOOKUP_VA,
    USER_TRACE_VA,
    MonitorPhysical,
    is_lookup_slot,
)
from dbgvmm.hardware.paging import PTE

_LINK: Final = PTE.P | PTE.W | PTE.U | PTE.A | PTE.D
_KERNEL_DATA: Final = PTE.P | PTE.W | PTE.A | PTE.D | PTE.NX
_USER_DATA: Final = _KERNEL_DATA | PTE.U
_CODE_ALIAS: Final = PTE.P | PTE.U | PTE.A | PTE.D | PTE.PS
_LARGE: Final = 2 << 20
_SLOTS_EACH_SIDE: Final = LOOKUP_SPAN >> 48
_COUNTER_TABLES: Final = COUNTERS_SIZE >> 21
_COUNTERS_PDE: Final = COUNTERS_VA >> 21 & 511

ALIAS_NUMBERS: Final = 128
_KERNEL_ALIASES: Final = 256
_USER_ALIASES: Final = _KERNEL_ALIASES + ALIAS_NUMBERS
"""Pages behind MONITOR_VA from which the aliases of guest frames are, by number."""

TC_PAGES: Final = TC_SIZE // PAGE_SIZE
GLOBAL_TC_PAGES: Final = TC_PAGES // 2
"""TC pages below this number hold global code: their page tables are shared by all roots."""
GLOBAL_TC_TABLES: Final = TC_TABLES // 2
_TC_PDE: Final = TC_VA >> 21 & 511


def _links(tables: list[MonitorPhysical]) -> memoryview:
    """Entries that link to these tables, ready to be copied into one."""
    return memoryview(array("Q", [table | _LINK for table in tables]))


class MonitorTables:
    """One root's own tables: PML4, PDPT, PD (`pd_base`: its first slot) and the TC page tables made so far."""

    __slots__ = ("frames", "pd_base")

    def __init__(self, frames: list[MonitorPhysical], pd_base: int) -> None:
        self.frames = frames
        self.pd_base = pd_base


class MonitorSpace:
    """Builds the monitor's part of roots. `empty_slot`: the quadword that fills new pages of the lookup tables."""

    def __init__(self, engine: Engine, *, empty_slot: int = 0) -> None:
        self._frames = engine.frames
        self._q = engine.frames.u64
        self._empty_page = memoryview(array("Q", (empty_slot,)) * 512)
        self.lookup_pages: dict[int, MonitorPhysical] = {}
        self._data_table = self._new_table()
        self._set(self._data_table, DATA_VA >> 12 & 511, MONITOR_PA + DATA_OFFSET | _KERNEL_DATA)
        self._set(self._data_table, USER_DATA_VA >> 12 & 511, MONITOR_PA + DATA_OFFSET | _USER_DATA)
        for va, flags in ((TRACE_VA, _KERNEL_DATA), (USER_TRACE_VA, _USER_DATA)):
            for page in range(TRACE_PAGES):
                frame = MONITOR_PA + TRACE_OFFSET + page * PAGE_SIZE
                self._set(self._data_table, (va >> 12 & 511) + page, frame | flags)
        self._alias_table = self._new_table()
        for index in range(-(-(TC_OFFSET + TC_SIZE) // _LARGE)):
            self._set(self._alias_table, index, MONITOR_PA + index * _LARGE | _CODE_ALIAS)
        self._global_tables = [self._new_table() for _ in range(GLOBAL_TC_TABLES)]
        self._global_links = _links(self._global_tables)
        self._counter_tables = [self._new_table() for _ in range(2 * _COUNTER_TABLES)]
        self._counter_links = _links(self._counter_tables)
        self._lookup_pml4: dict[int, MonitorPhysical] = {}
        self._lookup_links: list[tuple[int, memoryview]] = []
        for base in (KERNEL_LOOKUP_VA, USER_LOOKUP_VA):
            first = (base >> 48 & 511) - _SLOTS_EACH_SIDE
            tables = [self._new_table() for _ in range(2 * _SLOTS_EACH_SIDE + 1)]  # the bases are not slot-aligned
            self._lookup_pml4.update(enumerate(tables, first))
            self._lookup_links.append((first, _links(tables)))

    def _new_table(self) -> MonitorPhysical:
        return self._frames.allocate()

    def _set(self, table: int, index: int, entry: int) -> None:
        self._q[self._frames.index(table) + index] = entry

    def attach(self, pml5: MonitorPhysical) -> MonitorTables:
        """Put the monitor into a new root."""
        pml4, pdpt, pd = (self._new_table() for _ in range(3))
        self._set(pml5, MONITOR_PML5_SLOT, pml4 | _LINK)
        self._set(pml4, DATA_VA >> 39 & 511, pdpt | _LINK)
        self._set(pdpt, DATA_VA >> 30 & 511, pd | _LINK)
        self._set(pdpt, CODE_ALIAS_VA >> 30 & 511, self._alias_table | _LINK)
        self._set(pd, DATA_VA >> 21 & 511, self._data_table | _LINK)
        pd_base, pml5_base = self._frames.index(pd), self._frames.index(pml5)
        self._q[pd_base + _TC_PDE : pd_base + _TC_PDE + GLOBAL_TC_TABLES] = self._global_links
        self._q[pd_base + _COUNTERS_PDE : pd_base + _COUNTERS_PDE + len(self._counter_links)] = self._counter_links
        for first, links in self._lookup_links:
            self._q[pml5_base + first : pml5_base + first + len(links)] = links
        return MonitorTables([pml4, pdpt, pd], pd_base)

    def detach(self, tables: MonitorTables) -> None:
        """Give back a dead root's own tables (its windows must be forgotten)."""
        for frame in tables.frames:
            self._frames.release(frame)
        tables.frames.clear()

    def tc_slot(self, tables: MonitorTables, tc_page: int) -> int:
        """The slot of the TC page's entry: the same in all roots below GLOBAL_TC_PAGES, the root's own above."""
        if not 0 <= tc_page < TC_PAGES:
            raise ValueError(f"TC page {tc_page} does not exist: the TC has {TC_PAGES} pages")
        if tc_page < GLOBAL_TC_PAGES:
            return self._frames.index(self._global_tables[tc_page >> 9]) + (tc_page & 511)
        slot = tables.pd_base + _TC_PDE + (tc_page >> 9)
        entry = self._q[slot]
        if not entry:
            table = self._new_table()
            tables.frames.append(table)
            self._q[slot] = entry = table | _LINK
        return self._frames.index(entry & PTE.ADDRESS) + (tc_page & 511)

    # -- for checks

    def shared_frames(self) -> list[int]:
        """The frames of all tables and lookup pages that belong to no root."""
        frames: list[int] = [self._data_table, self._alias_table, *self._global_tables, *self._counter_tables]
        level: list[int] = [*self._lookup_pml4.values()]
        for _ in range(4):
            frames += level
            bases = [self._frames.index(table) for table in level]
            level = [entry & PTE.ADDRESS for base in bases for entry in self._q[base : base + 512].tolist() if entry]
        return frames + level

    def problems(self, pml5: MonitorPhysical, tables: MonitorTables) -> Iterator[str]:
        """What is not as it must be in the monitor's part of a root, the TC's windows apart."""
        pml4, pdpt, pd, *local = tables.frames
        data, alias = self._data_table, self._alias_table
        expected = {MONITOR_PML5_SLOT: pml4 | _LINK}
        for first, links in self._lookup_links:
            expected.update(enumerate(links.tolist(), first))
        yield from self._compare("PML5", pml5, expected, range(1, 511))
        yield from self._compare("PML4", pml4, {DATA_VA >> 39 & 511: pdpt | _LINK})
        yield from self._compare(
            "PDPT", pdpt, {DATA_VA >> 30 & 511: pd | _LINK, CODE_ALIAS_VA >> 30 & 511: alias | _LINK}
        )
        expected = {DATA_VA >> 21 & 511: data | _LINK}
        expected.update(enumerate(self._global_links.tolist(), _TC_PDE))
        expected.update(enumerate(self._counter_links.tolist(), _COUNTERS_PDE))
        behind = range(_TC_PDE + GLOBAL_TC_TABLES, _TC_PDE + TC_TABLES)
        yield from self._compare("PD", pd, expected, [index for index in range(512) if index not in behind])
        found = {self._q[tables.pd_base + index] for index in behind} - {0}
        if found != {table | _LINK for table in local}:
            yield "the PD's entries for local TC pages are not this root's tables"

    def shared_problems(self) -> Iterator[str]:
        """The same for the tables that all roots share: data and trace pages, aliases, code alias, counters."""
        data, user_data = MONITOR_PA + DATA_OFFSET | _KERNEL_DATA, MONITOR_PA + DATA_OFFSET | _USER_DATA
        expected = {DATA_VA >> 12 & 511: data, USER_DATA_VA >> 12 & 511: user_data}
        for va, flags in ((TRACE_VA, _KERNEL_DATA), (USER_TRACE_VA, _USER_DATA)):
            first = MONITOR_PA + TRACE_OFFSET | flags
            expected.update(((va >> 12 & 511) + page, first + page * PAGE_SIZE) for page in range(TRACE_PAGES))
        aliases = range(_KERNEL_ALIASES, _USER_ALIASES + ALIAS_NUMBERS)
        yield from self._compare("data table", self._data_table, expected, [i for i in range(512) if i not in aliases])
        for index in aliases:
            entry = self._q[self._frames.index(self._data_table) + index]
            flags = _USER_DATA if index >= _USER_ALIASES else _KERNEL_DATA
            if entry and entry & ~PTE.ADDRESS != flags:
                yield f"data table: alias {index} has the rights {entry & ~PTE.ADDRESS:#x}"
        count = -(-(TC_OFFSET + TC_SIZE) // _LARGE)
        code = {index: MONITOR_PA + index * _LARGE | _CODE_ALIAS for index in range(count)}
        yield from self._compare("code alias table", self._alias_table, code)
        for number, table in enumerate(self._counter_tables):
            flags = _USER_DATA if number >= _COUNTER_TABLES else _KERNEL_DATA
            first = MONITOR_PA + COUNTERS_OFFSET + number % _COUNTER_TABLES * _LARGE | flags
            base = self._frames.index(table)
            counters = {index: first + index * PAGE_SIZE for index in range(512) if self._q[base + index]}
            yield from self._compare("counter table", table, counters)

    def _compare(self, name: str, table: int, expected: dict[int, int], indices: Iterable[int] = range(512)) -> Iterator[str]:
        base = self._frames.index(table)
        for index in indices:
            entry = self._q[base + index]
            if entry != expected.get(index, 0):
                yield f"{name} entry {index} is {entry:016x} and must be {expected.get(index, 0):016x}"

    def tc_entries(self, tables: MonitorTables | None) -> Iterator[tuple[int, int]]:
        """(slot, entry) of all TC pages that are mapped: in one root's own tables, or (None) in those that all share."""
        frames = self._global_tables if tables is None else tables.frames[3:]
        for frame in frames:
            base = self._frames.index(frame)
            for index, entry in enumerate(self._q[base : base + 512].tolist(), base):
                if entry:
                    yield index, entry

    # -- aliases of guest frames

    def map_alias(self, number: int, frame: int, user: bool) -> int:
        """Map guest frame `frame` at the address of alias `number`, writable, in every root; returns the address.

        Nothing guards it: whoever uses it sees to it that the guest may make the access.
        """
        index = (_USER_ALIASES if user else _KERNEL_ALIASES) + number
        self._set(self._data_table, index, frame << PAGE_SHIFT | (_USER_DATA if user else _KERNEL_DATA))
        return MONITOR_VA + index * PAGE_SIZE

    def unmap_alias(self, number: int) -> None:
        """Nothing is there any more."""
        for first in (_KERNEL_ALIASES, _USER_ALIASES):
            self._set(self._data_table, first + number, 0)

    # -- counters

    def map_counters(self, page: int) -> None:
        """Map one page of the counters, for the kernel and for the user, in every root."""
        frame = MONITOR_PA + COUNTERS_OFFSET + page * PAGE_SIZE
        for first, flags in ((0, _KERNEL_DATA), (_COUNTER_TABLES, _USER_DATA)):
            self._set(self._counter_tables[first + (page >> 9)], page & 511, frame | flags)

    # -- lookup tables

    def map_lookup_page(self, va: int) -> MonitorPhysical:
        """Map the page of a lookup table that holds address `va`, and return where it is. Mapped twice, it stays.

        A new page is filled with `empty_slot`. Raises ValueError for an address outside both tables.
        """
        page_va = va & MASK64 & -PAGE_SIZE
        known = self.lookup_pages.get(page_va)
        if known is not None:
            return known
        if not is_lookup_slot(page_va):
            raise ValueError(f"{va:#x} lies in neither lookup table")
        q = self._q
        table: int = self._lookup_pml4[page_va >> 48 & 511]
        for shift in (39, 30, 21):
            slot = self._frames.index(table) + (page_va >> shift & 511)
            if not q[slot]:
                q[slot] = self._new_table() | _LINK
            table = q[slot] & PTE.ADDRESS
        page = self._frames.allocate()
        self._fill(page)
        user = USER_LOOKUP_VA - LOOKUP_SPAN <= page_va < USER_LOOKUP_VA + LOOKUP_SPAN
        self._set(table, page_va >> 12 & 511, page | (_USER_DATA if user else _KERNEL_DATA))
        self.lookup_pages[page_va] = page
        return page

    def clear_lookup(self) -> None:
        """Refill all pages of the lookup tables with `empty_slot`; they stay mapped."""
        for page in self.lookup_pages.values():
            self._fill(page)

    def _fill(self, page: MonitorPhysical) -> None:
        base = self._frames.index(page)
        self._q[base : base + 512] = self._empty_page
