"""System registers and the quick `g`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dbgvmm import Machine
from dbgvmm.commands import Session
from dbgvmm.commands.expression import evaluate
from dbgvmm.debug.gdb_description import GDB_REGISTERS, IN_G_PACKET
from dbgvmm.debug.gdb_target import GdbTarget
from dbgvmm.debug.register_row import RegisterError
from dbgvmm.debug.registers import read_register, write_register
from dbgvmm.debug.symbols import Symbol, SymbolTable
from gdbstub import ONLY_THREAD, TargetError

BootedMachine = Callable[..., Machine]
NUMBERS = {row.name: number for number, row in enumerate(GDB_REGISTERS)}


@pytest.fixture
def machine(booted: BootedMachine) -> Machine:
    return booted("hello")


def test_the_block_is_what_the_registers_give_one_by_one(machine: Machine) -> None:
    machine.step(500)
    for number, name in enumerate(("rbx", "st0", "st7", "fctrl", "fioff", "fop", "xmm0", "xmm15", "mxcsr", "gs_base")):
        write_register(machine, name, 0x1230 + number)
    target = GdbTarget(machine)
    singly = [target.read_register(ONLY_THREAD, number) for number in range(IN_G_PACKET)]
    assert target.read_block(ONLY_THREAD) == b"".join(item or b"" for item in singly)


@pytest.mark.parametrize(
    ("name", "value"),
    [("lstar", 0x1234), ("star", 1 << 63), ("sfmask", 0x47700), ("idtr_limit", 0xFFF), ("gdtr_base", 0x5000),
     ("dr0", 0x1000), ("dr7", 0x402), ("pat", 0x0606_0606_0606_0606), ("tsc", 1 << 40)],
)  # fmt: skip
def test_a_system_register_reads_as_it_was_set(machine: Machine, name: str, value: int) -> None:
    write_register(machine, name, value)
    assert read_register(machine, name) == value


@pytest.mark.parametrize(
    ("name", "value"),
    [("lstar", 1 << 63), ("sfmask", 1 << 32), ("pat", 2), ("idtr_base", 1 << 50), ("dr7", 1 << 32), ("tr_base", 4),
     ("cs_limit", 4), ("misc_enable", 1 << 22), ("gdtr_limit", 0x10000)],
)  # fmt: skip
def test_what_the_cpu_would_refuse_is_refused_and_changes_nothing(machine: Machine, name: str, value: int) -> None:
    before = read_register(machine, name)
    with pytest.raises(RegisterError):
        write_register(machine, name, value)
    assert read_register(machine, name) == before


def test_a_structure_is_written_whole_or_not_at_all(machine: Machine) -> None:
    target = GdbTarget(machine)
    base, limit = (0x5000).to_bytes(8, "little"), (15).to_bytes(2, "little")
    target.write_register(ONLY_THREAD, NUMBERS["idtr"], base + limit)
    assert (machine.cpu.idtr.base, machine.cpu.idtr.limit) == (0x5000, 15)
    hidden = target.read_register(ONLY_THREAD, NUMBERS["cs_hidden"])
    assert hidden is not None
    with pytest.raises(TargetError, match="only be loaded by the guest"):
        target.write_register(ONLY_THREAD, NUMBERS["cs_hidden"], b"\1" + hidden[1:])


def test_a_symbol_goes_before_a_system_register_of_its_name(machine: Machine) -> None:
    session = Session(machine, SymbolTable([Symbol("tsc", 0x7777, 0x7778, "data")]))
    assert evaluate(session, "tsc") == 0x7777
    assert evaluate(session, "$tsc") == read_register(machine, "tsc")
    assert evaluate(session, "pat") == read_register(machine, "pat")
