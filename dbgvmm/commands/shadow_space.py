"""A whole address space of the shadow: `shadow ranges`, `shadow diff`, `shadow large`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final

from dbgvmm.commands.columns import columns
from dbgvmm.commands.parameters import Address
from dbgvmm.commands.plural import several
from dbgvmm.commands.session import Session
from dbgvmm.commands.shadow import space
from dbgvmm.commands.table import command
from dbgvmm.hardware.layout import PAGE_SHIFT
from dbgvmm.mmu.differences import Difference, differences
from dbgvmm.mmu.inspect import ShadowRange, shadow_ranges
from dbgvmm.mmu.large import LargePage, large_pages
from dbgvmm.mmu.mappings import Limit
from dbgvmm.mmu.roots import Root

MOST_PAGES: Final = 1 << 19
"""Mappings that one command looks at: guest tables that name each other in circles have no end."""


def _title(root: Root) -> str:
    name = "paging off" if root.page is None else f"CR3 {root.page.gfn << PAGE_SHIFT:#x}"
    return f"{name}, root {root.pml5:#x}"


def _cut(cut: bool) -> list[str]:
    return [f"... cut after {MOST_PAGES:,} mappings: the guest's tables map the same again and again"] if cut else []


@dataclass(frozen=True)
class RangeReport:
    """What the shadow of an address space maps, lowest address first."""

    space: str
    ranges: tuple[ShadowRange, ...]
    cut: bool

    def __str__(self) -> str:
        rows = [
            (
                f"{x.start:#018x}", f"{x.end - 1:#018x}", f"{x.pages:,}",
                f"r{'w' if x.writable else '-'}{'x' if x.executable else '-'}",
                "user" if x.user else "kernel", "scattered" if x.physical is None else f"{x.physical:#x}",
            )
            for x in self.ranges
        ]  # fmt: skip
        table = columns(rows, ("from", "to", "pages", "", "for", "physical"), right=(2,))
        total = sum(x.pages for x in self.ranges)
        sum_line = f"{several(total, 'page')} in {several(len(rows), 'range')}"
        return "\n".join([self.space, *([table] if rows else []), *_cut(self.cut), sum_line])


@dataclass(frozen=True)
class DiffReport:
    """Where the shadow gives less than the guest's tables. pages: of 4 KiB, by state."""

    space: str
    differences: tuple[Difference, ...]
    pages: dict[str, int]
    cut: bool

    def __str__(self) -> str:
        rows = [
            (f"{x.start:#018x}", f"{x.end - 1:#018x}", f"{x.pages:,}", x.state, x.detail) for x in self.differences
        ]
        table = columns(rows, ("from", "to", "pages", "state", ""), right=(2,))
        total = ", ".join(f"{number:,} {state}" for state, number in self.pages.items())
        lines = [self.space, *([table] if rows else []), *_cut(self.cut)]
        return "\n".join([*lines, f"pages that the guest maps: {total or 'none'}"])


@dataclass(frozen=True)
class LargeReport:
    """The large pages of an address space. Neighbours with the same reasons are one row for people."""

    space: str
    pages: tuple[LargePage, ...]
    cut: bool

    def __str__(self) -> str:
        rows: list[tuple[str, str, str, str]] = []
        at = 0
        while at < len(self.pages):
            first, end = self.pages[at], at + 1
            while end < len(self.pages) and self._alike(self.pages[end - 1], self.pages[end]):
                end += 1
            size = f"{first.size >> 20} MiB" if first.size < 1 << 30 else f"{first.size >> 30} GiB"
            why = "; ".join(first.reasons) or "mapped as a whole"
            rows.append((f"{first.va:#018x}", f"{end - at} x {size}", f"{first.gpa:#x}", why))
            at = end
        split = sum(page.split for page in self.pages)
        table = columns(rows, ("from", "pages", "physical", "state"))
        end_line = f"{several(len(self.pages), 'large page')}, {split:,} with parts that are treated differently"
        return "\n".join([self.space, *([table] if rows else []), *_cut(self.cut), end_line])

    @staticmethod
    def _alike(one: LargePage, other: LargePage) -> bool:
        return (
            other.va == one.va + one.size and other.gpa == one.gpa + one.size and other.size == one.size
            and other.reasons == one.reasons
        )  # fmt: skip


@command("shadow ranges")
def shadow_ranges_command(session: Session, *, cr3: Address | None = None) -> RangeReport:
    """Show what the shadow of an address space maps, as ranges with the rights that the hardware gives.

    The current address space, or that of CR3. What the guest maps and the shadow does not (yet) is in `shadow diff`.

    For example:

        shadow ranges
        shadow ranges --cr3 cr3
    """
    root = space(session, cr3)
    limit = Limit(MOST_PAGES)
    found = tuple(shadow_ranges(session.machine.engine.frames, root, limit))
    return RangeReport(_title(root), found, limit.cut)


@command("shadow diff")
def shadow_diff(session: Session, *, cr3: Address | None = None, all: bool = False) -> DiffReport:
    """Show where the shadow of an address space gives less than the guest's tables, and why.

    Pending: not used since. Not accessed, clean: the guest's A or D bit is to be set first. Lazy: dropped when the guest wrote
    the entry. Traced, hidden: on purpose. ALL shows ranges that are in step too. The shadow never gives more: `shadow check`.

    For example:

        shadow diff
        shadow diff --all
    """
    root = space(session, cr3)
    limit = Limit(MOST_PAGES)
    found = tuple(differences(session.machine.mmu, root, limit, all_pages=True, name=session.name))
    pages: Counter[str] = Counter()
    for item in found:
        pages[item.state] += item.pages
    shown = tuple(item for item in found if all or item.state != "in step")
    return DiffReport(_title(root), shown, dict(pages.most_common()), limit.cut)


@command("shadow large")
def shadow_large(session: Session, *, cr3: Address | None = None, split: bool = False) -> LargeReport:
    """Show the guest's large pages, and which parts of them are treated differently and why.

    Traced frames, a border between RAM and MMIO, a D bit that is to be set. SPLIT shows only those with such parts. Nothing is
    ever broken up: 2 MiB of a large page are one region table, in which single frames are write-protected.

    For example:

        shadow large
        shadow large --split
    """
    root = space(session, cr3)
    limit = Limit(MOST_PAGES)
    found = tuple(page for page in large_pages(session.machine.mmu, root, limit) if page.split or not split)
    return LargeReport(_title(root), found, limit.cut)
