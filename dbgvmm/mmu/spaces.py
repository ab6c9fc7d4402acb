"""The shadow's address spaces, for people: which roots there are, how old and how big they are."""

from __future__ import annotations

from dataclasses import dataclass

from dbgvmm.hardware.layout import PAGE_SHIFT
from dbgvmm.hardware.paging import PTE
from dbgvmm.mmu.mmu import ShadowMmu
from dbgvmm.mmu.pages import POOL_OFFSET, ShadowPage
from dbgvmm.mmu.roots import IDENTITY, Root


@dataclass(frozen=True)
class RootInfo:
    """A root. cr3: its guest table's address; None: the one for paging off. number: 1 for the first that was made.

    wp: made for CR0.WP=1. born: the instruction count when it was made; recency: 0 for the one used last. tables: shadow
    pages that hang on it, `shared` of them on others too. mapped: leaf entries in those that are page tables.
    """

    root: int
    cr3: int | None
    wp: bool
    number: int
    born: int
    recency: int
    current: bool
    tables: int
    shared: int
    mapped: int
    windows: int


@dataclass(frozen=True)
class EvictedInfo:
    """A root that was given back: its CR3 (None: paging off), and the instruction counts of its life."""

    cr3: int | None
    number: int
    born: int
    died: int


def root_of(mmu: ShadowMmu, cr3: int | None) -> Root:
    """The root of the address space of `cr3`, the current one for None. Raises LookupError with one line for people."""
    if cr3 is None:
        return mmu.current
    gfn = (cr3 & PTE.ADDRESS) >> PAGE_SHIFT
    role = mmu.current.key[1]
    roots = mmu.roots.by_key
    root = roots.get((gfn, role)) or next((root for key, root in roots.items() if key[0] == gfn), None)
    if root is None:
        evicted = any(gone.gfn == gfn for gone in mmu.roots.evicted)
        state = "its shadow was given back" if evicted else "it was never loaded into CR3"
        raise LookupError(f"there is no shadow of CR3 {gfn << PAGE_SHIFT:#x}: {state}; `shadow roots` lists them")
    return root


def _below(mmu: ShadowMmu, root: Root) -> list[ShadowPage]:
    """The shadow pages that hang on a root, each once, its own at first."""
    if root.page is None:
        return []
    q, by_base = mmu.engine.frames.u64, mmu.pages.by_base
    seen: dict[int, ShadowPage] = {root.page.key: root.page}
    pending = [root.page]
    while pending:
        page = pending.pop()
        if page.level == 1:
            continue
        halves = ((page.base, 0, 512),) if page.base == page.high else ((page.base, 0, 256), (page.high, 256, 512))
        for base, first, end in halves:
            for entry in q[base + first : base + end].tolist():
                child = by_base.get((entry & POOL_OFFSET) >> 3) if entry & PTE.P else None
                if child is not None and child.key not in seen and child.address == entry & PTE.ADDRESS:
                    seen[child.key] = child
                    pending.append(child)
    return list(seen.values())


def root_infos(mmu: ShadowMmu) -> list[RootInfo]:
    """All roots, the one that was used last first."""
    below = {root.number: _below(mmu, root) for root in mmu.roots.by_key.values()}
    uses: dict[int, int] = {}
    for pages in below.values():
        for page in pages:
            uses[page.key] = uses.get(page.key, 0) + 1
    q = mmu.engine.frames.u64
    filled = {
        page.key: 512 - q[page.base : page.base + 512].tolist().count(0)
        for pages in below.values() for page in pages if page.level == 1
    }  # fmt: skip
    found = []
    for recency, root in enumerate(reversed(mmu.roots.by_key.values())):
        pages = below[root.number]
        gfn, role = root.key
        found.append(RootInfo(
            root.pml5, None if gfn == IDENTITY else gfn << PAGE_SHIFT, not role, root.number, root.born, recency,
            root is mmu.current, len(pages), sum(uses[page.key] > 1 for page in pages),
            sum(filled.get(page.key, 0) for page in pages),
            sum(window.tables is root.monitor for window in mmu.windows.open.values()),
        ))  # fmt: skip
    return found


def evicted_infos(mmu: ShadowMmu) -> list[EvictedInfo]:
    """The last roots that were given back, oldest first."""
    return [
        EvictedInfo(None if gone.gfn == IDENTITY else gone.gfn << PAGE_SHIFT, gone.number, gone.born, gone.died)
        for gone in mmu.roots.evicted
    ]
