"""Which address space a name belongs to: a user program's is good in one process only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NewType

from dbgvmm.hardware.paging import PTE

Cr3 = NewType("Cr3", int)
"""A value of CR3. Its low bits (PCID, cache control) say nothing about which address space it is."""

_HALF: Final = 1 << 63


@dataclass(frozen=True)
class AddressSpace:
    """The lower half of one process' linear addresses.

    roots: physical addresses of the top-level tables that count as this one; two where the kernel has a table of its own for
    each process (Linux' page-table isolation).
    """

    roots: frozenset[int]

    @classmethod
    def of(cls, *values: int) -> AddressSpace:
        """The address space of these values of CR3."""
        return cls(frozenset(value & PTE.ADDRESS for value in values))

    def has(self, cr3: int, address: int) -> bool:
        """Whether a linear address, looked at under `cr3`, belongs to it."""
        return address < _HALF and cr3 & PTE.ADDRESS in self.roots

    def __str__(self) -> str:
        return f"cr3 {', '.join(f'{root:#x}' for root in sorted(self.roots))}"
