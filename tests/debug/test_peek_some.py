"""Memory as the stub reads it: as much as there is, by the guest's own pages."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dbgvmm import Machine
from dbgvmm.debug.gdb_target import GdbTarget
from dbgvmm.hardware.paging import PTE
from dbgvmm.mmu.linear import NotMapped
from gdbstub import ONLY_THREAD, MemoryFault

BootedMachine = Callable[..., Machine]
KMAIN = 0x106000
FIRST_GIB_PD = 0x104000
"""hello's page directory of 2 MiB pages."""


@pytest.fixture
def paged(booted: BootedMachine) -> Machine:
    """hello at kmain, in 64-bit mode."""
    machine = booted("hello")
    machine.breakpoints.add(KMAIN)
    machine.run()
    return machine


def test_a_long_read_is_the_bytes_one_by_one_across_large_pages(paged: Machine) -> None:
    start = 0x3F_F000
    paged.ram.bytes[start : start + 0x2000] = bytes(range(256)) * 32
    assert paged.memory.peek_some(start, 0x2000) == paged.memory.peek(start, 0x2000) == bytes(range(256)) * 32


def test_a_read_ends_where_a_page_is_missing(paged: Machine) -> None:
    entry = FIRST_GIB_PD + 8 * 2
    old = paged.ram.u64[entry >> 3]
    paged.mmu.guest_write(entry, (old & ~PTE.P).to_bytes(8, "little"))
    assert len(paged.memory.peek_some(0x3F_FFF0, 64)) == 16
    with pytest.raises(NotMapped):
        paged.memory.peek(0x3F_FFF0, 64)
    with pytest.raises(NotMapped):
        paged.memory.peek_some(0x40_0000, 1)


def test_a_read_ends_where_ram_ends_within_a_large_page(paged: Machine) -> None:
    end = paged.ram.size
    assert len(paged.memory.peek_some(end - 16, 64)) == 16
    target = GdbTarget(paged)
    with pytest.raises(MemoryFault, match="not RAM"):
        target.read_memory(ONLY_THREAD, end, 1)
    with pytest.raises(NotMapped):
        paged.memory.poke(end - 2, b"abcd")
    assert paged.memory.peek(end - 2, 2) == bytes(2)


def test_a_large_page_may_map_other_frames(paged: Machine) -> None:
    entry = FIRST_GIB_PD + 8 * 3
    old = paged.ram.u64[entry >> 3]
    paged.mmu.guest_write(entry, (old & 0x1FFFFF | 0x80_0000).to_bytes(8, "little"))
    paged.ram.bytes[0x80_1234:0x80_1238] = b"here"
    assert paged.memory.peek_some(0x60_1234, 4) == b"here"
