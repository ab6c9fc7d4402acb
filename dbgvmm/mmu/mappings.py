"""Everything that the guest's page tables map, entry by entry, as its CPU would read them (Intel SDM vol. 3A, 4.5)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from dbgvmm.hardware.memory import PhysicalMemory
from dbgvmm.hardware.paging import PTE

MOST_MAPPINGS: Final = 1 << 22
"""Tables that map themselves over and over would never come to an end."""
_ENTRIES: Final = 512
_ADDRESS_BITS: Final = 48
_LEVELS: Final = (39, 30, 21, 12)
_LARGE: Final = (30, 21)


class Mapping(NamedTuple):
    """One leaf entry: `size` bytes at linear `va` are at guest-physical `gpa`. `rights` are W and U as all levels allow
    them together."""

    va: int
    gpa: int
    size: int
    entry: int
    rights: int


class Limit:
    """How many things a search may look at; `cut` says that there were more."""

    def __init__(self, most: int) -> None:
        self.left = most
        self.cut = False

    def take(self) -> bool:
        """One more: False if that is too many."""
        self.left -= 1
        self.cut = self.cut or self.left < 0
        return not self.cut


def mappings(ram: PhysicalMemory, cr3: int, reserved: int) -> Iterator[Mapping]:
    """The mappings of the tables at `cr3`, lowest address first, MOST_MAPPINGS at most.

    reserved: bits that make an entry fault. What lies outside RAM, or could only fault, is left out.
    """
    for found, mapping in enumerate(_table(ram.u64, cr3 & PTE.ADDRESS, 0, 0, PTE.W | PTE.U, reserved)):
        if found == MOST_MAPPINGS:
            return
        yield mapping


def _table(words: memoryview, table: int, level: int, base: int, rights: int, reserved: int) -> Iterator[Mapping]:
    shift = _LEVELS[level]
    first = table >> 3
    for index, entry in enumerate(words[first : first + _ENTRIES]):
        if not entry & PTE.P or entry & reserved:
            continue
        va = base | index << shift
        if not level and index >= _ENTRIES // 2:
            va |= -1 << _ADDRESS_BITS & (1 << 64) - 1
        allowed = rights & entry
        large = shift in _LARGE and entry & PTE.PS
        if shift == _LEVELS[-1] or large:
            size = 1 << shift
            if large and entry & (size - 1) & PTE.ADDRESS & ~PTE.LARGE_PAT:
                continue
            yield Mapping(va, entry & PTE.ADDRESS & -size, size, entry, allowed)
        elif shift != _LEVELS[0] or not entry & PTE.PS:
            yield from _table(words, entry & PTE.ADDRESS, level + 1, va, allowed, reserved)
