"""Why an access faults: the guest's walk and the shadow's, the manual's rule, traces, and who wrote the entry last."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from dbgvmm.cpu.bits import PageFaultError, SelectorError, Vector, is_canonical
from dbgvmm.debug.inside.sites import place
from dbgvmm.hardware.layout import PAGE_SHIFT
from dbgvmm.mmu.access import FETCH, USER, WRITE
from dbgvmm.mmu.differences import state_of
from dbgvmm.mmu.inspect import ShadowLevel, shadow_levels, shadow_walk
from dbgvmm.mmu.trace_kinds import HIDE, trace_words
from dbgvmm.mmu.verdict import Verdict, access_words, judge
from dbgvmm.mmu.walk import WalkReport
from dbgvmm.mmu.writers import NOBODY

if TYPE_CHECKING:
    from dbgvmm.machine import Machine


@dataclass(frozen=True)
class EntryWriter:
    """Who wrote a page-table entry last: a guest instruction, or the monitor (rip -1); at which instruction count."""

    level: str
    gpa: int
    rip: int
    place: str
    count: int


@dataclass(frozen=True)
class AccessReport:
    """What an access meets now.

    outcome: "true" (the guest gets #PF), "hidden" (the shadow is filled), "trace" (the monitor carries it out), "none" (the
    hardware goes through), "translated" (of a fetch: not the page is executed, but its translation), "noncanonical" (the
    guest gets #GP or #SS). state, detail: how guest and shadow differ (mmu/differences.py). traced: why the frame is traced.
    writers: of the entries of the guest's walk, as far as known.
    """

    va: int
    place: str
    access: str
    outcome: str
    verdict: Verdict | None
    guest: WalkReport | None
    shadow: tuple[ShadowLevel, ...]
    state: str
    detail: str
    traced: str
    mmio: bool
    writers: tuple[EntryWriter, ...]


@dataclass(frozen=True)
class FaultReport:
    """The last fault that the guest got.

    rip: the instruction that faulted, after `count` instructions, at CPL `cpl`. entry_gpa, entry: of a page fault, the
    guest's entry that the walk ended at, and what it said then (-1: there is none in RAM). error: the error code in words.
    access: what the same access would meet now.
    """

    name: str
    vector: int
    error_code: int | None
    error: str
    cr2: int | None
    reason: str
    rip: int
    place: str
    cpl: int
    count: int
    entry_gpa: int
    entry: int
    entry_now: int
    access: AccessReport | None


def explain_access(machine: Machine, va: int, access: int) -> AccessReport:
    """What an access (READ, WRITE, FETCH, or-ed with USER) to a linear address would meet. Nothing is changed."""
    mmu = machine.mmu
    root = mmu.current
    name, words = place(machine.symbols, va), access_words(access)
    if root.page is not None and not is_canonical(va):
        return AccessReport(va, name, words, "noncanonical", None, None, (), "", "", "", False, ())
    guest = mmu.report_in(root, va)
    verdict = judge(mmu, root, guest, access)
    levels = shadow_levels(mmu.engine.frames, root.pml5, va)
    difference = state_of(mmu, root, va, partial(place, machine.symbols))
    state, detail = ("", "") if difference is None else (difference.state, difference.detail)
    kinds = mmu.traces.kinds.get(guest.gpa >> PAGE_SHIFT, 0) if guest.gpa is not None else 0
    writers = []
    for level in guest.levels:
        written = mmu.writers.last(level.entry_gpa)
        if written is not None:
            who = "the monitor" if written.rip == NOBODY else place(machine.symbols, written.rip)
            writers.append(EntryWriter(level.name, level.entry_gpa, written.rip, who, written.when))
    return AccessReport(
        va, name, words, _outcome(machine, va, access, verdict, kinds), verdict, guest, levels, state, detail,
        trace_words(kinds), guest.gpa is not None and guest.gpa >= mmu.ram.size, tuple(writers),
    )  # fmt: skip


def _outcome(machine: Machine, va: int, access: int, verdict: Verdict, kinds: int) -> str:
    if not verdict.allowed:
        return "true"
    if kinds & HIDE or kinds and access & WRITE:
        return "trace"
    if access & FETCH and not (machine.mmu.user_execute and access & USER):
        return "translated"
    found = shadow_walk(machine.engine.frames, machine.mmu.root, va)
    if found is None or access & WRITE and not found.writable or access & USER and not found.user:
        return "hidden"
    return "hidden" if access & FETCH and not found.executable else "none"


def last_fault(machine: Machine) -> FaultReport | None:
    """The last fault that the guest got, or is about to get (at a catchpoint); None if there was none."""
    delivery = machine.dispatcher.last_delivery
    if delivery is None:
        return None
    fault = delivery.fault
    code, access = fault.error_code, None
    entry_gpa, now = -1, 0
    if fault.cr2 is not None and code is not None:
        access = explain_access(machine, fault.cr2, code & (WRITE | USER | FETCH))
        if delivery.entry_index >= 0:
            entry_gpa, now = 8 * delivery.entry_index, machine.ram.u64[delivery.entry_index]
    return FaultReport(
        Vector.name_of(fault.vector), fault.vector, code, _error_words(fault.vector, code), fault.cr2, fault.reason,
        delivery.rip, place(machine.symbols, delivery.rip), delivery.cpl, delivery.when, entry_gpa, delivery.entry, now, access,
    )  # fmt: skip


def _error_words(vector: int, code: int | None) -> str:
    if code is None:
        return ""
    if vector == Vector.PF:
        return PageFaultError.describe(code) if code else "not present, supervisor, read"
    return SelectorError.describe(code) if code else ""

