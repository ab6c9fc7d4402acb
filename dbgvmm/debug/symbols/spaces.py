"""Which address space a name belongs to: a user program's is good in one process only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NewType

from dbgvmm.hardware.memory import PhysicalMemory
from dbgvmm.hardware.paging import PTE
from dbgvmm.mmu.walk import PagingMode

Cr3 = NewType("Cr3", int)
"""A value of CR3. Its low bits (PCID, cache control) say nothing about which address space it is."""

_HALF: Final = 1 << 63
_LOWER_ENTRIES: Final = 256
_TABLE_SIZE: Final = 4096


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

    @classmethod
    def of_process(cls, ram: PhysicalMemory, cr3: int) -> AddressSpace:
        """That of a CR3 and, if the table beside it maps the same lower half, of that too: page-table isolation has a pair of
        tables for each process, 4 KiB apart."""
        table = cr3 & PTE.ADDRESS
        beside = table ^ _TABLE_SIZE
        own = _lower_half(ram, table)
        return cls.of(table, beside) if any(own) and own == _lower_half(ram, beside) else cls.of(table)

    def has(self, cr3: int, address: int) -> bool:
        """Whether a linear address, looked at under `cr3`, belongs to it."""
        return address < _HALF and cr3 & PTE.ADDRESS in self.roots

    def __str__(self) -> str:
        return f"cr3 {', '.join(f'{root:#x}' for root in sorted(self.roots))}"


def _lower_half(ram: PhysicalMemory, table: int) -> list[int]:
    return [entry & PTE.ADDRESS if entry & PTE.P else 0 for entry in ram.u64[table >> 3 : (table >> 3) + _LOWER_ENTRIES]]


class SpaceReader:
    """Reads memory at linear addresses of the address space of any CR3, as a debugger does."""

    def __init__(self, paging: PagingMode, ram: PhysicalMemory, cr3: int) -> None:
        self._paging = paging
        self._ram = ram
        self.cr3 = cr3

    def __call__(self, address: int, length: int) -> bytes:
        """As many of `length` bytes as there are without a gap."""
        parts: list[bytes] = []
        while length > 0 and 0 <= address < 1 << 64:
            report = self._paging.report(self.cr3, address)
            if report.gpa is None or report.gpa >= self._ram.size:
                break
            size = min(length, report.page_size - (address & report.page_size - 1), self._ram.size - report.gpa)
            parts.append(bytes(self._ram.bytes[report.gpa : report.gpa + size]))
            address += size
            length -= size
        return b"".join(parts)
