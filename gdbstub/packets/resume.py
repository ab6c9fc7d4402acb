"""Running: `vCont`, `c`, `C`, `s`, `S`, `vCtrlC`. The stop reply comes later, from `Stub.report_stop`."""

from __future__ import annotations

from collections.abc import Sequence

from gdbstub.errors import MalformedPacket, TargetError
from gdbstub.fields import parse_number, parse_pair
from gdbstub.session import OK, Enter, Reply, Session, State
from gdbstub.table import Row
from gdbstub.target import Action, Continue, Resume, Step, StepRange, StepRanges
from gdbstub.threadid import ThreadId, ThreadSpec, parse_thread


def actions_supported(_session: Session, target: Resume, _: bytes) -> Reply:
    """`vCont?`: the actions that `vCont` takes."""
    return b"vCont;c;C;s;S;r" if _steps_ranges(target) else b"vCont;c;C;s;S"


def resume_threads(session: Session, target: Resume, arguments: bytes) -> Reply:
    """`vCont;action[:thread-id]...`: for each thread the first action that matches; the others stand still."""
    choices: list[tuple[ThreadSpec, Action]] = []
    for text in arguments.split(b";"):
        action, colon, thread = text.partition(b":")
        choices.append((parse_thread(thread) if colon else ThreadSpec(), _action(target, action)))
    return _resume(session, target, choices)


def resume_continue(session: Session, target: Resume, arguments: bytes) -> Reply:
    """`c`: continue. The optional address is not taken: gdb writes the program counter instead."""
    _refuse_address(arguments)
    return _resume(session, target, [(ThreadSpec(), Continue())])


def resume_continue_signal(session: Session, target: Resume, arguments: bytes) -> Reply:
    """`C sig`: the thread of `Hc` gets a signal, and all continue."""
    current = _resume_thread(session)
    return _resume(session, target, [(current, Continue(_signal(arguments))), (ThreadSpec(), Continue())])


def resume_step(session: Session, target: Resume, arguments: bytes) -> Reply:
    """`s`: the thread of `Hc` steps; the others continue unless `Hc` named it alone."""
    _refuse_address(arguments)
    return _resume(session, target, _step_one(session, Step()))


def resume_step_signal(session: Session, target: Resume, arguments: bytes) -> Reply:
    """`S sig`: as `s`, with a signal."""
    return _resume(session, target, _step_one(session, Step(_signal(arguments))))


def interrupt(session: Session, _target: Resume, _: bytes) -> Reply:
    """`vCtrlC`: 0x03 as a packet."""
    session.interrupt()
    return OK


def _steps_ranges(target: Resume) -> bool:
    return isinstance(target, StepRanges) and target.steps_ranges


def _action(target: Resume, text: bytes) -> Action:
    letter, arguments = text[:1], text[1:]
    match letter:
        case b"c" | b"s" if not arguments:
            return Continue() if letter == b"c" else Step()
        case b"C":
            return Continue(_signal(arguments))
        case b"S":
            return Step(_signal(arguments))
        case b"r" if _steps_ranges(target):
            return StepRange(*parse_pair(arguments))
        case _:
            raise MalformedPacket(f"{text[:40]!r} is not an action of this target's vCont")


def _signal(text: bytes) -> int:
    number, _, address = text.partition(b";")
    _refuse_address(address)
    signal = parse_number(number)
    if signal > 0xFF:
        raise MalformedPacket(f"{signal} is not a signal number")
    return signal


def _refuse_address(text: bytes) -> None:
    if text:
        raise TargetError("cannot resume at an address: write the program counter first")


def _resume_thread(session: Session) -> ThreadSpec:
    spec = session.resume_spec
    thread = session.find_thread(spec) if spec.names_one else session.thread()
    return ThreadSpec(thread.pid, thread.tid)


def _step_one(session: Session, step: Step) -> list[tuple[ThreadSpec, Action]]:
    choices: list[tuple[ThreadSpec, Action]] = [(_resume_thread(session), step)]
    if not session.resume_spec.names_one:
        choices.append((ThreadSpec(), Continue()))
    return choices


def _resume(session: Session, target: Resume, choices: Sequence[tuple[ThreadSpec, Action]]) -> Reply:
    actions: dict[ThreadId, Action] = {}
    for thread in session.threads():
        for spec, action in choices:
            if spec.matches(thread):
                actions[thread] = action
                break
    if not actions:
        raise TargetError("there is no such thread")
    session.frame = None
    target.resume(actions)
    return Enter(State.RUNNING)


ROWS = (
    Row("vCont?", actions_supported, Resume, feature="vContSupported+"),
    Row("vCont", resume_threads, Resume),
    Row("c", resume_continue, Resume),
    Row("C", resume_continue_signal, Resume),
    Row("s", resume_step, Resume),
    Row("S", resume_step_signal, Resume),
    Row("vCtrlC", interrupt, Resume, while_running=True),
)
