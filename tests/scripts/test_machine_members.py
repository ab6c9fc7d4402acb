"""Registers as attributes, memory as slices, the serial line, several machines, and the end of one."""

from __future__ import annotations

import gc
import hashlib
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from dbgvmm import Machine, MachineConfig
from dbgvmm.cpu.bits import CR0, RFLAGS
from dbgvmm.debug.register_file import NamedBits, Register, RegisterError, Registers
from dbgvmm.debug.registers import REGISTERS, read_register
from dbgvmm.debug.serial_line import NotPrinted
from dbgvmm.debug.stops import StopKind
from dbgvmm.hardware.engine import EngineError
from dbgvmm.mmu.slices import NotMapped

Boot = Callable[..., Machine]


@pytest.fixture
def stopped(booted: Boot) -> Machine:
    """hello, in front of kmain."""
    machine = booted("hello")
    machine.load_symbols()
    machine.breakpoints.add(machine.symbols["kmain"].address)
    machine.run()
    return machine


def test_every_register_is_an_attribute_and_a_name(stopped: Machine) -> None:
    registers = stopped.registers
    declared = {name for name, item in vars(Registers).items() if isinstance(item, Register | NamedBits)}
    assert declared == {*REGISTERS, "rflags", "pc", "sp", "fp"}
    assert list(registers) == list(REGISTERS) and len(registers) == len(REGISTERS) and "sp" in registers
    for name, row in REGISTERS.items():
        assert getattr(registers, name) == registers[name] == read_register(stopped, name)
        assert isinstance(vars(Registers)[name], NamedBits if row.fields else Register)


def test_registers_are_set_and_refused_as_the_cpu_would(stopped: Machine) -> None:
    registers = stopped.registers
    registers.rax = 5
    registers.rax += 1
    registers["rbx"] = -1
    registers.xmm3 = 1 << 100
    assert (stopped.cpu.gpr[0], registers.rbx, registers.xmm3) == (6, (1 << 64) - 1, 1 << 100)
    registers.sp -= 8
    assert registers.rsp == registers.sp == stopped.cpu.gpr[4]
    for name, value in (("cr0", CR0.PG), ("rax", 1 << 64), ("cs", 0x33), ("rip", 1 << 60)):
        before = registers[name]
        with pytest.raises(RegisterError):
            setattr(registers, name, value)
        assert registers[name] == before
    with pytest.raises(RegisterError, match="no register 'rxa'"):
        registers.rxa = 1  # type: ignore[attr-defined]
    with pytest.raises(RegisterError, match="no register 'rxa'"):
        registers["rxa"]


def test_bits_of_registers_have_names(stopped: Machine) -> None:
    registers = stopped.registers
    assert registers.cr0.PG == 1 and registers.cr0.TS == 0 and registers.cr0 & CR0.PG
    assert registers.efer.LMA == 1 and str(registers.efer).startswith("0x500 [")
    registers.eflags |= RFLAGS.IOPL
    assert registers.eflags.IOPL == 3 and registers.rflags == registers.eflags
    with pytest.raises(AttributeError, match="CR0 has no bit PAE: it has AM"):
        _ = registers.cr0.PAE


def test_memory_is_a_slice(stopped: Machine) -> None:
    memory, address = stopped.memory, stopped.registers.rsp - 0x100
    memory[address : address + 4] = b"\x01\x02\x03\xff"
    assert memory[address : address + 4] == b"\x01\x02\x03\xff" and memory[address + 3] == 0xFF
    memory[address] = 0x7F
    memory[address + 1 :] = b"abc\0"
    assert memory.cstring(address) == "\x7fabc" and memory.cstring(address + 1, 2) == "ab"
    memory.u64[address + 1] = 0x1122_3344_5566_7788
    assert memory.u64[address + 1] == 0x1122_3344_5566_7788
    assert memory.u32[address + 1] == 0x5566_7788 and memory.u16[address + 1] == 0x7788 and memory.u8[address + 1] == 0x88
    memory.u32[address] = -2
    assert memory.u32[address] == 0xFFFF_FFFE
    physical = memory.translate(address).gpa
    assert physical is not None
    assert memory.physical[physical : physical + 8] == memory[address : address + 8]
    memory.physical.u16[physical] = 0xBEEF
    assert memory.u16[address] == 0xBEEF and memory[address:address] == b""


