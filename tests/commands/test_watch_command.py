"""`watch`, `break --cr3`, and what is listed and removed of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbgvmm import Machine, MachineConfig
from dbgvmm.commands import CommandError, Session, command_table
from dbgvmm.debug.stops import StopKind

GUEST = Path(__file__).parents[2] / "guests" / "build" / "hello.elf"
KMAIN = 0x106000


@pytest.fixture
def session() -> Session:
    machine = Machine(MachineConfig(memory=64 << 20))
    machine.boot(GUEST)
    machine.breakpoints.add(KMAIN)
    assert machine.run().kind is StopKind.BREAKPOINT
    machine.breakpoints.clear()
    return Session(machine)


def execute(session: Session, line: str) -> str:
    return str(command_table().execute(session, line))


def test_the_guest_stops_behind_the_push_that_was_watched(session: Session) -> None:
    assert "watchpoint 1 (write): 8 bytes" in execute(session, "watch $rsp-8 8")
    report = execute(session, "continue")
    assert "was written" in report
    assert session.machine.cpu.rip == KMAIN + 1


def test_a_read_is_watched_on_demand(session: Session) -> None:
    execute(session, "watch $rsp-8 8 read")
    execute(session, "continue")
    assert session.machine.last_stop is not None and session.machine.last_stop.text.endswith("was read")


def test_physical_memory_can_be_watched(session: Session) -> None:
    assert "physical" in execute(session, "watch $rsp-8 8 --phys")  # it is mapped 1:1
    execute(session, "continue")
    assert session.machine.cpu.rip == KMAIN + 1


def test_another_address_space_is_left_alone(session: Session) -> None:
    execute(session, "watch $rsp-8 8 --cr3 $cr3+0x1000")
    execute(session, f"break {KMAIN + 1:#x} --cr3 $cr3+0x1000")
    assert session.machine.run().kind is StopKind.HALT


def test_the_current_address_space_is_meant_by_its_cr3(session: Session) -> None:
    execute(session, f"break {KMAIN + 1:#x} --cr3 $cr3")
    assert session.machine.run().kind is StopKind.BREAKPOINT


def test_watchpoints_are_listed_and_deleted_by_number(session: Session) -> None:
    execute(session, f"break {KMAIN + 4:#x}")
    execute(session, "watch 0x1000 4 access")
    listed = execute(session, "info breakpoints")
    assert "access" in listed and "4 bytes at 0x1000" in listed
    execute(session, "delete 2")
    assert "0x1000" not in execute(session, "info breakpoints")
    assert not len(session.machine.watchpoints)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("watch", "ADDRESS is missing"), ("watch 0x1000 0", "no count"), ("watch 0x1000 1 often", "none of"),
        ("watch 0x1000 --phys --cr3 0", "exclude each other"), ("watch 0x1000 --soft", "no option --soft"),
        ("watch 0x1000 --cr3", "needs a value"), ("watch 0xffffffffffffffff 2", "no range"),
    ],
)  # fmt: skip
def test_mistakes_are_explained(session: Session, line: str, problem: str) -> None:
    with pytest.raises(CommandError, match=problem):
        execute(session, line)


def test_options_are_completed(session: Session) -> None:
    assert command_table().complete(session, "watch 0x1000 --") == ["--cr3", "--json", "--phys"]
