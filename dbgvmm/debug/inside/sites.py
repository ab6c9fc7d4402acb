"""Words for the exits in units, and how a unit is found by an address."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dbgvmm.bt import units as bt_units
from dbgvmm.bt.units import Edge, Site, TranslationUnit
from dbgvmm.hardware.layout import TC_SIZE, TC_VA

if TYPE_CHECKING:
    from dbgvmm.debug.symbols import Symbols
    from dbgvmm.machine import Machine

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
    bt_units.PROBE: "probe",
}


class NoUnit(LookupError):
    """There is no such unit. The message is one line for people."""


def place(symbols: Symbols, address: int) -> str:
    """ "0x106000 <kmain>", or the number alone for an address without a symbol."""
    symbol = symbols.describe(address)
    return f"{address:#x} <{symbol}>" if symbol else f"{address:#x}"


def describe_site(symbols: Symbols, site: Site) -> str:
    """ "edge to 0x1000 <f>, linked" and the like."""
    kind = SITE_KINDS[site.kind]
    if isinstance(site, Edge):
        state = "linked" if site.target is not None else "not linked" if site.linkable else "always leaves"
        return f"{kind} to {place(symbols, site.guest_rip)}, {state}"
    return f"{kind}: {site.instruction}" if site.instruction is not None else kind


def unit_at(machine: Machine, address: int) -> TranslationUnit:
    """The live unit that begins at or covers a guest address, or covers a TC address.

    Of several (user and kernel code, or a unit of another address space) the one that the CPU would enter now comes
    first, then a unit that begins there, then one that covers it. Raises NoUnit.
    """
    cache = machine.cache
    if TC_VA <= address < TC_VA + TC_SIZE:
        unit = cache.unit_at(address)
        if unit is None:
            raise NoUnit(f"there is no translation unit at TC address {address:#x}")
        return unit
    entries = cache.user_entries if machine.cpu.cpl == 3 else cache.kernel_entries
    entry = entries.get(address)
    unit = cache.unit_at(entry) if entry is not None else None
    if unit is not None and unit.live:
        return unit
    units = [*cache.units(), *(unit for page in cache.code_pages.values() for unit in page.precise.values())]
    covering = [unit for unit in units if unit.guest_rip <= address < unit.guest_rip + len(unit.guest_bytes)]
    if covering:
        return min(covering, key=lambda unit: unit.guest_rip != address)
    lived = cache.history.of(address)
    if lived:
        last = lived[-1]
        raise NoUnit(
            f"{place(machine.symbols, address)} has no translation unit any more: {last.why}, after {last.died:,} instructions;"
            f" `tc history {address:#x}` has all"
        )
    raise NoUnit(f"{place(machine.symbols, address)} has not been translated (yet): no translation unit covers it")
