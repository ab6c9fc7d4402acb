"""All registers at once are the same as one by one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dbgvmm import Machine
from dbgvmm.debug.gdb_layouts import LONG, PROTECTED, Layout
from dbgvmm.debug.gdb_registers import GeneralRegisters
from dbgvmm.debug.register_row import RegisterRow
from dbgvmm.debug.registers import SELECTORS, write_register
from dbgvmm.hardware.fpu import FPU_REGISTERS, write_fpu


@pytest.fixture
def machine(booted: Callable[[str], Machine]) -> Machine:
    """In 64-bit code, no two registers and no two bytes of one alike, as far as they can be chosen."""
    machine = booted("hello")
    machine.run(steps=200)
    for number, segment in enumerate(machine.cpu.segs):
        segment.selector = 0x1008 + 0x110 * number
    machine.cpu.gpr[:] = memoryview(bytes(range(1, 129))).cast("B").cast("Q")
    for number, (name, (_, size)) in enumerate(FPU_REGISTERS.items()):
        if name != "mxcsr":
            write_fpu(machine.engine, name, bytes(0x80 | number + 7 * place & 0x7F for place in range(size)))
    write_register(machine, "mxcsr", 0x1FA5)
    write_register(machine, "fs_base", 0x1122_3344_5566)
    write_register(machine, "gs_base", 0x2233_4455_6677)
    return machine


def one_by_one(machine: Machine, layout: Layout) -> dict[str, int]:
    return {row.name: row.read(machine) for row in layout.general}


def at_once(registers: GeneralRegisters, layout: Layout) -> dict[str, int]:
    values, block = {}, registers.read(layout)
    for row in layout.general:
        values[row.name] = int.from_bytes(block[: row.bits // 8], "little")
        block = block[row.bits // 8 :]
    assert not block
    return values


@pytest.mark.parametrize("layout", [LONG, PROTECTED], ids=lambda layout: layout.title)
def test_each_register_of_the_block_is_the_register(machine: Machine, layout: Layout) -> None:
    assert at_once(GeneralRegisters(machine), layout) == one_by_one(machine, layout)


@pytest.mark.parametrize("row", [row for row in LONG.general if row not in SELECTORS], ids=lambda row: row.name)
def test_a_register_that_changes_between_two_reads_is_seen_and_no_other(machine: Machine, row: RegisterRow) -> None:
    registers = GeneralRegisters(machine)
    before = at_once(registers, LONG)
    row.write(machine, row.read(machine) ^ 1 << 2)
    after = at_once(registers, LONG)
    assert {name for name in before if before[name] != after[name]} <= {row.name}
    assert after == one_by_one(machine, LONG)


def test_a_block_that_was_read_stays_as_it_was(machine: Machine) -> None:
    registers = GeneralRegisters(machine)
    block = registers.read(LONG)
    machine.cpu.gpr[0] += 1
    assert registers.read(LONG) != block
    assert block[:8] == bytes(range(1, 9))
