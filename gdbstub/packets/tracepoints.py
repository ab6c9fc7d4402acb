"""Tracepoints: what they are (`QTinit`, `QTDP`, `QTDPsrc`, `QTEnable`, `QTDisable`, `QTro`; `qTfP`, `qTsP`, `qTP` tell it)."""

from __future__ import annotations

from gdbstub.errors import MalformedPacket, RspError, TargetError
from gdbstub.fields import parse_hex, parse_number, parse_pair, split
from gdbstub.session import OK, Reply, Session
from gdbstub.table import Row
from gdbstub.target import Tracepoints
from gdbstub.tracing import Experiment, Key, Plan, Source, Tracepoint
from gdbstub.tracing.actions import parse_actions, parse_program
from gdbstub.tracing.listing import progress_line, tracepoint_lines

SOURCE_KINDS = (b"at", b"cond", b"cmd")


def initialise(session: Session, target: Tracepoints, arguments: bytes) -> Reply:
    """`QTinit`: no tracepoints, no variables, no frames."""
    if arguments:
        raise MalformedPacket("QTinit has no arguments")
    session.frame = None
    target.experiment.clear()
    return OK


def define(_session: Session, target: Tracepoints, arguments: bytes) -> Reply:
    """`QTDP:n:addr:ena:step:pass[:F len][:X len,expr][-]`, `QTDP:-n:addr:[S]action...[-]`: a tracepoint and its actions.

    One of which any part cannot be carried out is dropped as a whole, with an error.
    """
    more = arguments.endswith(b"-")
    fields = arguments[: len(arguments) - more].split(b":")
    if len(fields) < 3:
        raise MalformedPacket("a tracepoint has a number and an address")
    experiment = target.experiment
    if fields[0].startswith(b"-"):
        key = Key(_number(fields[0][1:]), parse_number(fields[1]))
        _add_actions(experiment, key, b":".join(fields[2:]))
    else:
        key = Key(_number(fields[0]), parse_number(fields[1]))
        tracepoint, enabled = _tracepoint(key, fields[2:])
        experiment.define(tracepoint, enabled)
    if not more:
        experiment.complete(key)
    return OK


def _number(text: bytes) -> int:
    number = parse_number(text)
    if not 0 < number <= 0xFFFF:
        raise MalformedPacket(f"{number} is no number of a tracepoint: they are from 1 to 65535")
    return number


def _add_actions(experiment: Experiment, key: Key, text: bytes) -> None:
    complete = experiment.find(key).complete
    try:
        if text.startswith(b"S"):
            experiment.begin_steps(key)
            text = text[1:]
        if not text:
            raise MalformedPacket("there is no action")
        experiment.add_actions(key, parse_actions(text))
    except RspError:
        if not complete:
            experiment.discard(key)
        raise


def _tracepoint(key: Key, fields: list[bytes]) -> tuple[Tracepoint, bool]:
    if len(fields) < 3 or fields[0] not in (b"E", b"D"):
        raise MalformedPacket("a tracepoint is enabled (E) or not (D), and has a step and a pass count")
    fast_length = condition = None
    for field in fields[3:]:
        match field[:1]:
            case b"F":
                fast_length = parse_number(field[1:])
            case b"S":
                raise TargetError("there are no static tracepoint markers here: use trace or ftrace")
            case b"X":
                condition, rest = parse_program(field[1:])
                if rest:
                    raise MalformedPacket(f"{rest[:20]!r} behind a condition")
            case _:
                raise MalformedPacket(f"{field[:20]!r} is nothing that a tracepoint has")
    plan = Plan(condition, steps=parse_number(fields[1]))
    return Tracepoint(key, plan, parse_number(fields[2]), fast_length), fields[0] == b"E"


