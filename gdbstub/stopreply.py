"""Stop reasons to stop reply packets (GDB manual, "Stop Reply Packets")."""

from __future__ import annotations

from typing import assert_never

from gdbstub.fields import encode_hex
from gdbstub.session import Session
from gdbstub.stop import (
    BreakpointHit,
    Executed,
    Exited,
    Interrupted,
    Signal,
    Signalled,
    Stepped,
    StopReason,
    Terminated,
    ThreadStop,
    WatchpointHit,
)
from gdbstub.threadid import ThreadId


def encode_stop(session: Session, reason: StopReason) -> bytes:
    """The payload that reports `reason`, with what the debugger said it understands."""
    if isinstance(reason, Exited):
        return b"W%02x" % (reason.status & 0xFF) + _process(session, reason.pid)
    if isinstance(reason, Terminated):
        return b"X%02x" % (reason.signal & 0xFF) + _process(session, reason.pid)
    fields = _thread(session, reason.thread) + _cause(session, reason)
    if not isinstance(reason, Executed):  # whose registers the debugger cannot place before it knows the new description
        fields = _registers(session, reason.thread) + fields
    return b"T%02x" % _signal(reason) + b"".join(b"%s:%s;" % pair for pair in fields)


def _process(session: Session, pid: int) -> bytes:
    return b";process:%x" % pid if session.multiprocess else b""


def _signal(reason: ThreadStop) -> int:
    match reason:
        case Signalled(signal=signal):
            return signal & 0xFF
        case Interrupted():
            return Signal.INT
        case Stepped() | BreakpointHit() | WatchpointHit() | Executed():
            return Signal.TRAP
        case _:
            assert_never(reason)


def _cause(session: Session, reason: ThreadStop) -> list[tuple[bytes, bytes]]:
    match reason:
        case WatchpointHit(address=address, access=access):
            return [(access.value.encode(), b"%x" % address)]
        case Executed(path=path):
            return [(b"exec", encode_hex(path.encode()))]
        case BreakpointHit(hardware=hardware):
            name = "hwbreak" if hardware else "swbreak"
            return [(name.encode(), b"")] if session.peer_has(name) else []
        case _:
            return []


def _thread(session: Session, thread: ThreadId) -> list[tuple[bytes, bytes]]:
    if session.with_threads is None:
        return []
    fields = [(b"thread", session.encode_thread(thread))]
    if session.list_threads:
        fields.append((b"threads", b",".join(b"%x" % one.tid for one in session.with_threads.threads())))
    target = session.with_details
    if target is not None and (core := target.thread_details(thread).core) is not None:
        fields.append((b"core", b"%x" % core))
    return fields


def _registers(session: Session, thread: ThreadId) -> list[tuple[bytes, bytes]]:
    target = session.with_expedited
    if target is None:
        return []
    values = ((number, target.read_register(thread, number)) for number in target.expedited_registers)
    return [(b"%x" % number, encode_hex(value)) for number, value in values if value is not None]
