"""The last exit from translated code: which mechanism, at which site, because of which instruction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dbgvmm.bt.dispatcher import CALLOUT_VECTOR
from dbgvmm.bt.emission import EXIT
from dbgvmm.bt.mechanisms import Mechanism, detail_text, parts
from dbgvmm.bt.units import Edge, Site
from dbgvmm.cpu.bits import Vector
from dbgvmm.debug.inside.code import unit_lines
from dbgvmm.debug.inside.sites import describe_site, place
from dbgvmm.hardware.layout import MASK64, TC_SIZE, TC_VA

if TYPE_CHECKING:
    from dbgvmm.machine import Machine


@dataclass(frozen=True)
class ExitReport:
    """The last exit. mechanism, meaning, detail: of bt/mechanisms.py. number: 1 for the first exit since power-on.

    tc_rip: where translated code was left (behind the exit). rip, place, instruction: the guest's; rip is -1 where the TC
    says nothing of it (any more). site: the exit site in words. address: of a page fault. times, mean_us: how often this
    mechanism was at work, and what it costs the host on average. stop: what stopped the machine since.
    """

    mechanism: str
    meaning: str
    detail: str
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
    meter = dispatcher.ledger.meter
    cell = meter.last if meter.cell is meter.none else meter.cell
    mechanism, detail = (Mechanism.OTHER, 0) if cell is meter.none else parts(cell.key)
    site = cache.sites.get(tc_rip) if vector == CALLOUT_VECTOR else None
    address, text = None, ""
    if site is not None:
        text = describe_site(machine.symbols, site)
        rip = _site_rip(machine, site, tc_rip)
    elif vector == Vector.PF:
        last_fault = machine.mmu.last_fault
        address = dispatcher.last_address
        if not TC_VA <= tc_rip < TC_VA + TC_SIZE and last_fault is not None:
            address = last_fault[0]  # of code that ran in place, or of a single step
        rip = _guest_rip(machine, address if TC_VA <= address < TC_VA + TC_SIZE else tc_rip)
    else:
        text, rip = Vector.name_of(vector), _guest_rip(machine, tc_rip)
    times = dispatcher.ledger.count_of(mechanism)
    seconds = dispatcher.ledger.seconds_of(mechanism)
    stop = "" if machine.last_stop is None else machine.last_stop.text
    return ExitReport(
        mechanism.title, mechanism.meaning, detail_text(mechanism, detail), machine.engine.exits, tc_rip, rip,
        place(machine.symbols, rip) if rip >= 0 else "", _instruction(machine, rip), text, address, times,
        seconds / times * 1e6 if times else 0.0, stop,
    )  # fmt: skip


def _site_rip(machine: Machine, site: Site, tc_rip: int) -> int:
    """The guest instruction that an exit site belongs to, of an edge the last one of its unit; -1 if that is not known."""
    unit = site.unit
    if isinstance(site, Edge):
        return unit_lines(machine.symbols, unit)[-1].address if unit.guest_bytes else -1
    if site.guest_rip:
        return site.guest_rip
    return unit.guest_rip + unit.mark_at(tc_rip - len(EXIT)).guest_offset & MASK64 if unit.length else -1


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