def test_bad_slices_say_what_is_wrong_and_write_nothing(stopped: Machine) -> None:
    memory, address = stopped.memory, stopped.registers.rsp - 0x100
    before = memory[address : address + 16]
    with pytest.raises(NotMapped, match="0x400000000000 is not mapped"):
        memory[1 << 46]
    with pytest.raises(NotMapped, match="is not in RAM, which ends at 0x2000000"):
        memory.physical[0x1FFFFFF:0x2000001]
    with pytest.raises(NotMapped):
        memory.physical[-1]
    with pytest.raises(ValueError, match="3 bytes do not fit into a slice of 4"):
        memory[address : address + 4] = b"abc"
    with pytest.raises(ValueError, match="does not fit into 1 bytes"):
        memory.u8[address] = 256
    with pytest.raises(ValueError, match="both of them addresses"):
        memory[address:]  # type: ignore[misc]
    with pytest.raises(ValueError, match="can be had"):
        memory[0 : 1 << 40]
    with pytest.raises(TypeError, match="takes bytes"):
        memory[address : address + 1] = 5  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="one byte is an int"):
        memory[address] = b"a"  # type: ignore[call-overload]
    assert memory[address : address + 16] == before


def test_a_store_to_code_is_seen_by_the_translation(stopped: Machine) -> None:
    """UD2 over kmain's first instruction, which has been translated already."""
    stopped.breakpoints.clear()
    stopped.memory[stopped.registers.rip :] = b"\x0f\x0b"
    assert stopped.run().kind is StopKind.TRIPLE_FAULT


def test_waiting_for_output_stops_behind_its_last_character(booted: Boot) -> None:
    machine = booted("selftest")
    seen = machine.serial.wait_for("-- timer interrupts")
    assert seen.endswith("-- timer interrupts") and machine.serial.text == seen
    assert machine.last_stop is not None and machine.last_stop.kind is StopKind.SCRIPT
    assert machine.serial.wait_for("hlt wakes").startswith("\n") or machine.serial.text.endswith("hlt wakes")
    with pytest.raises(NotPrinted, match="'no such text' was not printed: the guest left with code 1") as caught:
        machine.serial.wait_for("no such text")
    assert caught.value.stop.kind is StopKind.EXIT
    machine.serial.wait_for("PASS")  # printed long ago, and not read yet
    assert machine.serial.text.startswith(seen)


def test_waiting_does_not_change_the_guest(booted: Boot) -> None:
    plain, waited = booted("selftest"), booted("selftest")
    plain.run()
    for _ in range(3):
        waited.serial.wait_for("\n")
    waited.run()
    assert (plain.count, plain.serial.text) == (waited.count, waited.serial.text)


def test_machines_that_take_turns_do_what_they_do_alone(booted: Boot) -> None:
    names = ("selftest", "pagetables", "smc")

    def turn(machine: Machine, number: int) -> bool:
        return machine.run(steps=20_011 + 997 * (number % 5)).kind is StopKind.STEP

    def run_alone(name: str) -> Machine:
        machine = booted(name)
        number = 0
        while turn(machine, number):
            number += 1
        return machine

    def all_of(machine: Machine) -> tuple[object, ...]:
        return machine.count, machine.cpu.save(), hashlib.sha256(machine.ram.bytes).hexdigest(), machine.serial.text

    alone = [all_of(run_alone(name)) for name in names]
    machines = [booted(name) for name in names]
    running = list(machines)
    number = 0
    while running:
        still = [machine for machine in running if turn(machine, number)]
        if len(still) < len(running):
            booted("hello").close()  # one that comes and goes meanwhile
        running, number = still, number + 1
    assert [all_of(machine) for machine in machines] == alone


def test_a_closed_machine_is_refused_and_the_others_run_on(booted: Boot) -> None:
    with booted("hello") as machine:
        machine.run(steps=100)
        other = booted("hello")
        other.run(steps=100)
    with pytest.raises(EngineError, match="closed"):
        machine.run()
    with pytest.raises(EngineError, match="closed"):
        machine.breakpoints.add(machine.cpu.rip)
        machine.engine.flush_tlb()
    machine.close()
    assert other.run().kind is StopKind.HALT and other.serial.text == "Hello from long mode.\r\n"


def test_close_gives_the_memory_back(guest: Callable[[str], Path]) -> None:
    path = guest("cpubound-small")

    def one() -> None:
        with Machine(MachineConfig(memory=64 << 20)) as machine:
            machine.boot(path)
            machine.memory.physical[32 << 20 :] = bytes(range(256)) * (16 << 12)
            machine.run(max_count=200_000)

    one()
    gc.collect()
    before = _resident()
    for _ in range(6):
        one()
    assert _resident() - before < 40 << 20  # without it, 16 MiB each of the guest's, and what the engine has compiled


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
