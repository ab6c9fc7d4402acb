"""Trace runs: `QTStart`, `QTStop`, `QTDisconnected`, `QTNotes`; `qTStatus` tells how one goes."""

from __future__ import annotations

from gdbstub.errors import MalformedPacket
from gdbstub.fields import parse_hex, split
from gdbstub.session import OK, Reply, Session
from gdbstub.table import Row
from gdbstub.target import Tracepoints
from gdbstub.tracing import Ended, TraceEnd
from gdbstub.tracing.listing import status_line


def start(session: Session, target: Tracepoints, arguments: bytes) -> Reply:
    """`QTStart`: collect from now on, into an empty buffer."""
    _no_arguments(arguments)
    session.frame = None
    target.experiment.start()
    return OK


def stop(_session: Session, target: Tracepoints, arguments: bytes) -> Reply:
    """`QTStop`: collect no more."""
    _no_arguments(arguments)
    experiment = target.experiment
    experiment.stop(TraceEnd(Ended.STOPPED, experiment.stop_note))
    return OK


def _no_arguments(arguments: bytes) -> None:
    if arguments:
        raise MalformedPacket("the packet has no arguments")


def keep_when_disconnected(_session: Session, target: Tracepoints, arguments: bytes) -> Reply:
    """`QTDisconnected:1`: a run goes on when the debugger has gone; `:0`: it ends then."""
    target.experiment.disconnected = parse_flag(arguments)
    return OK


def parse_flag(text: bytes) -> bool:
    """0 or 1."""
    if text not in (b"0", b"1"):
        raise MalformedPacket(f"{text[:20]!r} is neither 0 nor 1")
    return text == b"1"


def notes(_session: Session, target: Tracepoints, arguments: bytes) -> Reply:
    """`QTNotes:type:hex;...`: who traces (user), what for (notes), and why the run is stopped (tstop)."""
    given: dict[bytes, str] = {}
    for field in arguments.split(b";"):
        if not field:
            continue
        kind, text = split(field, b":")
        if kind not in (b"user", b"notes", b"tstop"):
            raise MalformedPacket(f"{kind[:20]!r} is no kind of note: user, notes and tstop are")
        given[kind] = parse_hex(text).decode("utf-8", "replace")
    experiment = target.experiment
    experiment.user = given.get(b"user", experiment.user)
    experiment.notes = given.get(b"notes", experiment.notes)
    experiment.stop_note = given.get(b"tstop", experiment.stop_note)
    return OK


def status(session: Session, target: Tracepoints, _: bytes) -> Reply:
    """`qTStatus`: whether a run goes on, why not, and how full the buffer is. Times are microseconds of the target's own."""
    session.file_has_block = session.block_is_known
    return b"T" + status_line(target.experiment)


ROWS = (
    Row("QTStart", start, Tracepoints),
    Row("QTStop", stop, Tracepoints),
    Row("QTDisconnected", keep_when_disconnected, Tracepoints),
    Row("QTNotes", notes, Tracepoints),
    Row("qTStatus", status, Tracepoints, text_errors=False),
)
