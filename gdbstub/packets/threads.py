"""Threads: `H`, `T`, `qC`, `qfThreadInfo`, `qsThreadInfo`, `qThreadExtraInfo`."""

from __future__ import annotations

from gdbstub.errors import MalformedPacket
from gdbstub.fields import encode_hex
from gdbstub.session import OK, PACKET_SIZE, Reply, Session
from gdbstub.table import Row
from gdbstub.target import DescribeThreads, Target, Threads
from gdbstub.threadid import parse_thread

# Room for the longest thread-id, "p" and two 64-bit numbers, with its dot and comma.
_THREADS_PER_REPLY = PACKET_SIZE // (2 * 16 + 3)


def choose(session: Session, _target: Target, arguments: bytes) -> Reply:
    """`H op thread-id`: the thread of later packets. `g` is for registers and memory, `c` for `c` and `s`."""
    operation, spec = arguments[:1], parse_thread(arguments[1:])
    thread = session.find_thread(spec)
    match operation:
        case b"g":
            session.chosen = thread if spec.names_one else None
        case b"c":
            session.resume_spec = spec
        case _:
            raise MalformedPacket(f"{operation!r} is not an operation of H: use 'g' or 'c'")
    return OK


def alive(session: Session, _target: Target, arguments: bytes) -> Reply:
    """`T thread-id`: whether the thread is there; an error if not."""
    session.find_thread(parse_thread(arguments))
    return OK


def current(session: Session, _target: Threads, _: bytes) -> Reply:
    """`qC`: the current thread."""
    return b"QC" + session.encode_thread(session.thread())


def list_first(session: Session, target: Threads, arguments: bytes) -> Reply:
    """`qfThreadInfo`: the thread-ids, as many as fit."""
    session.threads_left = list(session.live_threads())
    return list_next(session, target, arguments)


def list_next(session: Session, _target: Threads, _: bytes) -> Reply:
    """`qsThreadInfo`: the next ones; `l` when there are no more."""
    batch = session.threads_left[:_THREADS_PER_REPLY]
    del session.threads_left[:_THREADS_PER_REPLY]
    return b"m" + b",".join(session.encode_thread(thread) for thread in batch) if batch else b"l"


def extra(session: Session, target: DescribeThreads, arguments: bytes) -> Reply:
    """`qThreadExtraInfo,thread-id`: a line for people."""
    details = target.thread_details(session.find_thread(parse_thread(arguments)))
    return encode_hex(", ".join(filter(None, (details.name, details.state))).encode())


ROWS = (
    Row("H", choose, Target),
    Row("T", alive, Target),
    Row("qC", current, Threads),
    Row("qfThreadInfo", list_first, Threads),
    Row("qsThreadInfo", list_next, Threads),
    Row("qThreadExtraInfo", extra, DescribeThreads, text_errors=False),
)
