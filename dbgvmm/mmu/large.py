"""The guest's large pages, and what keeps one from being mapped as a whole.

Nothing is ever split here: each 2 MiB of a large page is mapped by its region table, in which single frames are
write-protected (regions.py). What people call split are the pages of which some part is treated differently, and why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from dbgvmm.hardware.layout import PAGE_SHIFT
from dbgvmm.hardware.paging import PTE
from dbgvmm.mmu.inspect import shadow_levels
from dbgvmm.mmu.mappings import Limit, mappings
from dbgvmm.mmu.mmu import ShadowMmu
from dbgvmm.mmu.roots import Root
from dbgvmm.mmu.trace_kinds import trace_words

_REGION: Final = 1 << 21


@dataclass(frozen=True)
class LargePage:
    """One large page of the guest's. mapped: how many of its regions of 2 MiB the shadow maps.

    traced: frames that are write-protected, by reason. outside_ram: bytes of it that are MMIO or nothing. clean: no write
    is let through until the guest's D bit is set. read_only: the guest's own tables allow no write.
    """

    va: int
    gpa: int
    size: int
    mapped: int
    traced: dict[str, int]
    outside_ram: int
    clean: bool
    read_only: bool

    @property
    def split(self) -> bool:
        """Whether some part of it is treated differently from the rest."""
        return bool(self.traced) or 0 < self.outside_ram < self.size

    @property
    def reasons(self) -> tuple[str, ...]:
        """What is special about it, in words."""
        words = [f"{count} frames traced ({why})" for why, count in self.traced.items()]
        if self.outside_ram == self.size:
            words.append("not RAM: MMIO or nothing")
        elif self.outside_ram:
            words.append(f"RAM ends within it: {self.outside_ram >> 10} KiB are MMIO or nothing")
        if self.read_only:
            words.append("read-only to the guest")
        elif self.clean:
            words.append("not written yet: the first write sets D")
        regions = self.size // _REGION
        if self.mapped < regions:
            words.append("not in the shadow yet" if not self.mapped else f"{self.mapped} of {regions} regions in the shadow")
        return tuple(words)


def large_pages(mmu: ShadowMmu, root: Root, limit: Limit) -> Iterator[LargePage]:
    """The large pages of an address space, lowest first, out of `limit` mappings of any size. Nothing for paging off."""
    if root.page is None:
        return
    size = mmu.ram.size
    by_region: dict[int, Counter[str]] = {}
    for frame, kinds in mmu.traces.kinds.items():
        by_region.setdefault(frame >> 9, Counter())[trace_words(kinds)] += 1
    for mapping in mappings(mmu.ram, root.page.gfn << PAGE_SHIFT, mmu.reserved):
        if not limit.take():
            return
        if mapping.size < _REGION:
            continue
        traced: Counter[str] = Counter()
        mapped = 0
        for offset in range(0, mapping.size, _REGION):
            traced.update(by_region.get(mapping.gpa + offset >> 21, {}))
            levels = shadow_levels(mmu.engine.frames, root.pml5, mapping.va + offset)
            mapped += len(levels) == 5
        outside = min(mapping.size, max(0, mapping.gpa + mapping.size - size))
        read_only = not mapping.rights & PTE.W
        yield LargePage(
            mapping.va, mapping.gpa, mapping.size, mapped, dict(sorted(traced.items())), outside,
            not read_only and not mapping.entry & PTE.D, read_only,
        )  # fmt: skip


__all__ = ["LargePage", "large_pages"]
