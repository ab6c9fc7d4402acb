"""Trace state variables: `QTDV` defines one, `qTV` reads one, `qTfV` and `qTsV` list them."""

from __future__ import annotations

from gdbstub.errors import MalformedPacket
from gdbstub.fields import parse_hex, parse_number
from gdbstub.packets.tracepoints import next_piece
from gdbstub.session import OK, Reply, Session
from gdbstub.table import Row
from gdbstub.target import Tracepoints
from gdbstub.tracing.listing import variable_line

_MOST = 0x7FFF_FFFF


def define(_session: Session, target: Tracepoints, arguments: bytes) -> Reply:
    """`QTDV:n:value:builtin:name`: a variable, and its value (64 bits) when a run begins."""
    fields = arguments.split(b":")
    if len(fields) != 4:
        raise MalformedPacket("a variable has a number, a value, a flag and a name")
    number, initial = parse_number(fields[0]), parse_number(fields[1])
    if number > _MOST:
        raise MalformedPacket(f"{number} is no number of a variable")
    name = parse_hex(fields[3]).decode("utf-8", "replace")
    if not name:
        raise MalformedPacket("a variable has a name")
    parse_number(fields[2])  # built in or not is for us to say
    target.experiment.variables.define(number, name, initial)
    return OK


def value(session: Session, target: Tracepoints, arguments: bytes) -> Reply:
    """`qTV:n`: `V value`, now or in the selected frame; `U` if it has none there."""
    number = parse_number(arguments)
    found = target.experiment.variables.find(number) if session.frame is None else session.frame.frame.variable(number)
    return b"U" if found is None else b"V%x" % found


def list_first(session: Session, target: Tracepoints, arguments: bytes) -> Reply:
    """`qTfV`: the variables, one in each reply."""
    session.listings["TV"] = [variable_line(variable) for variable in target.experiment.variables]
    return list_next(session, target, arguments)


def list_next(session: Session, _target: Tracepoints, _: bytes) -> Reply:
    """`qTsV`: the next one; `l` behind the last."""
    return next_piece(session, "TV")


ROWS = (
    Row("QTDV", define, Tracepoints),
    Row("qTV", value, Tracepoints, text_errors=False),
    Row("qTfV", list_first, Tracepoints, text_errors=False),
    Row("qTsV", list_next, Tracepoints, text_errors=False),
)
