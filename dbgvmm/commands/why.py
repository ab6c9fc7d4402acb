"""`why`: the monitor explains itself. `why fault`, `why exit`, `why tu`, `why slow`; docs/inside.md has sessions."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final, Literal

from dbgvmm.commands.columns import columns
from dbgvmm.commands.errors import CommandError
from dbgvmm.commands.memory import entry_words
from dbgvmm.commands.parameters import Address
from dbgvmm.commands.plural import several, times
from dbgvmm.commands.session import Session
from dbgvmm.commands.table import command
from dbgvmm.commands.tc import NamedUnit, life_row, named
from dbgvmm.debug.inside.faults import AccessReport, FaultReport, explain_access, last_fault
from dbgvmm.debug.inside.last_exit import ExitReport, last_exit
from dbgvmm.debug.inside.slowness import SlowReport, why_slow
from dbgvmm.debug.inside.units import lives
from dbgvmm.mmu.access import FETCH, READ, USER, WRITE

_OF_INSTRUCTIONS: Final = frozenset(("accused", "guilty", "guarded"))
_MOST: Final = 8
_KINDS: Final = {"r": READ, "w": WRITE, "x": FETCH}
_OUTCOMES: Final = {
    "true": "a true fault: the guest gets #PF",
    "hidden": "a hidden fault: the monitor fills the shadow, and the guest learns nothing of it",
    "trace": "a trace fault: the monitor carries the access out, and applies what follows from it",
    "none": "nothing: the hardware finds it in the shadow",
    "translated": "nothing: it is translated, and runs out of the TC, where the shadow of its page does not matter",
    "noncanonical": "#GP (or #SS for a stack access): the address is not canonical",
}


def _access_lines(report: AccessReport) -> list[str]:
    lines = [f"a {report.access} of {report.place} now: {_OUTCOMES[report.outcome]}"]
    verdict = report.verdict
    if verdict is not None:
        code = "" if verdict.allowed else f", error code {verdict.error_code:#x}"
        level = f", decided by the {verdict.level}" if verdict.level else ""
        lines.append(f"  rule: {verdict.rule}{level}{code} ({verdict.source})")
    if report.guest is not None:
        rows = [
            ("  guest", x.name, f"[{x.index}]", f"at {x.entry_gpa:#x}", f"{x.entry:016x}", entry_words(x.entry))
            for x in report.guest.levels
        ]
        rows += [("  shadow", x.name, f"[{x.index}]", "", f"{x.entry:016x}", entry_words(x.entry)) for x in report.shadow]
        lines.append(columns(rows))
        if report.guest.gpa is not None:
            lines.append(f"  physical {report.guest.gpa:#x}{', which is not RAM: MMIO' if report.mmio else ''}")
    if report.state:
        lines.append(f"  the shadow is {report.state}" + (f" ({report.detail})" if report.detail else ""))
    if report.traced:
        lines.append(f"  the frame is traced: {report.traced}")
    lines += [
        f"  {x.level} at {x.gpa:#x} was last written by {x.place}, after {x.count:,} instructions" for x in report.writers
    ]
    return lines


@dataclass(frozen=True)
class WhyAccess:
    """What an access would meet."""

    access: AccessReport

    def __str__(self) -> str:
        return "\n".join(_access_lines(self.access))


@dataclass(frozen=True)
class WhyFault:
    """The last fault that the guest got, and what the same access would meet now."""

    fault: FaultReport

    def __str__(self) -> str:
        x = self.fault
        code = "" if x.error_code is None else f", error code {x.error_code:#x}{f' ({x.error})' if x.error else ''}"
        at = "" if x.cr2 is None else f", address {x.cr2:#x}"
        lines = [f"{x.name}{code}{at}, at {x.place}, CPL {x.cpl}, after {x.count:,} instructions"]
        if x.reason:
            lines.append(f"  reason: {x.reason}")
        if x.cr2 is not None:
            if x.entry_gpa < 0:
                lines.append("  the walk ended at a table outside RAM")
            else:
                now = "" if x.entry_now == x.entry else f"; now {x.entry_now:016x} ({entry_words(x.entry_now)})"
                lines.append(
                    f"  the walk ended at the entry at {x.entry_gpa:#x}, then {x.entry:016x} ({entry_words(x.entry)}){now}"
                )
        return "\n".join(lines + (_access_lines(x.access) if x.access is not None else []))


@dataclass(frozen=True)
class WhyExit:
    """The last exit."""

    exit: ExitReport

    def __str__(self) -> str:
        x = self.exit
        detail = f" ({x.detail})" if x.detail else ""
        rows = [("mechanism", f"{x.mechanism}{detail}: {x.meaning}"), ("exit", f"no. {x.number:,}, TC {x.tc_rip:#x}")]
        if x.site:
            rows.append(("site", x.site))
        if x.place:
            rows.append(("guest", f"{x.place}{f': {x.instruction}' if x.instruction else ''}"))
        if x.address is not None:
            rows.append(("address", f"{x.address:#x}"))
        rows.append(("cost", f"{x.mean_us:.1f} us of the host's time on average, {times(x.times)} so far"))
        if x.stop:
            rows.append(("stopped", x.stop))
        return columns(rows)


@dataclass(frozen=True)
class WhyUnit:
    """The units of an address. window: whether its code may run in this address space without a window fault."""

    place: str
    units: tuple[NamedUnit, ...]
    reasons: dict[str, int]
    window: str
    forgotten: int

    def __str__(self) -> str:
        made = len(self.units)
        lines = [f"{self.place}: {several(made, 'unit')} made, {sum(self.reasons.values())} thrown away"]
        lines += [f"  {_times(number)}: {why}" for why, number in self.reasons.items()]
        if not self.reasons:
            lines.append("  it was translated once, and is not translated again")
        lines.append(columns(life_row(item) for item in self.units))
        if self.window:
            lines.append(f"window: {self.window}")
        if self.forgotten:
            lines.append(f"{self.forgotten:,} units (of any code) died longer ago than is remembered")
        return "\n".join(lines)


@dataclass(frozen=True)
class WhySlow:
    """What is slow about a page."""

    report: SlowReport

    def __str__(self) -> str:
        x = self.report
        where = "not mapped" if x.gpa is None else f"physical {x.gpa:#x}"
        if not x.reasons:
            return f"page {x.page:#x} ({x.place}), {where}: nothing is slow about it, the hardware goes through"
        # What single instructions of the page have met comes last, most often first.
        first = [reason for reason in x.reasons if reason.kind not in _OF_INSTRUCTIONS]
        others = sorted((reason for reason in x.reasons if reason.kind in _OF_INSTRUCTIONS), key=lambda y: -(y.times or 0))
        rows = [(_times(y.times), y.kind, y.text) for y in (*first, *others[:_MOST])]
        more = f"\n... and {len(others) - _MOST} more instructions" if len(others) > _MOST else ""
        return f"page {x.page:#x} ({x.place}), {where}\n{columns(rows, right=(0,))}{more}"


def _times(number: int | None) -> str:
    return "" if number is None else times(number)


@command("why fault")
def why_fault(
    session: Session,
    address: Address | None = None,
    *,
    access: Literal["r", "w", "x"] = "r",
    user: bool = False,
    kernel: bool = False,
) -> WhyFault | WhyAccess:
    """Explain the last fault that the guest got; or what an access to a linear ADDRESS would meet.

    Shown are the rule of the manual that decides, the guest's walk and the shadow's, why the frame is traced, and who wrote the
    entries last. ACCESS is r, w or x. USER and KERNEL say with which privilege (the CPU's, if neither).
    `catch exception pf` stops in front of a page fault.

    For example:

        why fault
        why fault rip --access w
        why fault 0x1000 --user
    """
    machine = session.machine
    if address is None:
        fault = last_fault(machine)
        if fault is None:
            raise CommandError("the guest has had no fault so far: give an ADDRESS, and --access r, w or x")
        return WhyFault(fault)
    if user and kernel:
        raise CommandError("--user or --kernel, not both")
    privilege = USER if user or machine.cpu.cpl == 3 and not kernel else 0
    try:
        return WhyAccess(explain_access(machine, address, _KINDS[access] | privilege))
    except ValueError as error:
        raise CommandError(f"{error}: `shadow check` says more") from error


@command("why exit")
def why_exit(session: Session) -> WhyExit:
    """Explain the last exit from translated code: mechanism, site, guest instruction, cost.

    For example:

        why exit
    """
    found = last_exit(session.machine)
    if found is None:
        raise CommandError("translated code was not left yet: run the guest first")
    return WhyExit(found)


@command("why tu")
def why_tu(session: Session, address: Address | None = None) -> WhyUnit:
    """Explain why the code at ADDRESS (the next instruction) is translated again and again.

    For example:

        why tu kmain
    """
    machine = session.machine
    at = machine.cpu.rip if address is None else address
    found = tuple(named(session, unit) for unit in lives(machine, at))
    if not found:
        raise CommandError(f"no translation unit began at {session.name(at)} so far: `tc show` knows those that cover it")
    reasons = Counter(item.unit.why for item in found if not item.unit.live)
    window = ""
    live = next((item.unit for item in found if item.unit.live), None)
    if live is not None:
        index = machine.cache.tc_pages
        page = next((page for page in index.values() if page.unit_at(live.tc_start) is not None), None)
        if page is not None:
            is_open = any(
                known.tc_page == page.index and (page.owner.is_global or known.tables is machine.mmu.current.monitor)
                for known in machine.mmu.windows.open.values()
            )
            window = (
                "open in this address space" if is_open
                else "closed here: the next jump to it is a window fault, which looks whether its page is still mapped so"
            )  # fmt: skip
    return WhyUnit(session.name(at), found, dict(reasons.most_common()), window, machine.cache.history.forgotten)


@command("why slow")
def why_slow_command(session: Session, address: Address) -> WhySlow:
    """Explain what makes accesses to the page of ADDRESS slow, or its code.

    Traces, watchpoints, MMIO, code that dies, each with how often each has cost an exit, where that is counted.

    For example:

        why slow kmain
        why slow rsp
    """
    return WhySlow(why_slow(session.machine, address))