def define_source(_session: Session, target: Tracepoints, arguments: bytes) -> Reply:
    """`QTDPsrc:n:addr:type:start:slen:bytes`: what the user typed, for debuggers that connect later."""
    fields = arguments.split(b":")
    if len(fields) != 6:
        raise MalformedPacket("a source has six parts")
    if fields[2] not in SOURCE_KINDS:
        raise MalformedPacket(f"{fields[2][:20]!r} is no kind of source: at, cond and cmd are")
    start, length, text = parse_number(fields[3]), parse_number(fields[4]), parse_hex(fields[5])
    if not text or start + len(text) > length:
        raise MalformedPacket(f"{len(text)} bytes at {start} are no part of a source of {length}")
    source = Source(fields[2].decode(), start, length, text)
    target.experiment.find(Key(_number(fields[0]), parse_number(fields[1]))).sources.append(source)
    return OK


def enable(_session: Session, target: Tracepoints, arguments: bytes) -> Reply:
    """`QTEnable:n:addr`: collect at it, also in a run."""
    target.experiment.enable(_key(arguments), True)
    return OK


def disable(_session: Session, target: Tracepoints, arguments: bytes) -> Reply:
    """`QTDisable:n:addr`: do not."""
    target.experiment.enable(_key(arguments), False)
    return OK


def _key(arguments: bytes) -> Key:
    number, address = split(arguments, b":")
    return Key(_number(number), parse_number(address))


def read_only(_session: Session, target: Tracepoints, arguments: bytes) -> Reply:
    """`QTro:start,end:...`: memory that does not change, and so need not be collected to be read in a frame."""
    target.experiment.readonly = tuple(parse_pair(text) for text in arguments.split(b":")) if arguments else ()
    return OK


def list_first(session: Session, target: Tracepoints, arguments: bytes) -> Reply:
    """`qTfP`: all tracepoints with their actions and sources, a piece in each reply."""
    session.listings["TP"] = [line for one in target.experiment.tracepoints for line in tracepoint_lines(one)]
    return list_next(session, target, arguments)


def list_next(session: Session, _target: Tracepoints, _: bytes) -> Reply:
    """`qTsP`: the next piece; `l` behind the last."""
    return next_piece(session, "TP")


def next_piece(session: Session, name: str) -> Reply:
    """The next piece of a listing."""
    pieces = session.listings.get(name)
    return pieces.pop(0) if pieces else b"l"


def progress(_session: Session, target: Tracepoints, arguments: bytes) -> Reply:
    """`qTP:n:addr`: `V hits:bytes`, how often it was hit in the run and how much it has collected."""
    return progress_line(target.experiment.find(_key(arguments)))


def shortest_fast(_session: Session, _target: Tracepoints, _: bytes) -> Reply:
    """`qTMinFTPILen`: a fast tracepoint fits on any instruction: nothing is replaced."""
    return b"1"


def static_markers(_session: Session, _target: Tracepoints, _: bytes) -> Reply:
    """`qTfSTM`, `qTsSTM`, `qTSTMat:addr`: there are no static markers."""
    return b"l"


_MORE = tuple(
    (feature, Tracepoints)
    for feature in (
        "ConditionalTracepoints+", "FastTracepoints+", "InstallInTrace+", "EnableDisableTracepoints+", "tracenz+",
        "DisconnectedTracing+",
    )
)  # fmt: skip

ROWS = (
    Row("QTinit", initialise, Tracepoints),
    Row("QTDP", define, Tracepoints, more=_MORE),
    Row("QTDPsrc", define_source, Tracepoints, feature="TracepointSource+"),
    Row("QTEnable", enable, Tracepoints),
    Row("QTDisable", disable, Tracepoints),
    Row("QTro", read_only, Tracepoints),
    Row("qTfP", list_first, Tracepoints, text_errors=False),
    Row("qTsP", list_next, Tracepoints, text_errors=False),
    Row("qTP", progress, Tracepoints, text_errors=False),
    Row("qTMinFTPILen", shortest_fast, Tracepoints, text_errors=False),
    Row("qTfSTM", static_markers, Tracepoints, text_errors=False),
    Row("qTsSTM", static_markers, Tracepoints, text_errors=False),
    Row("qTSTMat", static_markers, Tracepoints, text_errors=False),
)
