"""Why accesses to a page are slow: everything that the monitor does about it, with how often it has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dbgvmm.debug.inside.faults import explain_access
from dbgvmm.debug.inside.sites import place
from dbgvmm.hardware.layout import MASK64, PAGE_SHIFT, PAGE_SIZE
from dbgvmm.mmu.access import READ
from dbgvmm.mmu.trace_kinds import CODE, HIDE, IN_PLACE, TABLE, WATCH
from dbgvmm.mmu.writers import NOBODY

if TYPE_CHECKING:
    from dbgvmm.machine import Machine


@dataclass(frozen=True)
class SlowReason:
    """One thing that makes some accesses to a page slow. times: how often it has, None if nobody counts that.

    kind: "traced table", "traced code", "watched", "mmio", "not mapped", "not in the shadow", "executable", "large",
    "code that dies", "accused", "guilty", "guarded", "opened".
    """

    kind: str
    text: str
    times: int | None


@dataclass(frozen=True)
class SlowReport:
    """A page (linear, and its frame's address; None if it is not mapped), and what is slow about it."""

    page: int
    place: str
    gpa: int | None
    reasons: tuple[SlowReason, ...]


def why_slow(machine: Machine, address: int) -> SlowReport:
    """The page of a linear address."""
    report = explain_access(machine, address, READ)
    page = address & -PAGE_SIZE & MASK64
    name = place(machine.symbols, address)
    if report.guest is None or report.guest.gpa is None:
        problem = "the address is not canonical" if report.guest is None else report.guest.problem
        text = f"each access is a fault of the guest's: {problem}"
        return SlowReport(page, name, None, (SlowReason("not mapped", text, None),))
    gpa = report.guest.gpa & -PAGE_SIZE
    reasons: list[SlowReason] = []
    if report.mmio:
        windows = machine.board.mmio.windows()
        device = any(base <= gpa < base + size for base, size in windows)
        text = "each access is carried out by " + ("a device's MMIO handler" if device else "nobody: it reads as ones")
        return SlowReport(page, name, gpa, (SlowReason("mmio", text, None),))
    reasons += _traces(machine, gpa >> PAGE_SHIFT)
    if report.outcome == "hidden":
        reasons.append(SlowReason("not in the shadow", f"the next access is a hidden fault, once ({report.state})", None))
    elif report.state in ("clean", "untraced"):
        reasons.append(SlowReason("not in the shadow", f"the next write is a hidden fault, once ({report.state})", None))
    if report.guest.page_size > PAGE_SIZE and gpa >> 21 in machine.mmu.regions.tables:
        beside = sum(frame >> 9 == gpa >> 21 for frame in machine.mmu.traces.kinds)
        if beside:
            size = report.guest.page_size >> 20
            text = f"part of a page of {size} MiB, of which {beside} frames are traced: only these are slow"
            reasons.append(SlowReason("large", text, None))
    if machine.mmu.user_execute and report.guest.user and report.guest.executable:
        text = "user code runs in place here, so that the engine checks each store to it for self-modifying code"
        reasons.append(SlowReason("executable", text, None))
    reasons += _code(machine, page, gpa >> PAGE_SHIFT)
    return SlowReport(page, name, gpa, tuple(reasons))


def _traces(machine: Machine, frame: int) -> list[SlowReason]:
    kinds = machine.mmu.traces.kinds.get(frame, 0)
    noted = machine.mmu.writers.frames.get(frame)
    times = 0 if noted is None else noted.faults + noted.stores + noted.monitor
    cost = ""
    if noted is not None:
        who = "the monitor" if noted.rip == NOBODY else place(machine.symbols, noted.rip)
        cost = f": {noted.faults:,} faults, {noted.stores:,} adapted stores, {noted.monitor:,} by the monitor; last by {who}"
    found = []
    if kinds & TABLE:
        found.append(SlowReason("traced table", f"each write is an exit, as it is a page table with a shadow{cost}", times))
    if kinds & CODE:
        found.append(SlowReason("traced code", f"each write is an exit, as code on it has been translated{cost}", times))
    if kinds & IN_PLACE:
        found.append(SlowReason("traced code", f"each write is an exit, as code on it runs in place{cost}", times))
    if kinds & (WATCH | HIDE):
        what = "access" if kinds & HIDE else "write"
        found.append(SlowReason("watched", f"each {what} is an exit, as a debugger watches bytes on it{cost}", times))
    if not kinds and noted is not None:
        found.append(SlowReason("opened", f"it was traced, and is not any more{cost}", times))
    return found


def _code(machine: Machine, page: int, frame: int) -> list[SlowReason]:
    """What makes code on a page slow."""
    cache = machine.cache
    found = []
    died: dict[str, int] = {}
    for dead in cache.history.dead:
        if dead.guest_rip & -PAGE_SIZE == page:
            died[dead.why] = died.get(dead.why, 0) + 1
    found += [
        SlowReason("code that dies", f"translations of its code were thrown away: {why}", number)
        for why, number in died.items()
    ]
    for code in cache.by_frame.get(frame, ()):
        for offset, number in sorted(code.accused.items()):
            kind = "guilty" if offset in code.guilty else "accused"
            text = "goes straight to the monitor" if kind == "guilty" else "has hit traces"
            found.append(SlowReason(kind, f"the store at {place(machine.symbols, code.va | offset)} {text}", number))
        for offset in sorted(code.guards):
            where = place(machine.symbols, code.va | offset)
            text = f"the access at {where} compares with a watched range"
            found.append(SlowReason("guarded", text, code.beside.get(offset)))
    return found
