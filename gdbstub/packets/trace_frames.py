"""Trace frames: `QTFrame` selects one, `qXfer:traceframe-info` says what is in it; `qTBuffer` reads all of them, `QTSave`
has the target keep them, and `QTBuffer` says how many there may be."""

from __future__ import annotations

from collections.abc import Callable

from gdbstub.errors import MalformedPacket, RspError, TargetError
from gdbstub.fields import encode_hex, parse_hex, parse_number, parse_pair
from gdbstub.frame_view import FrameView
from gdbstub.packets.trace_runs import parse_flag
from gdbstub.packets.xfer import chunk
from gdbstub.session import OK, PACKET_SIZE, Reply, Session
from gdbstub.table import Row
from gdbstub.target import DescribeTarget, SaveTraces, Tracepoints
from gdbstub.tracing import DEFAULT_SIZE, LARGEST_SIZE, TraceFrame
from gdbstub.tracing.trace_file import trace_file

_NO_FRAME = 0xFFFF_FFFF
_INFO_HEAD = (
    '<?xml version="1.0"?>\n<!DOCTYPE traceframe-info SYSTEM "traceframe-info.dtd">\n<traceframe-info>\n'
)


def select(session: Session, target: Tracepoints, arguments: bytes) -> Reply:
    """`QTFrame:n`, `:pc:addr`, `:tdp:n`, `:range:start:end`, `:outside:start:end`: `F n T tracepoint`; `F-1` if there is none.

    But for the first form, it is the next such frame behind the selected one. `QTFrame:ffffffff`: none is selected, and
    the target itself is looked at again.
    """
    buffer = target.experiment.buffer
    kind, colon, rest = arguments.partition(b":")
    if not colon:
        number: int | None = parse_number(arguments) & _NO_FRAME
        if number == _NO_FRAME:
            session.frame = None
            return OK
    else:
        number = buffer.find(_wanted(kind, rest), -1 if session.frame is None else session.frame.number)
    frame = None if number is None else buffer.frame(number)
    if number is None or frame is None:
        return b"F-1"
    session.frame = FrameView(target.experiment, number, frame)
    return b"F%xT%x" % (number, frame.tracepoint)


def _wanted(kind: bytes, rest: bytes) -> Callable[[TraceFrame], bool]:
    numbers = [parse_number(text) for text in rest.split(b":")]
    match kind, numbers:
        case b"pc", [address]:
            return lambda frame: frame.address == address
        case b"tdp", [tracepoint]:
            return lambda frame: frame.tracepoint == tracepoint
        case b"range", [start, end]:
            return lambda frame: start <= frame.address <= end
        case b"outside", [start, end]:
            return lambda frame: not start <= frame.address <= end
        case _:
            raise MalformedPacket(f"{kind[:20]!r} with {len(numbers)} numbers finds no frame: pc, tdp, range and outside do")


def describe(session: Session, _target: Tracepoints, arguments: bytes) -> Reply:
    """`traceframe-info`: the memory and the variables that were collected in the selected frame."""

    def document(_annex: str) -> str:
        if session.frame is None:
            raise TargetError("no trace frame is selected")
        frame = session.frame.frame
        memory = "".join(f'<memory start="{at:#x}" length="{len(data):#x}"/>\n' for at, data in frame.memory)
        variables = "".join(f'<tvar id="{number:#x}"/>\n' for number, _ in frame.variables)
        return f"{_INFO_HEAD}{memory}{variables}</traceframe-info>\n"

    return chunk(session, "traceframe-info", arguments, document)


def read_buffer(session: Session, target: Tracepoints, arguments: bytes) -> Reply:
    """`qTBuffer:offset,length`: all frames as they stand in a trace file; `l` at their end.

    The file's head, which gdb writes, has the size of their registers as gdb knew it at the last `qTStatus`.
    """
    offset, length = parse_pair(arguments)
    experiment = target.experiment
    layout = experiment.layout if session.file_has_block else experiment.layout.whole
    data = experiment.buffer.read(layout, offset, min(length, PACKET_SIZE // 2 - 1))
    return encode_hex(data) if data else b"l"


def save(_session: Session, target: SaveTraces, arguments: bytes) -> Reply:
    """`QTSave:name`: the target keeps a trace file, with all that there is in it (`tsave -r`)."""
    name = parse_hex(arguments).decode("utf-8", "surrogateescape")
    if not name:
        raise MalformedPacket("a file has a name")
    description = target.target_description().get("target.xml", "") if isinstance(target, DescribeTarget) else ""
    target.save_trace(name, trace_file(target.experiment, description))
    return OK


def make_circular(_session: Session, target: Tracepoints, arguments: bytes) -> Reply:
    """`QTBuffer:circular:1`: when the buffer is full, the oldest frames go; `:0`: the run ends."""
    target.experiment.buffer.circular = parse_flag(arguments)
    return OK


def resize(_session: Session, target: Tracepoints, arguments: bytes) -> Reply:
    """`QTBuffer:size:bytes`: how much it takes; -1: as much as at first."""
    size = DEFAULT_SIZE if arguments == b"-1" else parse_number(arguments)
    if size > LARGEST_SIZE:
        raise RspError(f"a trace buffer has {LARGEST_SIZE:#x} bytes at most")
    target.experiment.buffer.size = size
    return OK


ROWS = (
    Row("QTFrame", select, Tracepoints),
    Row("qXfer:traceframe-info:read", describe, Tracepoints, feature="qXfer:traceframe-info:read+"),
    Row("qTBuffer", read_buffer, Tracepoints, text_errors=False),
    Row("QTSave", save, SaveTraces),
    Row("QTBuffer:circular", make_circular, Tracepoints),
    Row("QTBuffer:size", resize, Tracepoints, feature="QTBuffer:size+"),
)
