"""Ranges of the guest's address space and what may be done there, out of its page tables: for lldb's `memory region`,
and the map of memory that gdb gets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dbgvmm.mmu.linear import NotMapped
from gdbstub import MemoryKind, MemoryRegion, Region

if TYPE_CHECKING:
    from dbgvmm.machine import Machine

_UPPER_HALF: Final = 0xFFFF_8000_0000_0000
_LOWER_END: Final = 0x0000_8000_0000_0000
_SPANS: Final = (1 << 39, 1 << 30, 1 << 21, 1 << 12)
"""What one entry maps, from the top level down (SDM vol. 3A, 4.5)."""


MEMORY_MAP: Final = (
    MemoryRegion(MemoryKind.RAM, 0, 1 << 63),
    MemoryRegion(MemoryKind.RAM, 1 << 63, 1 << 63),
)
"""What gdb is told of memory. It refuses to touch what a map leaves out, and asks for the map only once, while linear
addresses come and go with page tables: so all of them are RAM, and whether one can be read is found out by reading it."""


def region_at(machine: Machine, address: int) -> Region:
    """The page (or the hole that one absent entry makes) around `address`."""
    try:
        report = machine.memory.translate(address)
    except NotMapped:
        return Region(_LOWER_END, _UPPER_HALF - _LOWER_END)
    if report.gpa is None:
        span = _SPANS[max(len(report.levels) - 1, 0)]
        return Region(address & -span, span)
    span = report.page_size
    permissions = "r" + ("w" if report.writable else "") + ("x" if report.executable else "")
    return Region(address & -span, span, permissions)
