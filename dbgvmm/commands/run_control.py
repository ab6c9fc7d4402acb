"""Running and stopping: `continue`, `stop`, `stepi`, `nexti`, `until`, `restart`, `quit`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dbgvmm.boot.state import BootError
from dbgvmm.commands.disassembly import InstructionLine, instructions_at
from dbgvmm.commands.errors import CommandError, QuitRequest
from dbgvmm.commands.expression import evaluate
from dbgvmm.commands.parameters import Count
from dbgvmm.commands.session import Session
from dbgvmm.commands.table import command
from dbgvmm.debug.stops import Stop, StopKind

_ONE: Final = Count(1)


@dataclass(frozen=True)
class StopReport:
    """Why and where the guest stopped: `count` instructions after power-on, in front of `instruction`."""

    stop: Stop
    rip: int
    place: str
    count: int
    instruction: InstructionLine | None
    number: int | None

    def __str__(self) -> str:
        what = f"breakpoint {self.number}" if self.number is not None else self.stop.text
        where = f"   {self.instruction}" if self.instruction else f"   {self.place}"
        return f"{what}, after {self.count:,} instructions\n{where}"


def report_stop(session: Session, stop: Stop) -> StopReport:
    """What people want to know of a stop."""
    machine = session.machine
    rip = machine.cpu.rip
    physical = machine.physical_breakpoints.at(rip)
    numbers = [
        number for number, item in session.breakpoints.items() if item.address == (physical if item.physical else rip)
    ]
    number = numbers[0] if numbers and stop.kind is StopKind.BREAKPOINT else None
    lines = instructions_at(session, rip, 1)
    return StopReport(stop, rip, session.name(rip), machine.count, lines[0] if lines else None, number)


@command("continue", aliases=("c", "cont", "run", "r"), resumes=True)
def continue_(session: Session) -> StopReport:
    """Run the guest until something stops it: a breakpoint, Ctrl-C, its end.

    For example:

        continue
    """
    return report_stop(session, session.run())


@command("stop")
def stop(session: Session) -> str:
    """Ask the running guest to stop.

    This is for scripts, which may call it from `machine.service`: at the prompt the guest stands still anyway.

    For example:

        stop
    """
    session.machine.request_stop("stopped by a command")
    return "the guest stops at its next exit, if it is running"


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
    if not lines or not lines[0].mnemonic.startswith(("call", "rep", "int", "syscall")):
        return stepi(session, _ONE)
    return report_stop(session, _run_to(session, lines[0].address + len(lines[0].code)))


@command("until", aliases=("u",), resumes=True)
def until(session: Session, where: str) -> StopReport:
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
        return report_stop(session, _run_to(session, evaluate(session, where)))
    distance = evaluate(session, where[1:]) - (machine.count if where.startswith("#") else 0)
    if not 0 < distance < 1 << 62:
        raise CommandError(f"{where!r} is not in the future: {machine.count:,} instructions have retired")
    return report_stop(session, session.run(steps=distance))


def _run_to(session: Session, address: int) -> Stop:
    breakpoints = session.machine.breakpoints
    breakpoints.add(address)
    try:
        return session.run()
    finally:
        breakpoints.remove(address)


@command("restart", aliases=("system_reset",))
def restart(session: Session) -> str:
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
    return f"restarted: the next instruction is at {session.name(machine.cpu.rip)}"


@command("quit", aliases=("q", "exit"))
def quit_(session: Session) -> str:
    """Leave dbgvmm.

    For example:

        quit
    """
    raise QuitRequest
