"""Breakpoints and watchpoints by number: `break`, `watch`, `delete`, `info breakpoints`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dbgvmm.commands.catchpoints import CatchpointLine
from dbgvmm.commands.columns import columns
from dbgvmm.commands.errors import CommandError
from dbgvmm.commands.parameters import Address, Count
from dbgvmm.commands.session import NumberedBreakpoint, Session
from dbgvmm.commands.table import command
from dbgvmm.debug.address_space import InAddressSpace
from dbgvmm.debug.watchpoints import Watch

_KINDS = {(False, True): "write", (True, False): "read", (True, True): "access"}
_ONE = Count(1)
_PHYSICAL = " physical"


@dataclass(frozen=True)
class BreakpointLine:
    """One breakpoint. `number` is None for one that gdb or a script has set."""

    number: int | None
    address: int
    place: str
    note: str = ""

    def __str__(self) -> str:
        return f"breakpoint {self.number} at {self.place}{self.note}"


@dataclass(frozen=True)
class WatchpointLine:
    """One watchpoint."""

    number: int | None
    watch: Watch
    place: str

    @property
    def kind(self) -> str:
        """write, read or access."""
        return _KINDS[self.watch.reads, self.watch.writes]

    @property
    def range(self) -> str:
        """Which bytes, and where they count."""
        watch = self.watch
        space = " physical" if watch.physical else "" if watch.cr3 is None else f" in the address space of CR3 {watch.cr3:#x}"
        return f"{watch.length} bytes at {self.place}{space}" if watch.length > 1 else f"1 byte at {self.place}{space}"

    def __str__(self) -> str:
        return f"watchpoint {self.number} ({self.kind}): {self.range}"


@dataclass(frozen=True)
class BreakpointList:
    """All breakpoints and watchpoints of the machine."""

    lines: tuple[BreakpointLine, ...]
    watchpoints: tuple[WatchpointLine, ...] = ()
    catchpoints: tuple[CatchpointLine, ...] = ()

    def __str__(self) -> str:
        if not self.lines and not self.watchpoints and not self.catchpoints:
            return "no breakpoints"
        rows = [("-" if line.number is None else str(line.number), "break", line.place + line.note) for line in self.lines]
        rows += [("-" if line.number is None else str(line.number), line.kind, line.range) for line in self.watchpoints]
        rows += [("-" if line.number is None else str(line.number), "catch", line.what) for line in self.catchpoints]
        return columns(rows, ("number", "kind", "at"))


@command("break", aliases=("b", "breakpoint"))
def break_(
    session: Session, address: Address | None = None, *, phys: bool = False, cr3: Address | None = None
) -> BreakpointLine:
    """Stop in front of the instruction at ADDRESS (the next one).

    In every address space, or only in that whose top-level page table CR3 points to (`--cr3 $cr3`: the current one).
    `--phys`: ADDRESS is guest-physical, at whatever linear address it is executed. The guest's memory is not changed.

    For example:

        break kmain
        b console_putc --cr3 $cr3
        break 0x106000 --phys
    """
    machine = session.machine
    if phys:
        return _break_physical(session, address, cr3)
    at = machine.cpu.rip if address is None else address
    condition = None if cr3 is None else InAddressSpace(machine.cpu, cr3)
    note = "" if cr3 is None else f" in the address space of CR3 {cr3:#x}"
    machine.breakpoints.add(at, condition)
    number = session.next_breakpoint
    session.next_breakpoint += 1
    session.breakpoints[number] = NumberedBreakpoint(at, condition, note)
    return BreakpointLine(number, at, session.name(at), note)


def _break_physical(session: Session, address: Address | None, cr3: Address | None) -> BreakpointLine:
    if cr3 is not None:
        raise CommandError("--phys and --cr3 exclude each other: physical memory is the same in every address space")
    machine = session.machine
    at = machine.mmu.walk_report(machine.cpu.rip).gpa if address is None else int(address)
    if at is None or at >= machine.ram.size:
        raise CommandError(f"{session.name(machine.cpu.rip) if at is None else hex(at)} is not in RAM: nothing runs there")
    machine.physical_breakpoints.add(at)
    number = session.next_breakpoint
    session.next_breakpoint += 1
    session.breakpoints[number] = NumberedBreakpoint(at, None, _PHYSICAL, physical=True)
    return BreakpointLine(number, at, f"{at:#x}", _PHYSICAL)


@command("watch", aliases=("watchpoint",))
def watch(
    session: Session,
    address: Address,
    length: Count = _ONE,
    kind: Literal["write", "read", "access"] = "write",
    *,
    phys: bool = False,
    cr3: Address | None = None,
) -> WatchpointLine:
    """Stop behind an instruction that writes, reads or accesses any of LENGTH bytes (1) at ADDRESS.

    `--phys`: ADDRESS is guest-physical, whoever maps it and however. `--cr3`: only in that address space. What the CPU
    itself accesses (the frames of interrupts) counts too; what devices and debuggers do does not.

    For example:

        watch 0x10c000 8
        watch $rsp 16 access
    """
    if phys and cr3 is not None:
        raise CommandError("--phys and --cr3 exclude each other: physical memory is the same in every address space")
    try:
        wanted = Watch(address, length, reads=kind != "write", writes=kind != "read", physical=phys, cr3=cr3)
        session.machine.watchpoints.add(wanted)
    except ValueError as error:
        raise CommandError(str(error)) from error
    number = session.next_breakpoint
    session.next_breakpoint += 1
    session.watchpoints[number] = wanted
    return _watchpoint_line(session, number, wanted)


def _watchpoint_line(session: Session, number: int | None, wanted: Watch) -> WatchpointLine:
    return WatchpointLine(number, wanted, f"{wanted.start:#x}" if wanted.physical else session.name(wanted.start))


@command("delete", aliases=("d", "del"))
def delete(session: Session, *number: Count) -> str:
    """Remove the breakpoints, watchpoints and catchpoints with these NUMBERs, or all that have one.

    For example:

        delete 1 2
        delete
    """
    machine = session.machine
    numbered = {*session.breakpoints, *session.watchpoints, *session.catchpoints}
    chosen: list[int] = list(number) or sorted(numbered)
    for one in chosen:
        if one not in numbered:
            raise CommandError(f"there is no breakpoint {one}: `info breakpoints` lists them")
    for one in dict.fromkeys(chosen):
        if one in session.breakpoints:
            breakpoint = session.breakpoints.pop(one)
            if breakpoint.physical:
                machine.physical_breakpoints.remove(breakpoint.address)
            else:
                machine.breakpoints.remove(breakpoint.address, breakpoint.condition)
        elif one in session.watchpoints:
            machine.watchpoints.remove(session.watchpoints.pop(one))
        else:
            machine.catchpoints.remove(session.catchpoints.pop(one))
    removed = len(set(chosen))
    return f"{removed} breakpoint{'' if removed == 1 else 's'} removed"


@command("info breakpoints", aliases=("info b", "info watchpoints"))
def info_breakpoints(session: Session) -> BreakpointList:
    """List breakpoints, watchpoints and catchpoints.

    Those of `break`, `watch` and `catch` by number, and those that gdb or a script has set.

    For example:

        info breakpoints
    """
    machine = session.machine
    lines = [
        BreakpointLine(number, item.address, f"{item.address:#x}" if item.physical else session.name(item.address), item.note)
        for number, item in session.breakpoints.items()
    ]
    ours = {item.address for item in session.breakpoints.values() if not item.physical}
    made = machine.physical_breakpoints.made
    lines += [BreakpointLine(None, at, session.name(at)) for at in machine.breakpoints if at not in ours and not made(at)]
    watched = [_watchpoint_line(session, number, item) for number, item in session.watchpoints.items()]
    known = set(session.watchpoints.values())
    watched += [_watchpoint_line(session, None, item) for item in machine.watchpoints if item not in known]
    caught = [CatchpointLine(number, item) for number, item in session.catchpoints.items()]
    others = set(machine.catchpoints) - set(session.catchpoints.values())
    caught += [CatchpointLine(None, item) for item in machine.catchpoints if item in others]
    return BreakpointList(tuple(lines), tuple(watched), tuple(caught))
