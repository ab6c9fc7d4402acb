"""Running and stopping: `continue`, `stop`, `stepi`, `nexti`, `until`, `finish`, `jump`, `restart`, `quit`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NoReturn

from dbgvmm.boot.state import BootError
from dbgvmm.commands.disassembly import instructions_at
from dbgvmm.commands.displays import Displayed, displayed
from dbgvmm.commands.errors import CommandError, QuitRequest
from dbgvmm.commands.expression import condition as condition_of
from dbgvmm.commands.expression import evaluate
from dbgvmm.commands.parameters import Count, ExpressionText, Place
from dbgvmm.commands.session import Session
from dbgvmm.commands.table import command
from dbgvmm.cpu.bits import GPR
from dbgvmm.debug.inside.code import InstructionLine
from dbgvmm.debug.register_row import RegisterError
from dbgvmm.debug.registers import write_register
from dbgvmm.debug.stops import Stop, StopKind
from dbgvmm.machine import Machine

_ONE: Final = Count(1)
_WHOLE: Final = ("call", "rep", "int", "syscall")
"""What nexti and finish do not go into."""


@dataclass(frozen=True)
class StopReport:
    """Why and where the guest stopped: `count` instructions after power-on, in front of `instruction`.

    number: the breakpoint's. note: what is to be said beside. displayed: what `display` has asked for.
    """

    stop: Stop
    rip: int
    place: str
    count: int
    instruction: InstructionLine | None
    number: int | None
    note: str = ""
    displayed: tuple[Displayed, ...] = ()

    def __str__(self) -> str:
        what = f"breakpoint {self.number}" if self.number is not None else self.stop.text
        where = f"   {self.instruction}" if self.instruction else f"   {self.place}"
        notes = [self.note] if self.note else []
        return "\n".join([f"{what}, after {self.count:,} instructions", *notes, where, *map(str, self.displayed)])


@dataclass(frozen=True)
class StopRequest:
    """Somebody has asked the guest to stop. running: it runs."""

    running: bool

    def __str__(self) -> str:
        return "the guest stops at its next exit, if it is running"


@dataclass(frozen=True)
class Restarted:
    """The machine is new: the next instruction is at `rip`. count: instructions since power-on."""

    rip: int
    place: str
    count: int

    def __str__(self) -> str:
        return f"restarted: the next instruction is at {self.place}"


def report_stop(session: Session, stop: Stop) -> StopReport:
    """What people want to know of a stop."""
    machine, points = session.machine, session.points
    rip = machine.cpu.rip
    number = points.stopped() if stop.kind is StopKind.BREAKPOINT else None
    problem = points.breakpoints[number].problem if number is not None else ""
    note = f"   its condition has no value: {problem}" if problem else ""
    points.sweep()
    lines = instructions_at(session, rip, 1)
    return StopReport(
        stop, rip, session.name(rip), machine.count, lines[0] if lines else None, number, note, displayed(session)
    )


@command("continue", aliases=("c", "cont", "run", "r"), resumes=True)
def continue_(session: Session) -> StopReport:
    """Run the guest until something stops it: a breakpoint, Ctrl-C, its end.

    For example:

        continue
    """
    return report_stop(session, session.run())


@command("stop")
def stop(session: Session) -> StopRequest:
    """Ask the running guest to stop.

    This is for scripts, which may call it from `machine.service`: at the prompt the guest stands still anyway.

    For example:

        stop
    """
    session.machine.request_stop("stopped by a command")
    return StopRequest(session.machine.running)


@command("stepi", aliases=("si", "step", "s"), resumes=True, repeats=True)
def stepi(session: Session, count: Count = _ONE) -> StopReport:
    """Execute COUNT instructions (1).

    Entering an interrupt handler is no instruction of its own: the step goes to the handler's first one.

    For example:

        stepi
        si 100
    """
    return report_stop(session, session.run(steps=count))


@command("nexti", aliases=("ni", "next", "n"), resumes=True, repeats=True)
def nexti(session: Session) -> StopReport:
    """Execute one instruction; a call, a repeated string instruction or a software interrupt as a whole.

    For example:

        nexti
    """
    machine = session.machine
    lines = instructions_at(session, machine.cpu.rip, 1)
    if not lines or not lines[0].mnemonic.startswith(_WHOLE):
        return stepi(session, _ONE)
    return report_stop(session, _run_over(session, lines[0]))


@command("until", aliases=("u", "advance"), resumes=True)
def until(session: Session, where: ExpressionText) -> StopReport:
    """Run until WHERE: an address, or a moment in instructions.

    `#N` is the moment after N instructions since power-on, `+N` that after N more. Other breakpoints stop the guest
    too.

    For example:

        until kmain
        until +1000
        until #500
    """
    machine = session.machine
    if not where.startswith(("#", "+")):
        return report_stop(session, _run_to(session, evaluate(session, where.removeprefix("*"))))
    distance = evaluate(session, where[1:]) - (machine.count if where.startswith("#") else 0)
    if not 0 < distance < 1 << 62:
        raise CommandError(f"{where!r} is not in the future: {machine.count:,} instructions have retired")
    return report_stop(session, session.run(steps=distance))


def _run_to(session: Session, address: int, stack: int | None = None) -> Stop:
    """Run to `address`; with `stack`, only where RSP is not below that (not in a deeper call of the same function)."""
    breakpoints = session.machine.breakpoints
    deep_enough = None if stack is None else condition_of(session, f"$rsp >= {stack:#x}")
    breakpoints.add(address, deep_enough)
    try:
        return session.run()
    finally:
        breakpoints.remove(address, deep_enough)


def _run_over(session: Session, line: InstructionLine) -> Stop:
    return _run_to(session, line.address + len(line.code), session.machine.cpu.gpr[GPR.RSP])


@command("finish", aliases=("fin",), resumes=True)
def finish(session: Session) -> StopReport:
    """Run until the current function has returned.

    That is behind a `ret` that takes its address at or above where the stack pointer is now. Calls on the way run as a
    whole, everything else in single steps, so a long loop takes its time; Ctrl-C stops.

    For example:

        finish
    """
    machine = session.machine
    stack = machine.cpu.gpr[GPR.RSP]
    while True:
        lines = instructions_at(session, machine.cpu.rip, 1)
        mnemonic = lines[0].mnemonic if lines else ""
        returns = mnemonic.startswith("ret") and machine.cpu.gpr[GPR.RSP] >= stack
        over = mnemonic.startswith(_WHOLE)
        stop = _run_over(session, lines[0]) if over else session.run(steps=1)
        passed = stop.kind is StopKind.STEP or (over and _arrived(machine, stop, lines[0]))
        if returns or not passed:
            return report_stop(session, stop)
        rip = machine.cpu.rip
        if rip in machine.breakpoints and machine.breakpoints.stops_at(rip):  # a step goes on to one without stopping
            return report_stop(session, Stop(StopKind.BREAKPOINT, f"breakpoint at {rip:#x}", address=rip))


def _arrived(machine: Machine, stop: Stop, line: InstructionLine) -> bool:
    """Whether the guest stands behind a call because that has returned, and nothing else has stopped it there."""
    behind = line.address + len(line.code)
    return stop.kind is StopKind.BREAKPOINT and machine.cpu.rip == behind and machine.numbered.stopped() is None


@command("jump", aliases=("j",), resumes=True)
def jump(session: Session, address: Place) -> StopReport:
    """Go on at ADDRESS instead of at the next instruction.

    Nothing but RIP changes: the stack stays as it is.

    For example:

        jump kmain
    """
    try:
        write_register(session.machine, "rip", address)
    except RegisterError as error:
        raise CommandError(str(error)) from error
    return report_stop(session, session.run())


@command("restart", aliases=("system_reset",))
def restart(session: Session) -> Restarted:
    """Power-cycle the machine: RAM cleared, the same kernel loaded again.

    Breakpoints stay and the instruction count goes on. A gdb that is connected has to be told with
    `maintenance flush register-cache`.

    For example:

        restart
    """
    machine = session.machine
    try:
        machine.restart()
    except (RuntimeError, BootError) as error:
        raise CommandError(str(error)) from error
    return Restarted(machine.cpu.rip, session.name(machine.cpu.rip), machine.count)


@command("quit", aliases=("q", "exit"))
def quit_(session: Session) -> NoReturn:
    """Leave dbgvmm.

    For example:

        quit
    """
    raise QuitRequest
