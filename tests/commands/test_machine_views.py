"""Devices, interrupt lines, timers, descriptor tables, MSRs and CPUID as the guest has them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from dbgvmm import Machine
from dbgvmm.commands import CommandError, CommandTable, Session
from dbgvmm.commands.cpuid import info_cpuid
from dbgvmm.commands.machine_view import info_devices, info_interrupts
from dbgvmm.commands.parameters import Value
from dbgvmm.commands.segments import info_ldt, info_tss
from dbgvmm.commands.time import info_time
from dbgvmm.cpu.bits import MSR
from dbgvmm.debug.symbols import load_symbols


@pytest.fixture
def waiting(booted: Callable[[str], Machine], guest: Callable[[str], Path]) -> Session:
    """`selftest` in the middle of its tests of timer interrupts, with its own descriptor tables."""
    session = Session(booted("selftest"), load_symbols(guest("selftest").with_suffix(".elf64")))
    session.run(steps=400_000)
    return session


def test_every_device_that_answers_at_a_port_is_listed_with_its_ports(hello: Session) -> None:
    report = info_devices(hello)
    ports = hello.machine.board.ports
    listed = {port for line in report.lines for first, last in line.ports for port in range(first, last + 1)}
    assert listed == {port for port in range(0x10000) if ports.device_at(port) is not None}
    assert all(line.what and not line.what[0].isupper() or line.name for line in report.lines)
    assert {line.name: line.irq for line in report.lines if line.name} == {
        "pic": None, "pit": 0, "uart": 4, "rtc": 8, "i8042": 1,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["pic", "pit", "uart", "rtc", "i8042"])
def test_a_devices_registers_are_shown_by_its_name_and_by_its_own_command(
    waiting: Session, table: CommandTable, name: str
) -> None:
    waiting.machine.board.rtc.now()  # it works out what has happened when somebody asks
    state = waiting.machine.board.state()
    assert str(table.execute(waiting, f"info device {name}")) == str(table.execute(waiting, f"info {name}"))
    assert waiting.machine.board.state() == state, "looking touches nothing"


def test_the_bits_of_devices_have_their_names(waiting: Session, table: CommandTable) -> None:
    shown = str(table.execute(waiting, "info device i8042"))
    assert "0x65: keyboard interrupt, system flag, aux disabled, translate" in shown
    shown = str(table.execute(waiting, "info device rtc"))
    assert "periodic rate 1024 Hz" in shown and "hours 24" in shown


def test_an_interrupt_is_requested_masked_and_in_service(hello: Session) -> None:
    board = hello.machine.board
    board.ports.write(0x21, 0b1110_1110, 1)
    board.pic.line(4)(True)
    board.pic.line(0)(True)
    lines = info_interrupts(hello).lines
    assert (lines[4].device, lines[4].high, lines[4].requested, lines[4].masked) == ("COM1", True, True, False)
    assert (lines[0].vector, lines[0].requested, lines[0].in_service) == (8, True, False)
    assert info_interrupts(hello).intr
    assert board.acknowledge_interrupt() == 8
    lines = info_interrupts(hello).lines
    assert (lines[0].requested, lines[0].in_service) == (False, True)
    assert lines[1].masked


def test_a_timers_event_comes_at_the_count_that_was_told(waiting: Session, table: CommandTable) -> None:
    (event,) = info_time(waiting).events
    assert event.name == "PIT counter 0"
    waiting.run(steps=event.at_count - 1 - waiting.machine.count)
    assert info_time(waiting).events == (event,)
    waiting.run(steps=1)
    (following,) = info_time(waiting).events
    assert following.when_ns > event.when_ns


def test_the_task_state_has_its_stacks_and_whose_they_are(waiting: Session) -> None:
    report = info_tss(waiting)
    stacks = {stack.name: stack for stack in report.stacks}
    assert "trap_stack_top" in stacks["RSP0"].place
    assert "double_fault_stack_top" in stacks["IST1"].place and stacks["IST1"].vectors == (8,)
    assert report.io_map > report.limit
    assert "for #DF" in str(report) and "none: ports are for IOPL alone" in str(report)


def test_without_a_task_or_a_local_table_that_is_said(hello: Session, table: CommandTable) -> None:
    with pytest.raises(CommandError, match="no TSS is loaded"):
        table.execute(hello, "info tss")
    assert str(info_ldt(hello)) == "no LDT is loaded"


def test_a_task_that_points_nowhere_is_one_clear_line(waiting: Session, table: CommandTable) -> None:
    waiting.machine.cpu.tr.base = 0x7000_0000_0000
    with pytest.raises(CommandError, match="the TSS cannot be read"):
        table.execute(waiting, "info tss")
    waiting.machine.cpu.tr.limit = 10
    with pytest.raises(CommandError, match="too small"):
        table.execute(waiting, "info tss")


def test_a_local_descriptor_table_is_decoded(waiting: Session) -> None:
    cpu, memory = waiting.machine.cpu, waiting.machine.memory
    code = memory.peek(cpu.gdtr.base + 8, 8)
    at = cpu.gdtr.base + 8
    cpu.ldtr.set(0x50, at, 15, 0x82)
    (first, *_) = info_ldt(waiting).lines
    assert first.selector == 4
    assert code == memory.peek(at, 8) and "CODE" in first.words


def test_msrs_are_explained(waiting: Session, table: CommandTable) -> None:
    cpu, msrs = waiting.machine.cpu, waiting.machine.msrs
    kmain = waiting.symbols.find("kmain")
    assert kmain is not None
    msrs.write(cpu, MSR.LSTAR, kmain.address)
    msrs.write(cpu, MSR.STAR, 0x0023_0010_0000_0000)
    msrs.write(cpu, MSR.SFMASK, 0x200)
    shown = str(table.execute(waiting, "info msrs"))
    assert "EFER LME LMA NXE" in shown
    assert "LSTAR <kmain>" in shown
    assert "SYSCALL: CS 0x10; SYSRET: CS 0x23" in shown
    assert "SFMASK clears IF" in shown
    assert "PAT WB WT UC- UC WB WT UC- UC" in shown
    assert "MTRR_DEF_TYPE WB FIXED_ENABLED ENABLED" in shown


def test_cpuid_is_what_the_guest_reads_with_names(hello: Session, table: CommandTable) -> None:
    lines = info_cpuid(hello).lines
    machine = hello.machine
    for line in lines:
        assert (line.eax, line.ebx, line.ecx, line.edx) == machine.cpuid.query(line.leaf, line.subleaf, machine.cpu)
    shown = {name for line in lines for name in line.features}
    assert shown == machine.cpuid.features - {"apic"}, "without an APIC its bit is not shown"
    (leaf,) = info_cpuid(hello, Value(4), Value(2)).lines
    assert leaf.words == "L2 unified, 1024 KiB, 16 ways"
    text = str(table.execute(hello, "info cpuid"))
    assert "'GenuineIntel'" in text and "'dbgvmm virtual C'" in text
    assert json.loads(str(table.execute(hello, "info cpuid 7 --json")))["lines"][0]["leaf"] == 7
    assert asdict(leaf)["features"] == ()
