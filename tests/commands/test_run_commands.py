"""Running, stopping and breakpoints, with the guest `hello`."""

from __future__ import annotations

import pytest

from dbgvmm.commands import CommandError, CommandTable, QuitRequest, Session
from dbgvmm.commands.breakpoint_control import ConditionChanged, IgnoreCount, PointsChanged
from dbgvmm.commands.breakpoints import break_, info_breakpoints
from dbgvmm.commands.memory_edit import Written
from dbgvmm.commands.parameters import Address, Count
from dbgvmm.commands.run_control import continue_
from dbgvmm.commands.stepping import nexti, stepi, until
from dbgvmm.debug.stops import StopKind


def symbol(session: Session, name: str) -> Address:
    found = session.symbols.find(name)
    assert found is not None
    return Address(found.address)


def test_continue_stops_at_a_breakpoint_and_then_at_the_end(hello: Session) -> None:
    kmain = symbol(hello, "kmain")
    break_(hello, kmain)
    report = continue_(hello)
    assert (report.stop.kind, report.rip, report.number) == (StopKind.BREAKPOINT, kmain, 1)
    assert "breakpoint 1" in str(report)
    assert "<kmain>: push rbp" in str(report)
    assert continue_(hello).stop.kind is StopKind.HALT


def test_stepi_executes_exactly_so_many_instructions(hello: Session) -> None:
    assert stepi(hello).count == 1
    assert stepi(hello, Count(10)).count == 11


def test_nexti_runs_over_a_call(hello: Session, table: CommandTable) -> None:
    break_(hello, symbol(hello, "kmain"))
    continue_(hello)
    for _ in range(3):
        report = nexti(hello)
    assert report.place.startswith(f"{symbol(hello, 'kmain') + 9:#x} <kmain+")
    assert len(hello.machine.breakpoints) == 1


def test_nexti_with_a_count_is_as_many_of_them(hello: Session) -> None:
    break_(hello, symbol(hello, "kmain"))
    continue_(hello)
    report = nexti(hello, Count(3))
    assert report.place.startswith(f"{symbol(hello, 'kmain') + 9:#x} <kmain+")
    inner = break_(hello, symbol(hello, "print"))
    report = nexti(hello, Count(1000))
    assert report.number == inner.number, "a breakpoint on the way ends it"


@pytest.mark.parametrize("where", ["#3000", "+3000"])
def test_until_a_moment_stops_at_that_count(hello: Session, where: str) -> None:
    assert until(hello, where).count == 3000


def test_until_an_address_leaves_no_breakpoint_behind(hello: Session) -> None:
    assert until(hello, "kmain").rip == symbol(hello, "kmain")
    assert not list(hello.machine.breakpoints)


def test_until_refuses_the_past(hello: Session) -> None:
    stepi(hello, Count(10))
    with pytest.raises(CommandError, match="not in the future"):
        until(hello, "#10")


def test_a_guest_that_has_ended_can_only_be_restarted(booted: object, table: CommandTable) -> None:
    session = Session(booted("triplefault"))  # type: ignore[operator]  # a fixture that makes machines
    assert continue_(session).stop.kind is StopKind.TRIPLE_FAULT
    with pytest.raises(CommandError, match="restart"):
        continue_(session)
    table.execute(session, "restart")
    assert stepi(session).stop.kind is StopKind.STEP


def test_restart_begins_at_the_first_instruction(hello: Session, table: CommandTable) -> None:
    first = hello.machine.cpu.rip
    continue_(hello)
    assert "boot_entry32" in str(table.execute(hello, "restart"))
    assert hello.machine.cpu.rip == first


def test_breakpoints_are_listed_and_deleted_by_number(hello: Session, table: CommandTable) -> None:
    for address in (0x1000, 0x2000, 0x3000):
        break_(hello, Address(address))
    hello.machine.breakpoints.add(0x4000)
    assert str(table.execute(hello, "delete 1 3")) == "2 breakpoints removed"
    lines = info_breakpoints(hello).lines
    assert [(line.number, line.address) for line in lines] == [(2, 0x2000), (None, 0x4000)]
    table.execute(hello, "delete")
    assert list(hello.machine.breakpoints) == [0x4000]
    with pytest.raises(CommandError, match="no breakpoint 2"):
        table.execute(hello, "delete 2")


def test_quit_asks_to_leave(hello: Session, table: CommandTable) -> None:
    with pytest.raises(QuitRequest):
        table.execute(hello, "quit")


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("disable 1", "1 breakpoint disabled"),
        ("enable", "2 breakpoints enabled"),
        ("ignore 1 3", "the next 3 arrivals at breakpoint 1 go on"),
        ("ignore 1 0", "breakpoint 1 stops the next time"),
        ("condition 1 $rdi == 1", "breakpoint 1 stops if $rdi == 1"),
        ("condition 1", "breakpoint 1 stops always"),
        ("delete", "2 breakpoints removed"),
        ("poke/w 0x5000 1 2", "8 bytes written at 0x5000"),
        ("poke-physical/b 0x5000 1", "1 bytes written at physical 0x5000"),
        ("fill 0x5000 16 --phys", "16 bytes filled at physical 0x5000"),
        ("stop", "the guest stops at its next exit, if it is running"),
        ("restart", "restarted: the next instruction is at 0x10000c <boot_entry32>"),
        ("set pagination off", "pagination is off"),
        ("set color on", "color is on"),
        ("exits record off", "where exits come from is not kept any more"),
    ],
)
def test_what_was_done_is_said_in_one_line(hello: Session, table: CommandTable, line: str, shown: str) -> None:
    table.execute(hello, "break kmain")
    table.execute(hello, "watch 0x5000")
    assert str(table.execute(hello, line)) == shown


def test_what_was_done_is_data(hello: Session, table: CommandTable) -> None:
    table.execute(hello, "break kmain")
    assert table.execute(hello, "condition 1 $rdi == 1") == ConditionChanged(1, "$rdi == 1", True)
    assert table.execute(hello, "condition 1 $count") == ConditionChanged(1, "$count", False)
    assert table.execute(hello, "ignore 1 3") == IgnoreCount(1, 3)
    assert table.execute(hello, "delete 1") == PointsChanged("removed", (1,))
    assert table.execute(hello, "fill 0x5000 16") == Written(0x5000, 16, False, "filled")
