"""Running and stopping: `continue`, `stop`, `jump`, `restart`, `quit`; and what is said of a stop. Steps: stepping.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

from dbgvmm.boot.state import BootError
from dbgvmm.commands.disassembly import instructions_at
from dbgvmm.commands.displays import Displayed, displayed
from dbgvmm.commands.errors import CommandError, QuitRequest
from dbgvmm.commands.parameters import Place
from dbgvmm.commands.session import Session
from dbgvmm.commands.table import command
from dbgvmm.debug.inside.code import InstructionLine
from dbgvmm.debug.register_row import RegisterError
from dbgvmm.debug.registers import write_register
from dbgvmm.debug.stops import Stop, StopKind
from dbgvmm.debug.symbols.source_files import SourceError


@dataclass(frozen=True)
class SourceAt:
    """A line of source. text: without the blanks around it; "" if the file cannot be read."""

    file: str
    path: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}   {self.text}".rstrip()


@dataclass(frozen=True)
class StopReport:
    """Why and where the guest stopped: `count` instructions after power-on, in front of `instruction`.

    number: the breakpoint's. note: what is to be said beside. displayed: what `display` has asked for. source: the line that
    the instruction comes from, if that is known.
    """

    stop: Stop
    rip: int
    place: str
    count: int
    instruction: InstructionLine | None
    number: int | None
    note: str = ""
    displayed: tuple[Displayed, ...] = ()
    source: SourceAt | None = None

    def __str__(self) -> str:
        what = f"breakpoint {self.number}" if self.number is not None else self.stop.text
        where = f"   {self.instruction}" if self.instruction else f"   {self.place}"
        notes = [self.note] if self.note else []
        if self.source is not None:
            notes.append(f"   {self.source}")
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


def report_stop(session: Session, stop: Stop, note: str = "") -> StopReport:
    """What people want to know of a stop. note: beside it, in words."""
    machine, points = session.machine, session.points
    rip = machine.cpu.rip
    number = points.stopped() if stop.kind is StopKind.BREAKPOINT else None
    problem = points.breakpoints[number].problem if number is not None else ""
    note = f"   its condition has no value: {problem}" if problem else note and f"   {note}"
    points.sweep()
    lines = instructions_at(session, rip, 1)
    return StopReport(
        stop, rip, session.name(rip), machine.count, lines[0] if lines else None, number, note, displayed(session),
        source_at(session, rip),
    )  # fmt: skip


def source_at(session: Session, rip: int) -> SourceAt | None:
    """The line that an instruction comes from, if that is known."""
    line = session.symbols.source_line(rip, statement=True)
    if line is None:
        return None
    try:
        text = session.sources.line(line)
    except SourceError:
        text = ""  # `list` says why
    return SourceAt(line.file, line.path, line.line, text)


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
