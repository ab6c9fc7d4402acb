"""Breakpoints and watchpoints: `Z0` to `Z4` set, `z0` to `z4` remove; the arguments are `addr,kind`."""

from __future__ import annotations

from gdbstub.agent import AgentError, Program, decode
from gdbstub.errors import MalformedPacket, RspError
from gdbstub.fields import parse_hex, parse_number, parse_pair, split
from gdbstub.session import OK, Reply, Session
from gdbstub.stop import Access
from gdbstub.table import Handler, Row
from gdbstub.target import (
    BreakpointPrograms,
    HardwareBreakpoints,
    ProgrammedBreakpoints,
    SoftwareBreakpoints,
    Watchpoints,
)


def insert_software(_session: Session, target: SoftwareBreakpoints, arguments: bytes) -> Reply:
    """`Z0,addr,kind[;X len,expr...][;cmds:persist,X len,expr...]`: conditions and commands are agent expressions."""
    place, programs = _programs(target, arguments)
    target.insert_breakpoint(*place)
    if isinstance(target, ProgrammedBreakpoints):
        target.program_breakpoint(place[0], False, programs)
    return OK


def remove_software(_session: Session, target: SoftwareBreakpoints, arguments: bytes) -> Reply:
    """`z0`"""
    target.remove_breakpoint(*parse_pair(arguments))
    return OK


def insert_hardware(_session: Session, target: HardwareBreakpoints, arguments: bytes) -> Reply:
    """`Z1`: as `Z0`."""
    place, programs = _programs(target, arguments)
    target.insert_hardware_breakpoint(*place)
    if isinstance(target, ProgrammedBreakpoints):
        target.program_breakpoint(place[0], True, programs)
    return OK


def remove_hardware(_session: Session, target: HardwareBreakpoints, arguments: bytes) -> Reply:
    """`z1`"""
    target.remove_hardware_breakpoint(*parse_pair(arguments))
    return OK


def _programs(target: object, arguments: bytes) -> tuple[tuple[int, int], BreakpointPrograms]:
    """The place, and what is to be evaluated there. A program that is not understood fails the packet."""
    fields = arguments.split(b";")
    place = parse_pair(fields[0])
    if len(fields) > 1 and not isinstance(target, ProgrammedBreakpoints):
        raise RspError("conditions and commands of breakpoints are not evaluated here")
    conditions: tuple[Program, ...] = ()
    commands: tuple[Program, ...] = ()
    persist = False
    for field in fields[1:]:
        if field.startswith(b"cmds:"):
            flag, expressions = split(field.removeprefix(b"cmds:"), b",")
            persist = parse_number(flag) != 0
            commands += _expressions(expressions)
        else:
            conditions += _expressions(field)
    return place, BreakpointPrograms(conditions, commands, persist)


def _expressions(text: bytes) -> tuple[Program, ...]:
    """`X len,hex` any number of times, nothing between them."""
    found = []
    while text:
        if not text.startswith(b"X"):
            raise MalformedPacket(f"an expression begins with X, not with {text[:8]!r}")
        length, text = split(text[1:], b",")
        digits = 2 * parse_number(length)
        if len(text) < digits:
            raise MalformedPacket("an expression is shorter than its length says")
        try:
            found.append(decode(parse_hex(text[:digits])))
        except AgentError as error:
            raise RspError(f"agent expression: {error}") from error
        text = text[digits:]
    return tuple(found)


def insert_watch(access: Access) -> Handler:
    """`Z2` writes, `Z3` reads, `Z4` both."""

    def insert(_session: Session, target: Watchpoints, arguments: bytes) -> Reply:
        target.insert_watchpoint(*_watched(arguments), access)
        return OK

    return insert


def remove_watch(access: Access) -> Handler:
    """`z2` writes, `z3` reads, `z4` both."""

    def remove(_session: Session, target: Watchpoints, arguments: bytes) -> Reply:
        target.remove_watchpoint(*_watched(arguments), access)
        return OK

    return remove


def _watched(arguments: bytes) -> tuple[int, int]:
    address, length = parse_pair(arguments)
    if not length:
        raise MalformedPacket("a watchpoint must cover at least one byte")
    return address, length


_PROGRAMMED = (("ConditionalBreakpoints+", ProgrammedBreakpoints), ("BreakpointCommands+", ProgrammedBreakpoints))

ROWS = (
    Row("Z0", insert_software, SoftwareBreakpoints, feature="swbreak+", more=_PROGRAMMED),
    Row("z0", remove_software, SoftwareBreakpoints),
    Row("Z1", insert_hardware, HardwareBreakpoints, feature="hwbreak+"),
    Row("z1", remove_hardware, HardwareBreakpoints),
    Row("Z2", insert_watch(Access.WRITE), Watchpoints),
    Row("z2", remove_watch(Access.WRITE), Watchpoints),
    Row("Z3", insert_watch(Access.READ), Watchpoints),
    Row("z3", remove_watch(Access.READ), Watchpoints),
    Row("Z4", insert_watch(Access.ANY), Watchpoints),
    Row("z4", remove_watch(Access.ANY), Watchpoints),
)
