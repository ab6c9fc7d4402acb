"""What only the monitor can show: translation units, the translation cache, shadow entries, traces."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final

from dbgvmm.commands.columns import columns
from dbgvmm.commands.parameters import Address
from dbgvmm.commands.session import Session
from dbgvmm.commands.sites import SITE_KINDS, describe_site, find_unit
from dbgvmm.commands.table import command
from dbgvmm.hardware.layout import PAGE_SHIFT

_SHADOW_LEVELS: Final = ("PML5E", "PML4E", "PDPTE", "PDE", "PTE")


@dataclass(frozen=True)
class Facts:
    """Names and values, as people read them; `values` are the plain numbers for scripts."""

    title: str
    rows: tuple[tuple[str, str], ...]
    values: dict[str, float]

    def __str__(self) -> str:
        body = columns(self.rows)
        return f"{self.title}\n{body}" if self.title else body


@dataclass(frozen=True)
class UnitReport:
    """A translation unit: where it is in the guest and in the TC, what leads to it and out of it."""

    guest_rip: int
    place: str
    instructions: int
    guest_bytes: bytes
    tc_start: int
    tc_end: int
    user: bool
    is_global: bool
    live: bool
    why_dead: str
    frames: tuple[int, ...]
    exits: tuple[str, ...]
    entered_from: tuple[str, ...]

    def __str__(self) -> str:
        expansion = (self.tc_end - self.tc_start) / max(len(self.guest_bytes), 1)
        kind = f"{'user' if self.user else 'kernel'} code, {'global' if self.is_global else 'not global'}"
        rows = [
            ("guest", f"{self.place}, {self.instructions} instructions, {len(self.guest_bytes)} bytes, {kind}"),
            ("frames", ", ".join(f"{frame << PAGE_SHIFT:#x}" for frame in self.frames)),
            ("TC", f"{self.tc_start:#x} to {self.tc_end:#x}, {expansion:.1f} times the guest's bytes"),
            ("state", "live" if self.live else f"dead: {self.why_dead}"),
            *(("exit", text) for text in self.exits),
            *(("entered from", text) for text in self.entered_from),
        ]
        return columns(rows)


@command("info tu", aliases=("tu",))
def info_tu(session: Session, address: Address | None = None) -> UnitReport:
    """Show the translation unit at ADDRESS (the next instruction).

    ADDRESS is a guest address or one in the TC. Shown are the unit's exits, whether they are chained, and which units
    are chained to it; `disassemble tc` shows the code.

    For example:

        info tu kmain
    """
    machine = session.machine
    unit = find_unit(session, machine.cpu.rip if address is None else address)
    sites = [machine.cache.sites[behind] for behind in unit.sites if behind in machine.cache.sites]
    return UnitReport(
        unit.guest_rip, session.name(unit.guest_rip), unit.length, unit.guest_bytes, unit.tc_start, unit.tc_end,
        unit.page.user, unit.page.is_global, unit.live, unit.why_dead, tuple(frame for _, frame in unit.page.pages),
        tuple(describe_site(session, site) for site in sites),
        tuple(session.name(edge.unit.guest_rip) for edge in unit.incoming),
    )  # fmt: skip


@command("info tc", aliases=("tc",))
def info_tc(session: Session) -> Facts:
    """Show what the translation cache holds: units, pages, chains, and how full it is.

    For example:

        info tc
    """
    cache = session.machine.cache
    units = list(cache.units())
    guest = sum(len(unit.guest_bytes) for unit in units)
    translated = sum(unit.tc_end - unit.tc_start for unit in units)
    edges = [edge for unit in units for edge in map(cache.sites.get, unit.sites) if edge is not None]
    kinds = Counter(SITE_KINDS[edge.kind] for edge in edges)
    stats = cache.stats()
    values: dict[str, float] = {
        "live_units": len(units),
        "guest_bytes": guest,
        "translated_bytes": translated,
        "code_pages": len(cache.code_pages),
        "tc_pages": len(cache.tc_pages),
        **stats,
    }
    rows = [
        ("units", f"{len(units):,} live, {cache.units_made:,} made, {cache.units_dead:,} thrown away"),
        ("code", f"{guest:,} guest bytes became {translated:,}"),
        ("pages", f"{len(cache.code_pages):,} of guest code, {len(cache.tc_pages):,} of the TC"),
        ("chains", f"{cache.chains:,} made, {cache.unchained:,} undone"),
        ("lookup", f"{cache.lookup.fills:,} fills, {len(cache.lookup):,} pages"),
        ("flushes", f"{cache.flushes:,}"),
        ("exit sites", ", ".join(f"{number:,} {kind}" for kind, number in kinds.most_common()) or "none"),
    ]
    return Facts("", tuple(rows), values)


@command("info stats", aliases=("stats",))
def info_stats(session: Session) -> Facts:
    """Show all counters of the machine.

    For example:

        info stats
        info stats --json
    """
    values = session.machine.stats()
    rows = tuple((name, f"{value:,}" if isinstance(value, int) else f"{value:.3f}") for name, value in values.items())
    return Facts("", rows, values)
