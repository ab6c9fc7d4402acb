"""Non-stop mode: `QNonStop`, `vStopped`. Threads run and stop one by one, and packets are served meanwhile.

A stop is told by a notification, `%Stop:...`. The debugger answers it with `vStopped`, and gets the next stop that there is,
until the reply is `OK`: then all have been told, and the next one is a notification again (GDB manual, "Notification
Packets" and "Remote Protocol Support for Non-Stop Mode").
"""

from __future__ import annotations

from gdbstub.errors import MalformedPacket, TargetError
from gdbstub.session import OK, Reply, Session
from gdbstub.stop import Exited, Signal, Signalled, StopReason, Terminated
from gdbstub.stopreply import encode_stop
from gdbstub.table import Row
from gdbstub.target import NonStop


def choose_mode(session: Session, _target: NonStop, arguments: bytes) -> Reply:
    """`QNonStop:1`, `QNonStop:0`: non-stop and all-stop mode."""
    if arguments not in (b"0", b"1"):
        raise MalformedPacket(f"{arguments[:20]!r} is no mode: QNonStop:1 is non-stop, QNonStop:0 all-stop")
    if session.running:
        raise TargetError("the mode cannot be changed while a thread runs: stop all of them first")
    session.non_stop = arguments == b"1"
    session.untold.clear()
    return OK


def next_stop(session: Session, _target: NonStop, _: bytes) -> Reply:
    """`vStopped`: the last stop was heard; the next one, or `OK`."""
    if session.untold:
        session.untold.popleft()
    return session.untold[0] if session.untold else OK


def all_stops(session: Session) -> Reply:
    """The reply to `?` in non-stop mode: the first of the threads that stand still; `vStopped` asks for the others."""
    reason = session.target.stop_reason()
    session.untold.clear()
    if isinstance(reason, Exited | Terminated):
        session.untold.append(encode_stop(session, reason))
    else:
        standing = [thread for thread in session.threads() if thread not in session.running]
        for thread in standing:
            own: StopReason = reason if reason.thread == thread else Signalled(Signal.NONE, thread)
            session.untold.append(encode_stop(session, own))
    return session.untold[0] if session.untold else OK


ROWS = (
    Row("QNonStop", choose_mode, NonStop, feature="QNonStop+"),
    Row("vStopped", next_stop, NonStop),
)
