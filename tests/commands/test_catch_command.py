"""`catch`: where the guest stops, and what the stop says."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbgvmm import Machine, MachineConfig
from dbgvmm.commands import CommandError, Session, command_table
from dbgvmm.debug.stops import StopKind

GUESTS = Path(__file__).parents[2] / "guests" / "build"


def session_of(guest: str) -> Session:
    machine = Machine(MachineConfig(memory=64 << 20))
    machine.boot(GUESTS / f"{guest}.elf")
    return Session(machine)


@pytest.fixture
def session() -> Session:
    return session_of("hello")


def execute(session: Session, line: str) -> str:
    return str(command_table().execute(session, line))


def go_on(session: Session) -> str:
    stop = session.run()
    assert stop.kind is StopKind.CATCHPOINT, stop
    return stop.text


def test_the_ways_to_long_mode_are_seen(session: Session) -> None:
    execute(session, "catch mode")
    assert go_on(session).endswith("from protected32 to compat32")
    assert go_on(session).endswith("from compat32 to long64")
    assert session.run().kind is StopKind.HALT


def test_a_load_of_cr3_stops_behind_it(session: Session) -> None:
    execute(session, "catch cr3")
    assert "caught CR3 0x0 -> 0x102000" in go_on(session)
    assert session.machine.cpu.cr3 == 0x102000


def test_the_write_that_turns_long_mode_on_is_seen(session: Session) -> None:
    execute(session, "catch msr 0xc0000080 write")
    assert "MSR 0xc0000080 written, value 0x1" in go_on(session)


def test_an_access_to_a_port_tells_its_value(session: Session) -> None:
    execute(session, "catch port 0x3f8 write")
    texts = []
    while (stop := session.run()).kind is StopKind.CATCHPOINT:
        texts.append(stop.text)
    assert f"caught port 0x3f8 written, 1 byte, value {ord('H'):#x}" in texts


def test_reads_are_told_from_writes(session: Session) -> None:
    execute(session, "catch port 0x3fd write")
    assert session.run().kind is StopKind.HALT


def test_an_exception_stops_before_it_is_delivered_and_once() -> None:
    session = session_of("exceptions")
    execute(session, "catch exception #DE")
    text = go_on(session)
    rip, count = session.machine.cpu.rip, session.machine.count
    assert text.startswith(f"caught #DE at {rip:#x}")
    session.machine.step()
    assert session.machine.count == count + 1 and session.machine.cpu.rip != rip


def test_catching_every_exception_changes_nothing_for_the_guest() -> None:
    session = session_of("exceptions")
    execute(session, "catch exception")
    caught = 0
    while (stop := session.run()).kind is StopKind.CATCHPOINT:
        caught += 1
    assert caught > 150
    assert (stop.kind, stop.exit_code) == (StopKind.EXIT, 1)


def test_interrupts_stop_in_front_of_their_handler() -> None:
    session = session_of("selftest")
    execute(session, "catch interrupt")
    assert go_on(session).startswith("caught interrupt ")
    assert not session.machine.cpu.rflags & 1 << 9


def test_catchpoints_are_listed_and_deleted(session: Session) -> None:
    execute(session, "catch exception 14")
    execute(session, "catch msr 0x10 read")
    listed = execute(session, "info breakpoints")
    assert "#PF" in listed and "msr 0x10 read" in listed
    execute(session, "delete")
    assert execute(session, "info breakpoints") == "no breakpoints"
    assert not len(session.machine.catchpoints)


@pytest.mark.parametrize(
    ("line", "problem"),
    [("catch port 0x10000", "no port"), ("catch exception 256", "no vector"), ("catch exception #XY", "XY"),
     ("catch msr 1 twice", "none of"), ("catch", "goes with")],
)  # fmt: skip
def test_mistakes_are_explained(session: Session, line: str, problem: str) -> None:
    with pytest.raises(CommandError, match=problem):
        execute(session, line)


def test_a_triple_fault_stops_in_front_of_its_instruction_and_going_on_ends_the_guest() -> None:
    session = session_of("triplefault")
    execute(session, "catch triple-fault")
    before = session.machine.cpu.rip
    text = go_on(session)
    rip, count = session.machine.cpu.rip, session.machine.count
    assert text.startswith("caught a triple fault: #UD, then #GP")
    assert rip != before and session.machine.memory.peek(rip, 2) == bytes.fromhex("0f0b")
    stop = session.run()
    assert (stop.kind, session.machine.cpu.rip, session.machine.count) == (StopKind.TRIPLE_FAULT, rip, count)


def test_who_mends_what_is_wrong_can_go_on_after_a_triple_fault() -> None:
    session = session_of("triplefault")
    execute(session, "catch triple-fault")
    go_on(session)
    execute(session, "set rip rip+2")
    assert session.run().kind is StopKind.HALT
    assert b"still running after a triple fault" in session.machine.serial_log


def test_a_second_triple_fault_is_caught_too() -> None:
    session = session_of("triplefault")
    execute(session, "catch triple-fault")
    go_on(session)
    rip = session.machine.cpu.rip
    execute(session, "poke/h rip 0x9090")
    assert session.machine.step(2).kind is StopKind.STEP
    execute(session, f"poke/h {rip} 0x0b0f")
    session.machine.cpu.rip = rip
    assert go_on(session).startswith("caught a triple fault")
