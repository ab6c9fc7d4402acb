"""Where the shadow says less than the guest's tables, and why.

A shadow is a cache: what it lacks is filled in by a hidden fault, or withheld on purpose. For each page that the guest maps,
exactly one of these holds:

    in step        the shadow gives all that the guest's tables give
    pending        the guest has not used the page since its tables were shadowed
    not accessed   the guest's A bit is clear: the first access has to set it
    lazy           its entry was written, and dropped rather than validated (validate="lazy", or the guest cleared A)
    clean          writable, and the guest's D bit is clear: the first write has to set it
    traced         writable, and write-protected on purpose: a page table, translated code, a watchpoint
    hidden         not mapped on purpose: a watchpoint that wants reads too
    untraced       writable, no trace is left, and the next write will find that out
    flipped        CR0.WP=0: mapped for the kernel's last write, not for the user, or the other way round
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from dbgvmm.hardware.layout import MASK64, PAGE_SHIFT, PAGE_SIZE
from dbgvmm.hardware.paging import PTE
from dbgvmm.mmu.access import FRAME_MASK
from dbgvmm.mmu.inspect import shadow_levels
from dbgvmm.mmu.mappings import Limit, Mapping, mappings
from dbgvmm.mmu.mmu import ShadowMmu
from dbgvmm.mmu.roots import Root
from dbgvmm.mmu.trace_kinds import HIDE, trace_words
from dbgvmm.mmu.writers import NOBODY

IN_STEP: Final = "in step"
PENDING: Final = "pending"
NOT_ACCESSED: Final = "not accessed"
LAZY: Final = "lazy"
CLEAN: Final = "clean"
TRACED: Final = "traced"
HIDDEN: Final = "hidden"
UNTRACED: Final = "untraced"
FLIPPED: Final = "flipped"


@dataclass(frozen=True)
class Difference:
    """Pages in a row that are alike. state: one of the words above. detail: what the trace is for, who dropped the entry."""

    start: int
    end: int
    state: str
    detail: str

    @property
    def pages(self) -> int:
        """How many pages of 4 KiB."""
        return self.end - self.start >> PAGE_SHIFT


class _Space:
    def __init__(self, mmu: ShadowMmu, root: Root, name: Callable[[int], str]) -> None:
        self._name = name
        self._mmu = mmu
        self._root = root
        self._q = mmu.engine.frames.u64
        self._frames = mmu.engine.frames
        self._traced = mmu.traces.kinds
        self._table_va = -1
        self._table = 0
        self._above = 0

    def pieces(self, mapping: Mapping) -> Iterator[tuple[int, int, str, str]]:
        """(start, end, state, detail) of the parts of one guest mapping."""
        if mapping.size == PAGE_SIZE:
            yield (mapping.va, mapping.va + PAGE_SIZE, *self.page(mapping.va, mapping.gpa, mapping))
            return
        region = 1 << 21
        for offset in range(0, mapping.size, region):
            va, gpa = mapping.va + offset, mapping.gpa + offset
            if not self._page_table(va):
                yield (va, va + region, *self._absent(mapping, va))
                continue
            frames = range(gpa >> PAGE_SHIFT, gpa + region >> PAGE_SHIFT)
            if not mapping.rights & PTE.W and not self._root.key[1] and not any(frame in self._traced for frame in frames):
                yield va, va + region, IN_STEP, ""
                continue
            for page, frame in zip(range(va, va + region, PAGE_SIZE), frames, strict=True):
                yield (page, page + PAGE_SIZE, *self.page(page, frame << PAGE_SHIFT, mapping))

    def _page_table(self, va: int) -> bool:
        """Whether there is a shadow page table for `va`; it and the rights above it are noted."""
        if va >> 21 != self._table_va:
            levels = shadow_levels(self._frames, self._root.pml5, va)
            self._table_va = va >> 21
            self._table = self._frames.index(levels[-1].table) if len(levels) == 5 else 0
            self._above = PTE.W | PTE.U
            for level in levels[:-1]:
                self._above &= level.entry
        return self._table != 0

    def page(self, va: int, gpa: int, mapping: Mapping) -> tuple[str, str]:
        """State and detail of one page of 4 KiB of a mapping."""
        kinds = self._traced.get(gpa >> PAGE_SHIFT & FRAME_MASK, 0)
        entry = self._q[self._table + (va >> PAGE_SHIFT & 511)] if self._page_table(va) else 0
        if not entry & PTE.P:
            return (HIDDEN, trace_words(kinds)) if kinds & HIDE else self._absent(mapping, va)
        found = entry & self._above
        # A supervisor's page is writable whatever W says, if CR0.WP=0.
        wp0 = bool(self._root.key[1])
        if wp0 and mapping.rights & PTE.U and not found & PTE.U:
            return FLIPPED, "mapped for the kernel's write"
        writable = mapping.rights & PTE.W or wp0 and not mapping.rights & PTE.U
        if not writable or found & PTE.W:
            return IN_STEP, ""
        if kinds:
            return TRACED, trace_words(kinds)
        return (UNTRACED, "") if mapping.entry & PTE.D else (CLEAN, "")

    def _absent(self, mapping: Mapping, va: int) -> tuple[str, str]:
        if not mapping.entry & PTE.A:
            return NOT_ACCESSED, ""
        report = self._mmu.report_in(self._root, va)
        if report.levels and report.gpa is not None:
            written = self._mmu.writers.last(report.levels[-1].entry_gpa)
            if written is not None:
                by = "the monitor" if written.rip == NOBODY else self._name(written.rip)
                return LAZY, f"entries written by {by}"
        return PENDING, ""


def differences(
    mmu: ShadowMmu, root: Root, limit: Limit, *, all_pages: bool = False, name: Callable[[int], str] = hex
) -> Iterator[Difference]:
    """What the guest maps in a root's address space and the shadow gives less of; with `all_pages`, what is in step too.

    Nothing for paging off. Guest tables that name each other in circles are followed for `limit` mappings.
    name: how to call a guest instruction.
    """
    if root.page is None:
        return
    space = _Space(mmu, root, name)
    start = end = -1
    state = detail = ""
    for mapping in mappings(mmu.ram, root.page.gfn << PAGE_SHIFT, mmu.reserved):
        if not limit.take():
            break
        for low, high, now, why in space.pieces(mapping):
            if low == end and (now, why) == (state, detail):
                end = high
                continue
            if start >= 0 and (all_pages or state != IN_STEP):
                yield Difference(start, end & MASK64, state, detail)
            start, end, state, detail = low, high, now, why
    if start >= 0 and (all_pages or state != IN_STEP):
        yield Difference(start, end & MASK64, state, detail)





def state_of(mmu: ShadowMmu, root: Root, va: int, name: Callable[[int], str] = hex) -> Difference | None:
    """The same for the page at one address; None if the guest does not map it (or paging is off)."""
    report = mmu.report_in(root, va)
    if report.gpa is None or not report.levels:
        return None
    rights = (PTE.W if report.writable else 0) | (PTE.U if report.user else 0)
    size = report.page_size
    mapping = Mapping(va & -size, report.gpa & -size, size, report.levels[-1].entry, rights)
    page, gpa = va & -PAGE_SIZE, report.gpa & -PAGE_SIZE
    state, detail = _Space(mmu, root, name).page(page, gpa, mapping)
    return Difference(page, page + PAGE_SIZE & MASK64, state, detail)
