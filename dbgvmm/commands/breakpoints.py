"""Breakpoints by number: `break`, `delete`, `info breakpoints`."""

from __future__ import annotations

from dataclasses import dataclass

from dbgvmm.commands.columns import columns
from dbgvmm.commands.errors import CommandError
from dbgvmm.commands.parameters import Address, Count
from dbgvmm.commands.session import Session
from dbgvmm.commands.table import command


@dataclass(frozen=True)
class BreakpointLine:
    """One breakpoint. `number` is None for one that gdb or a script has set."""

    number: int | None
    address: int
    place: str

    def __str__(self) -> str:
        return f"breakpoint {self.number} at {self.place}"


@dataclass(frozen=True)
class BreakpointList:
    """All breakpoints of the machine."""

    lines: tuple[BreakpointLine, ...]

    def __str__(self) -> str:
        if not self.lines:
            return "no breakpoints"
        rows = [("-" if line.number is None else str(line.number), line.place) for line in self.lines]
        return columns(rows, ("number", "at"))


@command("break", aliases=("b", "breakpoint"))
def break_(session: Session, address: Address | None = None) -> BreakpointLine:
    """Stop in front of the instruction at ADDRESS (the next one).

    In every address space; the guest's memory is not changed.
    """
    at = session.machine.cpu.rip if address is None else address
    session.machine.breakpoints.add(at)
    number = session.next_breakpoint
    session.next_breakpoint += 1
    session.breakpoints[number] = at
    return BreakpointLine(number, at, session.name(at))


@command("delete", aliases=("d", "del"))
def delete(session: Session, *number: Count) -> str:
    """Remove the breakpoints with these NUMBERs; without one, all that `break` has set."""
    chosen: list[int] = list(number) or list(session.breakpoints)
    for one in chosen:
        if one not in session.breakpoints:
            raise CommandError(f"there is no breakpoint {one}: `info breakpoints` lists them")
    for one in dict.fromkeys(chosen):
        session.machine.breakpoints.remove(session.breakpoints.pop(one))
    removed = len(set(chosen))
    return f"{removed} breakpoint{'' if removed == 1 else 's'} removed"


@command("info breakpoints", aliases=("info b",))
def info_breakpoints(session: Session) -> BreakpointList:
    """List the breakpoints: those of `break` by number, and those that gdb or a script has set."""
    lines = [BreakpointLine(number, at, session.name(at)) for number, at in session.breakpoints.items()]
    ours = set(session.breakpoints.values())
    lines += [BreakpointLine(None, at, session.name(at)) for at in session.machine.breakpoints if at not in ours]
    return BreakpointList(tuple(lines))
