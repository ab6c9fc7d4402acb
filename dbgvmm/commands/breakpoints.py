"""Breakpoints and watchpoints by number: `break`, `tbreak`, `watch`, `info breakpoints`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dbgvmm.commands.catchpoints import CatchpointLine
from dbgvmm.commands.columns import columns
from dbgvmm.commands.errors import CommandError
from dbgvmm.commands.expression import condition as condition_of
from dbgvmm.commands.parameters import Address, Count, ExpressionWord, Place
from dbgvmm.commands.session import Session
from dbgvmm.commands.table import command
from dbgvmm.debug.address_space import CR3_TABLE, InAddressSpace
from dbgvmm.debug.breakpoints import Condition
from dbgvmm.debug.numbered import NumberedBreakpoint
from dbgvmm.debug.watchpoints import Watch

_KINDS = {(False, True): "write", (True, False): "read", (True, True): "access"}
_ONE = Count(1)
_PHYSICAL = " physical"
_IF = "if"


@dataclass(frozen=True)
class BreakpointLine:
    """One breakpoint. `number` is None for one without: `owner` says whose that is ("gdb", or "" for a script's).

    condition: as it was typed. compiled: it runs in the translation. ignore: so many arrivals more go on.
    """

    number: int | None
    address: int
    place: str
    note: str = ""
    owner: str = ""
    condition: str = ""
    compiled: bool = False
    enabled: bool = True
    temporary: bool = False
    hits: int = 0
    ignore: int = 0

    @property
    def what(self) -> str:
        """Place, condition and what else is special."""
        words = [
            f"if {self.condition}" if self.condition else "",
            "once" if self.temporary else "",
            f"the next {self.ignore} ignored" if self.ignore else "",
            f"hit {self.hits} time{'s'[: self.hits != 1]}" if self.hits else "",
        ]
        return ", ".join([self.place + self.note, *filter(None, words)])

    def __str__(self) -> str:
        return f"{'temporary ' if self.temporary else ''}breakpoint {self.number} at {self.place}{self.note}" + (
            f" if {self.condition}" if self.condition else ""
        )


@dataclass(frozen=True)
class WatchpointLine:
    """One watchpoint; number and owner are as a breakpoint's."""

    number: int | None
    watch: Watch
    place: str
    owner: str = ""
    enabled: bool = True

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
        rows = [_row(line, "break", line.what) for line in self.lines]
        rows += [_row(line, line.kind, line.range) for line in self.watchpoints]
        rows += [_row(line, "catch", line.what) for line in self.catchpoints]
        return columns(rows, ("number", "kind", "at"))


def _row(line: BreakpointLine | WatchpointLine | CatchpointLine, kind: str, what: str) -> tuple[str, str, str]:
    number = (line.owner or "-") if line.number is None else str(line.number)
    return number, kind, what if line.enabled else f"{what}, disabled"


@command("break", aliases=("b", "breakpoint", "hbreak"))
def break_(
    session: Session,
    address: Place | None = None,
    *condition: ExpressionWord,
    phys: bool = False,
    cr3: Address | None = None,
) -> BreakpointLine:
    """Stop in front of the instruction at ADDRESS (the next one); `if EXPRESSION`: only where that holds.

    The next one is the selected frame's: of a caller, the one behind its call. It stops in every address space, or only in that
    whose top-level page table CR3 points to (`--cr3 $cr3`: the current one).
    `--phys`: ADDRESS is guest-physical, at whatever linear address it is executed. The guest's memory is not changed.
    A condition of registers, memory and numbers is compiled into the translation: where it does not hold, it costs
    nanoseconds.

    For example:

        break kmain
        b console_putc if $dil == 'e' && $count > 1000
        b console_putc --cr3 $cr3
        break 0x106000 --phys
    """
    return _break(session, address, condition, phys, cr3, temporary=False)


@command("tbreak", aliases=("tb", "thbreak"))
def tbreak(
    session: Session,
    address: Place | None = None,
    *condition: ExpressionWord,
    phys: bool = False,
    cr3: Address | None = None,
) -> BreakpointLine:
    """Stop once in front of the instruction at ADDRESS; everything else is as with `break`.

    For example:

        tbreak kmain
    """
    return _break(session, address, condition, phys, cr3, temporary=True)


def _break(
    session: Session,
    address: Place | None,
    words: tuple[ExpressionWord, ...],
    phys: bool,
    cr3: Address | None,
    *,
    temporary: bool,
) -> BreakpointLine:
    if phys and cr3 is not None:
        raise CommandError("--phys and --cr3 exclude each other: physical memory is the same in every address space")
    machine = session.machine
    rip = session.pc
    at: int | None = rip if address is None else int(address)
    if phys:
        at = machine.mmu.walk_report(rip).gpa if address is None else at
        if at is None or at >= machine.ram.size:
            raise CommandError(f"{session.name(rip) if at is None else hex(at)} is not in RAM: nothing runs there")
    assert at is not None
    note = _PHYSICAL if phys else "" if cr3 is None else f" in the address space of CR3 {cr3:#x}"
    point = NumberedBreakpoint(
        at, lambda: machine.count, _condition(session, address, words, cr3), note, physical=phys, temporary=temporary
    )
    return _line(session, session.points.add(point), point)


def _condition(
    session: Session, address: Place | None, words: tuple[ExpressionWord, ...], cr3: Address | None
) -> Condition | None:
    if not words:
        return None if cr3 is None else InAddressSpace(session.machine.cpu, cr3)
    # After `break if ...` the first word was taken for the address.
    text = " ".join(words[words[0] == _IF :])
    if words[0] != _IF and address is not None:
        raise CommandError(f"{words[0]!r} was not expected here: a condition begins with `if`")
    if not text:
        raise CommandError("what the condition is, is missing: break ADDRESS if EXPRESSION")
    if cr3 is not None:
        return condition_of(session, f"($cr3 & {CR3_TABLE:#x}) == {cr3 & CR3_TABLE:#x} && ({text})")
    return condition_of(session, text)


def _line(session: Session, number: int, point: NumberedBreakpoint) -> BreakpointLine:
    return BreakpointLine(
        number, point.address, f"{point.address:#x}" if point.physical else session.name(point.address), point.note,
        "", str(getattr(point.condition, "text", "")), point.probe is not None, point.enabled, point.temporary,
        point.hits, point.ignore,
    )  # fmt: skip


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
        number = session.points.add(wanted)
    except ValueError as error:
        raise CommandError(str(error)) from error
    return _watchpoint_line(session, number, wanted)


def _watchpoint_line(session: Session, number: int | None, wanted: Watch, owner: str = "") -> WatchpointLine:
    place = f"{wanted.start:#x}" if wanted.physical else session.name(wanted.start)
    return WatchpointLine(number, wanted, place, owner, number not in session.points.disabled)


@command("info breakpoints", aliases=("info b", "info watchpoints"))
def info_breakpoints(session: Session) -> BreakpointList:
    """List breakpoints, watchpoints and catchpoints.

    Those of `break`, `watch` and `catch` by number, whoever has set them; those of gdb say `gdb`, those of scripts `-`.

    For example:

        info breakpoints
        i b --json
    """
    machine, points = session.machine, session.points
    points.sweep()
    lines = [_line(session, number, point) for number, point in points.breakpoints.items()]
    watched = [_watchpoint_line(session, number, item) for number, item in points.watchpoints.items()]
    owned: set[int] = set()
    owned_watches: set[Watch] = set()
    for owner in machine.breakpoints.owners:
        addresses = sorted(owner.breakpoint_addresses())
        watches = sorted(owner.owned_watchpoints(), key=lambda one: one.start)
        lines += [BreakpointLine(None, at, session.name(at), owner=owner.owner_name) for at in addresses]
        watched += [_watchpoint_line(session, None, one, owner.owner_name) for one in watches]
        owned.update(addresses)
        owned_watches.update(watches)
    ours = {point.address for point in points.breakpoints.values() if not point.physical and point.enabled} | owned
    made = machine.physical_breakpoints.made
    lines += [BreakpointLine(None, at, session.name(at)) for at in machine.breakpoints if at not in ours and not made(at)]
    known = set(points.watchpoints.values()) | owned_watches
    watched += [_watchpoint_line(session, None, item) for item in machine.watchpoints if item not in known]
    caught = [CatchpointLine(number, item, number not in points.disabled) for number, item in points.catchpoints.items()]
    others = set(machine.catchpoints) - set(points.catchpoints.values())
    caught += [CatchpointLine(None, item) for item in machine.catchpoints if item in others]
    return BreakpointList(tuple(lines), tuple(watched), tuple(caught))
