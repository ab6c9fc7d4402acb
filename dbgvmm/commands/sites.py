"""Words for translation units and the exits in them."""

from __future__ import annotations

from typing import Final

from dbgvmm.bt import units as bt_units
from dbgvmm.bt.units import Edge, Site, TranslationUnit
from dbgvmm.commands.errors import CommandError
from dbgvmm.commands.session import Session
from dbgvmm.hardware.layout import TC_SIZE, TC_VA

SITE_KINDS: Final = {
    bt_units.EDGE: "edge",
    bt_units.CALLOUT: "callout",
    bt_units.SLICE: "slice",
    bt_units.LOOKUP_MISS: "lookup miss",
    bt_units.BREAK: "break",
    bt_units.PENDING: "pending interrupt",
    bt_units.INDIRECT: "indirect branch",
    bt_units.STORE: "guilty store",
    bt_units.RETURNED: "interrupt after iretq",
}


def describe_site(session: Session, site: Site) -> str:
    """ "edge to 0x1000 <f>, linked" and the like."""
    kind = SITE_KINDS[site.kind]
    if isinstance(site, Edge):
        state = "linked" if site.target is not None else "not linked" if site.linkable else "always leaves"
        return f"{kind} to {session.name(site.guest_rip)}, {state}"
    return f"{kind}: {site.instruction}" if site.instruction is not None else kind


def find_unit(session: Session, address: int) -> TranslationUnit:
    """The live unit that begins at or covers a guest address, or covers a TC address.

    Of several (user and kernel code, or a unit of another address space) the one that the CPU would enter now comes
    first, then a unit that begins there, then one that covers it. Raises CommandError.
    """
    machine = session.machine
    cache = machine.cache
    if TC_VA <= address < TC_VA + TC_SIZE:
        unit = cache.unit_at(address)
        if unit is None:
            raise CommandError(f"there is no translation unit at TC address {address:#x}")
        return unit
    entries = cache.user_entries if machine.cpu.cpl == 3 else cache.kernel_entries
    entry = entries.get(address)
    unit = cache.unit_at(entry) if entry is not None else None
    if unit is not None and unit.live:
        return unit
    units = [*cache.units(), *(unit for page in cache.code_pages.values() for unit in page.precise.values())]
    covering = [unit for unit in units if unit.guest_rip <= address < unit.guest_rip + len(unit.guest_bytes)]
    if not covering:
        raise CommandError(f"{session.name(address)} has not been translated (yet): no translation unit covers it")
    return min(covering, key=lambda unit: unit.guest_rip != address)
