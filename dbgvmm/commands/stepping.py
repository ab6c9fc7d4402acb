"""Steps: by instruction (`stepi`, `nexti`), by line (`step`, `next`), to a place (`until`), out of a function (`finish`)."""

from __future__ import annotations

from typing import Final

from dbgvmm.commands.disassembly import instructions_at
from dbgvmm.commands.errors import CommandError
from dbgvmm.commands.expression import evaluate
from dbgvmm.commands.parameters import Count, ExpressionText
from dbgvmm.commands.run_control import StopReport, report_stop
from dbgvmm.commands.session import Session
from dbgvmm.commands.table import command
from dbgvmm.cpu.bits import GPR
from dbgvmm.debug.source_steps import STEPPED, NoLine
from dbgvmm.debug.stops import Stop, StopKind
from dbgvmm.debug.unwind import UnwindEnd

_ONE: Final = Count(1)
_WHOLE: Final = ("call", "rep", "int", "syscall")
"""What nexti and finish do not go into."""


@command("stepi", aliases=("si",), resumes=True, repeats=True)
def stepi(session: Session, count: Count = _ONE) -> StopReport:
    """Execute COUNT instructions (1).

    Entering an interrupt handler is no instruction of its own: the step goes to the handler's first one.

    For example:

        stepi
        si 100
    """
    return report_stop(session, session.run(steps=count))


@command("nexti", aliases=("ni",), resumes=True, repeats=True)
def nexti(session: Session, count: Count = _ONE) -> StopReport:
    """Execute COUNT instructions (1); calls, repeated ones and software interrupts as a whole.

    For example:

        nexti
        ni 10
    """
    stop = _over_instruction(session)
    for _ in range(count - 1):
        if stop.kind is not StopKind.STEP:
            break
        stop = _over_instruction(session)
    return report_stop(session, stop)


def _over_instruction(session: Session) -> Stop:
    lines = instructions_at(session, session.machine.cpu.rip, 1)
    if not lines or not lines[0].mnemonic.startswith(_WHOLE):
        return session.run(steps=1)
    stop = session.steps.run_over(lines[0].address + len(lines[0].code))
    if stop is STEPPED:
        session.machine.last_stop = stop
    return stop


@command("step", aliases=("s",), resumes=True, repeats=True)
def step(session: Session, count: Count = _ONE) -> StopReport:
    """Go on to another source line, into functions of which lines are known; COUNT times (1).

    Where no line is known, it is one instruction. A function without lines is run as a whole.

    For example:

        step
        s 3
    """
    return _by_lines(session, count, into=True)


@command("next", aliases=("n",), resumes=True, repeats=True)
def next_(session: Session, count: Count = _ONE) -> StopReport:
    """Go on to another source line of this function or of its caller, calls as a whole; COUNT times (1).

    Where no line is known, it is one instruction, as `nexti` does it.

    For example:

        next
        n 3
    """
    return _by_lines(session, count, into=False)


def _by_lines(session: Session, count: int, *, into: bool) -> StopReport:
    steps, note, stop = session.steps, "", STEPPED
    for _ in range(count):
        try:
            stop = steps.into_line() if into else steps.over_line()
        except NoLine:
            note = f"no line of source is known here: one instruction, as `{'stepi' if into else 'nexti'}`"
            stop = session.run(steps=1) if into else _over_instruction(session)
        if stop.kind is not StopKind.STEP:
            break
    return report_stop(session, stop, note)


@command("until", aliases=("u", "advance"), resumes=True)
def until(session: Session, where: ExpressionText) -> StopReport:
    """Run until WHERE: an address, FILE:LINE, or a moment in instructions.

    `#N` is the moment after N instructions since power-on, `+N` that after N more. Other breakpoints stop the guest
    too.

    For example:

        until kmain
        until hello.c:11
        until +1000
        until #500
    """
    machine = session.machine
    if not where.startswith(("#", "+")):
        place = evaluate(session, where.removeprefix("*"))
        stop = session.steps.run_to((place,))
        if stop is STEPPED:
            stop = Stop(StopKind.BREAKPOINT, f"breakpoint at {place:#x}", address=place)
        return report_stop(session, stop)
    distance = evaluate(session, where[1:]) - (machine.count if where.startswith("#") else 0)
    if not 0 < distance < 1 << 62:
        raise CommandError(f"{where!r} is not in the future: {machine.count:,} instructions have retired")
    return report_stop(session, session.run(steps=distance))


@command("finish", aliases=("fin",), resumes=True)
def finish(session: Session) -> StopReport:
    """Run until the selected frame's function has returned, or the handler to what it has interrupted.

    Where that is, a backtrace says. Where it cannot (in 16- and 32-bit code), it is behind a `ret` that takes its address at
    or above where the stack pointer is now: calls on the way run as a whole, everything else in single steps, so a long loop
    takes its time; Ctrl-C stops.

    For example:

        finish
    """
    session.machine.os_finder.recognise()
    level = 0 if session.frame is None else session.frame.level
    try:
        return report_stop(session, session.steps.finish(level))
    except UnwindEnd as end:
        if end.outermost or level:
            raise CommandError(f"nothing is known to which this returns: {end}") from end
        return report_stop(session, _step_out(session), f"{end}: by single steps")


def _step_out(session: Session) -> Stop:
    machine, steps = session.machine, session.steps
    stack = machine.cpu.gpr[GPR.RSP]
    while True:
        lines = instructions_at(session, machine.cpu.rip, 1)
        mnemonic = lines[0].mnemonic if lines else ""
        returns = mnemonic.startswith("ret") and machine.cpu.gpr[GPR.RSP] >= stack
        over = mnemonic.startswith(_WHOLE)
        stop = steps.run_over(lines[0].address + len(lines[0].code)) if over else steps.one()
        if returns or stop is not STEPPED:
            return stop
