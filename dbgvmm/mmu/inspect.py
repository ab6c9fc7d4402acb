"""The shadow as the hardware would walk it, for people and tests: one address, and a whole address space."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from dbgvmm.hardware.layout import MASK64, MONITOR_PA, MONITOR_SIZE, PAGE_SHIFT
from dbgvmm.hardware.memory import FramePool
from dbgvmm.hardware.paging import PTE
from dbgvmm.mmu.mappings import Limit
from dbgvmm.mmu.roots import Root

LEVELS: Final = ("PML5E", "PML4E", "PDPTE", "PDE", "PTE")
_SHIFTS: Final = (48, 39, 30, 21, 12)
_RIGHTS: Final = PTE.W | PTE.U


@dataclass(frozen=True)
class ShadowLevel:
    """One step of the hardware's walk: the table's physical address, the index, the entry."""

    name: str
    table: int
    index: int
    entry: int


@dataclass(frozen=True)
class ShadowTranslation:
    """What the hardware finds: the physical address, the combined rights, and the five entries (PML5 first)."""

    physical: int
    writable: bool
    user: bool
    executable: bool
    entries: tuple[int, ...]


class ShadowLeaf(NamedTuple):
    """A 4 KiB page that the shadow maps. `rights`: W and U of all levels together; NX if one level has it."""

    va: int
    physical: int
    rights: int


@dataclass(frozen=True)
class ShadowRange:
    """Pages in a row with the same rights. physical: of the first page, if all follow each other there too, else None."""

    start: int
    end: int
    physical: int | None
    writable: bool
    user: bool
    executable: bool

    @property
    def pages(self) -> int:
        """How many."""
        return self.end - self.start >> PAGE_SHIFT


def shadow_levels(frames: FramePool, root: int, va: int) -> tuple[ShadowLevel, ...]:
    """The entries that the hardware reads for `va`, from the root at physical address `root` to the leaf or to the first
    one that is not present.

    Raises ValueError if a table entry leads outside the monitor's memory: a broken shadow.
    """
    table = root
    levels: list[ShadowLevel] = []
    for name, shift in zip(LEVELS, _SHIFTS, strict=True):
        if not MONITOR_PA <= table < MONITOR_PA + MONITOR_SIZE:
            raise ValueError(f"the shadow of {va:#x} has a table at {table:#x}, outside the monitor's memory")
        index = va >> shift & 511
        entry = frames.u64[frames.index(table) + index]
        levels.append(ShadowLevel(name, table, index, entry))
        if not entry & PTE.P:
            break
        table = entry & PTE.ADDRESS
    return tuple(levels)


def shadow_walk(frames: FramePool, root: int, va: int) -> ShadowTranslation | None:
    """Walk the 5-level tables at physical address `root`; None if `va` is not mapped. Raises ValueError as above."""
    levels = shadow_levels(frames, root, va)
    if not levels[-1].entry & PTE.P:
        return None
    rights, forbidden = _RIGHTS, 0
    for level in levels:
        rights &= level.entry
        forbidden |= level.entry
    return ShadowTranslation(
        levels[-1].entry & PTE.ADDRESS | va & 0xFFF, bool(rights & PTE.W), bool(rights & PTE.U), not forbidden & PTE.NX,
        tuple(level.entry for level in levels),
    )  # fmt: skip


def shadow_leaves(frames: FramePool, root: Root, limit: Limit) -> Iterator[ShadowLeaf]:
    """Every page of the guest's that the root maps, lowest address first, up to `limit` (shadow pages may be shared and
    hang in each other many times)."""
    q = frames.u64
    pml5 = frames.index(root.pml5)

    def table(address: int, level: int, va: int, rights: int, forbidden: int) -> Iterator[ShadowLeaf]:
        base = frames.index(address)
        shift = _SHIFTS[level]
        for index, entry in enumerate(q[base : base + 512].tolist()):
            if not entry & PTE.P:
                continue
            at = va | index << shift
            allowed, denied = rights & entry, forbidden | entry & PTE.NX
            if shift != PAGE_SHIFT:
                yield from table(entry & PTE.ADDRESS, level + 1, at, allowed, denied)
            else:
                if not limit.take():
                    return
                yield ShadowLeaf(at & MASK64, entry & PTE.ADDRESS, allowed | denied)
            if limit.cut:
                return

    for slot in (0, 511):
        entry = q[pml5 + slot]
        if entry & PTE.P:
            yield from table(entry & PTE.ADDRESS, 1, slot << 48 & MASK64 | (0xFE << 56 if slot else 0), _RIGHTS, 0)


def shadow_ranges(frames: FramePool, root: Root, limit: Limit) -> Iterator[ShadowRange]:
    """The same as ranges."""
    start = end = physical = rights = 0
    linear = True
    for leaf in shadow_leaves(frames, root, limit):
        if leaf.va == end and leaf.rights == rights and end:
            linear = linear and leaf.physical - physical == leaf.va - start
        else:
            if end:
                yield _range(start, end, physical if linear else None, rights)
            start, physical, rights, linear = leaf.va, leaf.physical, leaf.rights, True
        end = leaf.va + (1 << PAGE_SHIFT)
    if end:
        yield _range(start, end, physical if linear else None, rights)


def _range(start: int, end: int, physical: int | None, rights: int) -> ShadowRange:
    return ShadowRange(start, end, physical, bool(rights & PTE.W), bool(rights & PTE.U), not rights & PTE.NX)
