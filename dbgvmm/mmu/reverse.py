"""The reverse direction, for people: at which linear addresses a shadow entry or a guest frame is found.

Guest tables may be shared, map themselves, or form circles, so that one frame has more addresses than anybody wants to
see: every search here goes through each table once per level, and stops at a number of results.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from dbgvmm.hardware.layout import MASK64, PAGE_SHIFT
from dbgvmm.hardware.paging import PTE
from dbgvmm.mmu.mmu import ShadowMmu
from dbgvmm.mmu.pages import TOP, ShadowPage
from dbgvmm.mmu.roots import IDENTITY

MOST: Final = 4096
"""Addresses that one search returns."""
_MISALIGNED: Final = {2: 0x1F_E000, 3: 0x3FFF_E000}


@dataclass(frozen=True)
class Place:
    """A linear address in the address space of a CR3 (its table's guest-physical address; -1: paging off)."""

    cr3: int
    va: int


@dataclass(frozen=True)
class GuestMapping:
    """A leaf entry of the guest's, at guest-physical `entry_gpa`, that maps a frame: at `va`, as part of a page of `size`."""

    cr3: int
    va: int
    size: int
    entry_gpa: int
    entry: int


@dataclass(frozen=True)
class ShadowMapping:
    """A shadow entry that maps a frame. large: it belongs to a region table, which every large page of the region links to
    (`places` is then empty)."""

    slot: int
    entry: int
    large: bool
    places: tuple[Place, ...]


def canonical(va: int) -> int:
    """48 bits of an address, with the sign that belongs to them."""
    return va & MASK64 | (0xFFFF << 48 if va >> 47 & 1 else 0)


def places_of(mmu: ShadowMmu, slot: int, limit: int = MOST) -> list[Place]:
    """Where a slot of a shadow page stands, in all roots; `limit` places at most."""
    found: list[Place] = []
    pending = [(slot, 0)]
    while pending and len(found) < limit:
        slot, offset = pending.pop()
        page, index = page_of(mmu, slot)
        if page is None:
            continue
        va = index << PAGE_SHIFT + 9 * (page.level - 1) | offset
        if page.level == TOP:
            found.append(Place(page.gfn << PAGE_SHIFT, canonical(va)))
        else:
            pending += [(parent, va) for parent in sorted(page.parents)]
    return sorted(found, key=lambda place: (place.cr3, place.va))


def page_of(mmu: ShadowMmu, slot: int) -> tuple[ShadowPage | None, int]:
    """The shadow page that a slot belongs to, and the index of its entry in the guest's table."""
    base = slot & ~511
    page = mmu.pages.by_base.get(base)
    if page is not None:
        return page, slot & 511
    for root in mmu.roots.by_key.values():
        if root.page is not None and base in (root.low, root.high):
            return root.page, slot & 511
    return None, 0


def shadow_mappings(mmu: ShadowMmu, frame: int, limit: int = MOST) -> list[ShadowMapping]:
    """Every shadow leaf that maps the frame now, as the reverse map and the region tables know them."""
    q = mmu.engine.frames.u64
    found = [ShadowMapping(slot, q[slot], False, tuple(places_of(mmu, slot, limit))) for slot in mmu.rmap.live(frame)]
    region = mmu.regions.slot(frame)
    if region >= 0 and q[region]:
        found.append(ShadowMapping(region, q[region], True, ()))
    return found


class FrameSearch:
    """Finds a frame in guest tables. A table is looked through once at each level, however many tables name it."""

    def __init__(self, mmu: ShadowMmu, frame: int, limit: int = MOST) -> None:
        self._words = mmu.ram.u64
        self._reserved = mmu.reserved
        self._frame = frame
        self._limit = limit
        self._known: dict[tuple[int, int], list[tuple[int, int, int, int]]] = {}
        self.cut = False
        """Whether there is more than was returned."""

    def _table(self, table: int, level: int) -> list[tuple[int, int, int, int]]:
        """(offset from the table's first address, page size, entry's gpa, entry) of what maps the frame below a table."""
        known = self._known.get((table, level))
        if known is not None:
            return known
        found = self._known[table, level] = []
        shift = PAGE_SHIFT + 9 * (level - 1)
        size = 1 << shift
        first = table >> 3
        wanted = self._frame << PAGE_SHIFT
        for index, entry in enumerate(self._words[first : first + 512].tolist()):
            if not entry & PTE.P or entry & self._reserved or level == TOP and entry & PTE.PS:
                continue
            offset = index << shift
            if level == 1 or level < TOP and entry & PTE.PS:
                start = entry & PTE.ADDRESS & -size
                if start <= wanted < start + size and not entry & _MISALIGNED.get(level, 0):
                    found.append((offset | wanted - start, size, table + 8 * index, entry))
            else:
                below = self._table(entry & PTE.ADDRESS, level - 1)
                found += [(offset | inner, *rest) for inner, *rest in below[: self._limit - len(found)]]  # type: ignore[misc]
            if len(found) >= self._limit:
                self.cut = True
                break
        return found

    def in_space(self, cr3: int) -> list[GuestMapping]:
        """The mappings in the address space of top-level table `cr3`."""
        return [GuestMapping(cr3, canonical(va), *rest) for va, *rest in self._table(cr3 & PTE.ADDRESS, TOP)]


def guest_mappings(mmu: ShadowMmu, frame: int, spaces: Iterable[int], limit: int = MOST) -> tuple[list[GuestMapping], bool]:
    """What maps the frame in these address spaces (CR3s); and whether some were left out because there are so many."""
    search = FrameSearch(mmu, frame, limit)
    found: list[GuestMapping] = []
    for cr3 in spaces:
        found += search.in_space(cr3)
        if len(found) >= limit:
            return found[:limit], True
    return found, search.cut


def known_spaces(mmu: ShadowMmu) -> list[int]:
    """The CR3s of all roots, the current one first."""
    gfns = dict.fromkeys(gfn for gfn, _ in [mmu.current.key, *mmu.roots.by_key] if gfn != IDENTITY)
    return [gfn << PAGE_SHIFT for gfn in gfns]
