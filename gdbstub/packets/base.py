"""Beginning and ending a session: `?`, `!`, `R`, `vRun`, `vAttach`, `D`, `k`, `vKill`."""

from __future__ import annotations

from gdbstub.errors import TargetError
from gdbstub.fields import parse_hex, parse_number
from gdbstub.packets.nonstop import all_stops
from gdbstub.session import OK, Enter, Reply, Session, State
from gdbstub.stop import Exited, Terminated
from gdbstub.stopreply import encode_stop
from gdbstub.table import Row
from gdbstub.target import ExecFile, Kill, Restart, Target


def why_stopped(session: Session, target: Target, _: bytes) -> Reply:
    """`?`: why the target stands still."""
    if session.non_stop:
        return all_stops(session)
    reason = target.stop_reason()
    session.note_stop(reason)
    return encode_stop(session, reason)


def extend(session: Session, _target: Restart, _: bytes) -> Reply:
    """`!`: extended mode, in which the session goes on after the target's end."""
    session.extended = True
    return OK


def restart(session: Session, target: Restart, _: bytes) -> Reply:
    """`R xx`: begin again. It has no reply."""
    target.restart()
    session.begin_again()
    return Enter(State.IDLE)


def run(session: Session, target: Restart, arguments: bytes) -> Reply:
    """`vRun;filename[;argument]...`: begin again, and say where it stands. There is one program, and no arguments."""
    name, _, rest = arguments.partition(b";")
    own = target.exec_file() if isinstance(target, ExecFile) else ""
    wanted = parse_hex(name).decode("utf-8", "surrogateescape")
    if wanted not in ("", own, session.executed):
        raise TargetError(f"{wanted} cannot be run here: leave `remote exec-file` empty for the program that there is")
    if rest:
        raise TargetError("the program takes no arguments from the debugger: leave `args` empty")
    target.restart()
    session.begin_again()
    return Enter(State.IDLE, _stand(session))


def attach(session: Session, target: Target, arguments: bytes) -> Reply:
    """`vAttach;pid`: the target's own process is attached to already; where it stands is the reply."""
    pid = parse_number(arguments)
    if pid not in {thread.pid for thread in session.threads()}:
        raise TargetError(f"there is no process {pid}: `info threads` tells which there is")
    if isinstance(target.stop_reason(), Exited | Terminated):
        raise TargetError("the program has ended: `run` begins again")
    return _stand(session)


def _stand(session: Session) -> bytes:
    reason = session.target.stop_reason()
    session.note_stop(reason)
    return encode_stop(session, reason)


def detach(session: Session, _target: Target, arguments: bytes) -> Reply:
    """`D`, `D;pid`: let go of the target, which goes on."""
    if arguments:
        session.check_process(parse_number(arguments.removeprefix(b";")))
    return Enter(State.DISCONNECTED, OK)


def kill(session: Session, target: Target, _: bytes) -> Reply:
    """`k`: end the target. gdb wants no reply, and a target that cannot be ended is just let go; lldb wants a stop reply."""
    if isinstance(target, Kill):
        target.kill()
        session.running.clear()
    reply = encode_stop(session, Terminated()) if session.thread_suffixes else None
    return Enter(State.IDLE if session.extended else State.DISCONNECTED, reply)


def kill_process(session: Session, target: Kill, arguments: bytes) -> Reply:
    """`vKill;pid`: end the target and say so."""
    session.check_process(parse_number(arguments))
    target.kill()
    session.running.clear()
    return Enter(State.IDLE if session.extended else State.DISCONNECTED, OK)


ROWS = (
    Row("?", why_stopped, Target),
    Row("!", extend, Restart),
    Row("R", restart, Restart),
    Row("vRun", run, Restart),
    Row("vAttach", attach, Target),
    Row("D", detach, Target, while_running=True),
    Row("k", kill, Target, while_running=True),
    Row("vKill", kill_process, Kill, while_running=True),
)
