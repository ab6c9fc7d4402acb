"""The last exit from translated code: which mechanism, at which site, because of which instruction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from dbgvmm.bt.dispatcher import CALLOUT_VECTOR
from dbgvmm.bt.mechanisms import DETAIL_SHIFT, SITE_KEYS, Mechanism
from dbgvmm.bt.units import Edge
from dbgvmm.cpu.bits import Vector
from dbgvmm.debug.inside.code import unit_lines
from dbgvmm.debug.inside.sites import describe_site, place
from dbgvmm.hardware.layout import MASK64, TC_SIZE, TC_VA
from dbgvmm.mmu.access import HIDDEN, TRACE, TRUE

if TYPE_CHECKING:
    from dbgvmm.machine import Machine

_OUTCOMES: Final = {HIDDEN: Mechanism.HIDDEN_FAULT, TRUE: Mechanism.TRUE_FAULT, TRACE: Mechanism.TRACE}
_MASK: Final = (1 << DETAIL_SHIFT) - 1


@dataclass(frozen=True)
class ExitReport:
    """The last exit. mechanism, meaning: of bt/mechanisms.py. number: 1 for the first exit since power-on.

    tc_rip: where translated code was left (behind the exit). rip, place, instruction: the guest's; rip is -1 where the TC
    says nothing of it (any more). site: the exit site in words. address: of a page fault. times, mean_us: how often this
    mechanism was at work, and what it costs the host on average. stop: what stopped the machine since.
    """

    mechanism: str
    meaning: str
    number: int
    tc_rip: int
    rip: int
    place: str
    instruction: str
    site: str
    address: int | None
    times: int
    mean_us: float
    stop: str


def last_exit(machine: Machine) -> ExitReport | None:
    """The last exit, None if there was none yet."""
    dispatcher, cache = machine.dispatcher, machine.cache
    vector, tc_rip = dispatcher.last_exit
    if vector < 0:
        return None
    site = cache.sites.get(tc_rip) if vector == CALLOUT_VECTOR else None
    address, text, rip = None, "", -1
    if site is not None:
        mechanism = Mechanism(SITE_KEYS[site.kind] & _MASK)
        text = describe_site(machine.symbols, site)
        rip = site.guest_rip
        if isinstance(site, Edge) or not rip:
            mark = site.unit.mark_at(tc_rip - 2) if site.unit.length else None
            last = unit_lines(machine.symbols, site.unit)[-1].address if site.unit.guest_bytes else -1
            rip = last if isinstance(site, Edge) or mark is None else site.unit.guest_rip + mark.guest_offset & MASK64
        if isinstance(site, Edge) and not site.linkable:
            mechanism = Mechanism.PRECISE_END
    elif vector == Vector.PF:
        last_fault = machine.mmu.last_fault
        address = dispatcher.last_address
        if not TC_VA <= tc_rip < TC_VA + TC_SIZE and last_fault is not None:
            address = last_fault[0]  # of code that ran in place, or of a single step
        if TC_VA <= address < TC_VA + TC_SIZE:
            mechanism, rip = Mechanism.WINDOW_FAULT, _guest_rip(machine, address)
        else:
            known = last_fault is not None and last_fault[0] == address
            mechanism = _OUTCOMES[last_fault[3]] if known and last_fault is not None else Mechanism.LOOKUP_MISS
            rip = _guest_rip(machine, tc_rip)
    else:
        mechanism = Mechanism.STEP if vector == Vector.DB else Mechanism.EXCEPTION
        text, rip = Vector.name_of(vector), _guest_rip(machine, tc_rip)
    times = dispatcher.ledger.count_of(mechanism)
    seconds = dispatcher.ledger.seconds_of(mechanism)
    stop = "" if machine.last_stop is None else machine.last_stop.text
    return ExitReport(
        mechanism.title, mechanism.meaning, machine.engine.exits, tc_rip, rip, place(machine.symbols, rip) if rip >= 0 else "",
        _instruction(machine, rip), text, address, times, seconds / times * 1e6 if times else 0.0, stop,
    )  # fmt: skip


def _guest_rip(machine: Machine, tc_rip: int) -> int:
    """The guest instruction that a TC address belongs to, -1 if that is not known (user code in place is its own)."""
    if not TC_VA <= tc_rip < TC_VA + TC_SIZE:
        return tc_rip
    unit = machine.cache.unit_at(tc_rip)
    if unit is None or not unit.mark_offsets:
        return -1
    return unit.guest_rip + unit.mark_at(tc_rip).guest_offset & MASK64


def _instruction(machine: Machine, rip: int) -> str:
    for page in machine.cache.code_pages.values():
        if rip & -4096 != page.va:
            continue
        for unit in (*page.units.values(), *page.precise.values()):
            if unit.guest_rip <= rip < unit.guest_rip + len(unit.guest_bytes):
                for line in unit_lines(machine.symbols, unit):
                    if line.address == rip:
                        return line.text
    return ""
