"""Running: `vCont`, `c`, `C`, `s`, `S`, `vCtrlC`. The stop reply (in non-stop mode a notification) comes later, from
`Stub.report_stop`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gdbstub.errors import MalformedPacket, TargetError
from gdbstub.fields import parse_number, parse_pair
from gdbstub.session import OK, Enter, Reply, Session, State
from gdbstub.table import Row
from gdbstub.target import Action, Continue, NonStop, Resume, SetProgramCounter, Step, StepRange, StepRanges
from gdbstub.threadid import ThreadId, ThreadSpec, parse_thread


@dataclass(frozen=True, slots=True)
class Halt:
    """The action `t`, which is not one of a target's `resume`."""


Choice = tuple[ThreadSpec, Action | Halt]


def actions_supported(_session: Session, target: Resume, _: bytes) -> Reply:
    """`vCont?`: the actions that `vCont` takes."""
    actions = [b"vCont", b"c", b"C", b"s", b"S"]
    if isinstance(target, NonStop):
        actions.append(b"t")
    if _steps_ranges(target):
        actions.append(b"r")
    return b";".join(actions)


def resume_threads(session: Session, target: Resume, arguments: bytes) -> Reply:
    """`vCont;action[:thread-id]...`: for each thread the first action that matches; the others stay as they are. In non-stop
    mode `OK` comes at once, and `t` stops threads."""
    choices: list[Choice] = []
    for text in arguments.split(b";"):
        action, colon, thread = text.partition(b":")
        choices.append((parse_thread(thread) if colon else ThreadSpec(), _action(session, target, action)))
    return _resume(session, target, choices)


def resume_continue(session: Session, target: Resume, arguments: bytes) -> Reply:
    """`c [addr]`: continue, at an address if one is given."""
    return _resume(session, target, [(ThreadSpec(), Continue())], arguments)


def resume_continue_signal(session: Session, target: Resume, arguments: bytes) -> Reply:
    """`C sig[;addr]`: the thread of `Hc` gets a signal, and all continue."""
    signal, _, address = arguments.partition(b";")
    choices: list[Choice] = [(_resume_thread(session), Continue(_signal(signal))), (ThreadSpec(), Continue())]
    return _resume(session, target, choices, address)


def resume_step(session: Session, target: Resume, arguments: bytes) -> Reply:
    """`s [addr]`: the thread of `Hc` steps; the others continue unless `Hc` named it alone."""
    return _resume(session, target, _step_one(session, Step()), arguments)


def resume_step_signal(session: Session, target: Resume, arguments: bytes) -> Reply:
    """`S sig[;addr]`: as `s`, with a signal."""
    signal, _, address = arguments.partition(b";")
    return _resume(session, target, _step_one(session, Step(_signal(signal))), address)


def interrupt(session: Session, _target: Resume, _: bytes) -> Reply:
    """`vCtrlC`: 0x03 as a packet."""
    session.interrupt()
    return OK


def _steps_ranges(target: Resume) -> bool:
    return isinstance(target, StepRanges) and target.steps_ranges


def _action(session: Session, target: Resume, text: bytes) -> Action | Halt:
    letter, arguments = text[:1], text[1:]
    match letter:
        case b"c" | b"s" if not arguments:
            return Continue() if letter == b"c" else Step()
        case b"C":
            return Continue(_signal(arguments))
        case b"S":
            return Step(_signal(arguments))
        case b"t" if session.non_stop and not arguments:
            return Halt()
        case b"r" if _steps_ranges(target):
            return StepRange(*parse_pair(arguments))
        case _:
            raise MalformedPacket(f"{text[:40]!r} is not an action of this target's vCont")


def _signal(text: bytes) -> int:
    signal = parse_number(text)
    if signal > 0xFF:
        raise MalformedPacket(f"{signal} is not a signal number")
    return signal


def _go_to(session: Session, target: Resume, text: bytes) -> None:
    """The address of `c` and `s`, for the thread of `Hc`."""
    address = parse_number(text)
    if not isinstance(target, SetProgramCounter):
        raise TargetError("cannot resume at an address: write the program counter first")
    thread = session.find_thread(_resume_thread(session))
    if thread not in session.running:
        target.set_program_counter(thread, address)


def _resume_thread(session: Session) -> ThreadSpec:
    spec = session.resume_spec
    thread = session.find_thread(spec) if spec.names_one else session.thread()
    return ThreadSpec(thread.pid, thread.tid)


def _step_one(session: Session, step: Step) -> list[Choice]:
    choices: list[Choice] = [(_resume_thread(session), step)]
    if not session.resume_spec.names_one:
        choices.append((ThreadSpec(), Continue()))
    return choices


def _resume(session: Session, target: Resume, choices: Sequence[Choice], address: bytes = b"") -> Reply:
    chosen: dict[ThreadId, Action | Halt] = {}
    for thread in session.threads():
        for spec, action in choices:
            if spec.matches(thread):
                chosen[thread] = action
                break
    if not chosen:
        raise TargetError("there is no such thread")
    session.frame = None
    # A thread that runs already goes on as it does, and one that stands still cannot be stopped.
    actions = {
        thread: action
        for thread, action in chosen.items()
        if not isinstance(action, Halt) and thread not in session.running
    }
    if address:
        _go_to(session, target, address)
    if actions:
        target.resume(actions)
    if not session.non_stop:
        return Enter(State.RUNNING)
    halted = [thread for thread, action in chosen.items() if isinstance(action, Halt) and thread in session.running]
    if halted and isinstance(target, NonStop):
        target.halt(halted)
    session.running |= actions.keys()
    return Enter(State.RUNNING if session.running else State.IDLE, OK)


ROWS = (
    Row("vCont?", actions_supported, Resume, feature="vContSupported+"),
    Row("vCont", resume_threads, Resume),
    Row("c", resume_continue, Resume),
    Row("C", resume_continue_signal, Resume),
    Row("s", resume_step, Resume),
    Row("S", resume_step_signal, Resume),
    Row("vCtrlC", interrupt, Resume, while_running=True),
)
