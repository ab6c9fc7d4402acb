"""Conditions and commands in Z packets: what reaches the target, and what fails the packet."""

from __future__ import annotations

import pytest
from rsp_client import Client
from rsp_machine import BASE, Machine

from gdbstub import BreakpointPrograms, ProgrammedBreakpoints


class Programmed(Machine):
    """Remembers what it was asked to evaluate."""

    def __init__(self) -> None:
        super().__init__()
        self.programs: dict[tuple[int, bool], BreakpointPrograms] = {}

    def program_breakpoint(self, address: int, hardware: bool, programs: BreakpointPrograms) -> None:
        self.programs[address, hardware] = programs


@pytest.fixture
def programmed() -> Programmed:
    return Programmed()


def ask(target: Machine, packet: str) -> bytes:
    return Client(target, "swbreak+").ask(packet)


def test_only_a_target_that_evaluates_them_is_offered_them(programmed: Programmed, machine: Machine) -> None:
    assert isinstance(programmed, ProgrammedBreakpoints)
    assert b"ConditionalBreakpoints+;BreakpointCommands+" in Client(programmed).ask("qSupported:")
    assert b"ConditionalBreakpoints" not in Client(machine).ask("qSupported:")
    assert Client(machine).ask(f"Z0,{BASE:x},1;X3,220127").startswith(b"E.")


@pytest.mark.parametrize(("letter", "hardware"), [("0", False), ("1", True)])
def test_conditions_and_commands_reach_the_target(programmed: Programmed, letter: str, hardware: bool) -> None:
    assert ask(programmed, f"Z{letter},{BASE:x},1;X3,220127X3,220227;cmds:1,X3,220327") == b"OK"
    programs = programmed.programs[BASE, hardware]
    assert [program.code.hex() for program in programs.conditions] == ["220127", "220227"]
    assert [program.code.hex() for program in programs.commands] == ["220327"]
    assert programs.persist


def test_inserting_again_without_a_condition_takes_it_away(programmed: Programmed) -> None:
    ask(programmed, f"Z0,{BASE:x},1;X3,220127")
    ask(programmed, f"Z0,{BASE:x},1")
    assert programmed.programs[BASE, False] == BreakpointPrograms()


@pytest.mark.parametrize(
    "rest",
    [";X3,2201", ";X3", ";3,220127", ";X3,22012", ";Xzz,220127", ";cmds:X3,220127", ";cmds:0,Y", ";X2,0127", ";X1,02", ";X0,"],
)
def test_what_is_not_understood_fails_the_packet_and_sets_nothing(programmed: Programmed, rest: str) -> None:
    reply = ask(programmed, f"Z0,{BASE:x},1{rest}")
    assert reply.startswith(b"E")
    assert not programmed.programs
    assert not programmed.breakpoints
