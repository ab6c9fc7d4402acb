"""Our own guests, as systems: a name, a console, checks and a verdict."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dbgvmm import Machine
from dbgvmm.commands import CommandError, CommandTable, Session


def finished(booted: Callable[..., Machine], name: str) -> Machine:
    machine = booted(name)
    machine.load_symbols()
    machine.run()
    return machine


def test_a_guest_that_has_passed_says_so(booted: Callable[..., Machine]) -> None:
    machine = finished(booted, "smc")
    facts = dict(machine.os.facts())
    printed = bytes(machine.serial_log).decode()
    checks = printed.count("\nok ")
    assert machine.os.name == "smc"
    assert facts["checks"] == f"{checks} made, 0 failed"
    assert facts["verdict"] == f"PASS {checks} checks"
    assert facts["privilege"] == "kernel code"


def test_its_log_is_what_it_has_printed(hello: Session) -> None:
    hello.machine.run()
    lines = hello.machine.os.log().items
    assert [line.text for line in lines] == ["Hello from long mode."]
    assert lines[0].time_ns is None


def test_a_guest_without_checks_has_no_verdict(hello: Session) -> None:
    facts = dict(hello.machine.os.facts())
    assert facts["verdict"] == "none yet"
    assert "checks" not in facts


@pytest.mark.parametrize("line", ["ps", "info task", "info modules", "info syscalls"])
def test_what_it_does_not_have_is_said_in_one_line(hello: Session, table: CommandTable, line: str) -> None:
    with pytest.raises(CommandError, match="hello has no .*: `info os` shows what it can") as caught:
        table.execute(hello, line)
    assert "\n" not in str(caught.value)


def test_info_os_shows_what_it_can_be_asked(hello: Session, table: CommandTable) -> None:
    shown = str(table.execute(hello, "info os"))
    assert "can tell     log" in shown
    assert "no tasks" in shown


def test_without_symbols_it_is_not_recognised(booted: Callable[..., Machine], table: CommandTable) -> None:
    with pytest.raises(CommandError, match="no operating system that dbgvmm knows"):
        table.execute(Session(booted("hello")), "info os")


def test_another_kernel_in_its_place_is_not_it(hello: Session, table: CommandTable) -> None:
    assert hello.machine.os.name == "hello"
    hello.machine.symbols.remove(hello.machine.symbols.sources[0])
    with pytest.raises(CommandError, match="no operating system"):
        table.execute(hello, "info os")
