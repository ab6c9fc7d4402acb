"""The translation cache as objects: `tc`, `tc list`, `tc history`. `tc show`, `tc search` and `tc graph` are in tc_code.py; the
words are those of bt/, and docs/inside.md explains them."""

from __future__ import annotations

from dataclasses import dataclass

from dbgvmm.commands.columns import columns
from dbgvmm.commands.errors import CommandError
from dbgvmm.commands.parameters import Address, Count
from dbgvmm.commands.plural import several, times
from dbgvmm.commands.session import Session
from dbgvmm.commands.table import command
from dbgvmm.debug.inside.units import Choice, Order, TcTotals, UnitRow, chosen, lives, totals
from dbgvmm.hardware.layout import PAGE_SHIFT

_SHOWN = Count(200)


def range_of(session: Session, start: int | None, end: int | None, symbol: str | None) -> tuple[int, int]:
    """Addresses from `start` up to `end` (or those of a symbol; all of them). Raises CommandError."""
    if symbol is not None:
        if start is not None:
            raise CommandError("give addresses or --symbol, not both")
        found = session.symbols.find(symbol)
        if found is None:
            raise CommandError(f"there is no symbol {symbol!r}: `symbols` says which files are known")
        return found.address, max(found.end, found.address + 1)
    if start is None:
        return 0, 1 << 64
    last = start + 1 if end is None else end
    if last <= start:
        raise CommandError(f"from {start:#x} up to {last:#x} there is nothing: give the lower address first")
    return start, last


@dataclass(frozen=True)
class TcReport:
    """The cache's totals."""

    totals: TcTotals

    def __str__(self) -> str:
        x = self.totals
        mean = x.seconds_translating / x.made * 1e6 if x.made else 0.0
        rows = [
            ("units", f"{x.live:,} live (and {x.precise:,} precise), {x.made:,} made, {x.dead:,} invalidated"),
            ("asked for", f"{x.asked:,} times by exits, {x.found:.1%} were there, {x.missed:,} had to be made"),
            ("code", f"{x.guest_bytes:,} guest bytes became {x.translated_bytes:,}: {x.expansion:.2f} for each"),
            ("time", f"{x.instructions_translated:,} instructions in {x.seconds_translating:.3f} s, {mean:.1f} us a unit"),
            ("pages", f"{x.code_pages:,} of guest code, {x.pages:,} of the TC (of {x.page_limit:,})"),
            ("chains", f"{x.chains:,} made by exits, {x.unchained:,} undone"),
            ("lookup", f"{x.lookup_misses:,} misses, {x.lookup_fills:,} slots filled, {x.lookup_pages:,} pages"),
            ("flushes", f"{x.flushes:,}"),
            ("exit sites", ", ".join(f"{number:,} {kind}" for kind, number in x.sites.items()) or "none"),
            *(("invalidated", f"{number:,} because: {why}") for why, number in x.reasons.items()),
        ]
        return columns(rows)


@dataclass(frozen=True)
class NamedUnit:
    """A unit, and the places of its code and of what was the cause of its death."""

    place: str
    by_place: str
    unit: UnitRow


@dataclass(frozen=True)
class UnitTable:
    """Units; `total` of them were chosen. forgotten: of the dead, those that are not remembered any more."""

    units: tuple[NamedUnit, ...]
    total: int
    dead: bool
    forgotten: int

    def __str__(self) -> str:
        if not self.units:
            return "no such unit"
        if self.dead:
            header = "unit", "", "insns", "bytes", "TC bytes", "made at", "died at", "because", "by"
            lines = [columns(map(self._dead, self.units), header, right=(2, 3, 4, 5, 6))]
        else:
            names = "unit", "", "insns", "bytes", "TC", "bytes", "made at", "hits", "exits", "ways out", "entered from"
            lines = [columns(map(self._live, self.units), names, right=(2, 3, 5, 6, 7, 8))]
        if self.total > len(self.units):
            lines.append(f"... {self.total - len(self.units):,} more: --most says how many are shown")
        if self.forgotten:
            lines.append(f"{self.forgotten:,} more have died, longer ago than is remembered")
        return "\n".join(lines)

    @staticmethod
    def _live(item: NamedUnit) -> tuple[str, ...]:
        x = item.unit
        return (
            item.place, "user" if x.user else "", f"{x.instructions}", f"{x.guest_size}", f"{x.tc_start:#x}", f"{x.tc_size}",
            f"#{x.born:,}", "-" if x.hits is None else f"{x.hits:,}", "-" if x.exits is None else f"{x.exits:,}",
            f"{x.linked} of {x.ways_out} chained", f"{x.entered_from}{' and lookups' if x.indirect else ''}",
        )  # fmt: skip

    @staticmethod
    def _dead(item: NamedUnit) -> tuple[str, ...]:
        x = item.unit
        return (
            item.place, "user" if x.user else "", f"{x.instructions}", f"{x.guest_size}", f"{x.tc_size}", f"#{x.born:,}",
            f"#{x.died:,}", x.why, item.by_place,
        )  # fmt: skip


@dataclass(frozen=True)
class UnitLives:
    """All units that began at an address, oldest first. forgotten: deaths of any unit that are not remembered any more."""

    place: str
    units: tuple[NamedUnit, ...]
    forgotten: int

    def __str__(self) -> str:
        rows = [life_row(item) for item in self.units]
        title = f"{self.place}: {several(len(self.units), 'unit')} so far"
        lines = [title, columns(rows, ("", "insns", "made at", "", ""), right=(1, 2))]
        if self.forgotten:
            lines.append(f"{self.forgotten:,} units (of any code) died longer ago than is remembered")
        return "\n".join(lines)


def life_row(item: NamedUnit) -> tuple[str, str, str, str, str]:
    """One life, for a table."""
    x = item.unit
    if x.live:
        return "live", f"{x.instructions}", f"#{x.born:,}", "", f"entered {times(x.hits)}" if x.hits is not None else ""
    by = f" by {item.by_place}" if item.by_place else ""
    return "dead", f"{x.instructions}", f"#{x.born:,}", f"died at #{x.died:,}", f"{x.why}{by}"


def named(session: Session, unit: UnitRow) -> NamedUnit:
    """With the names that are known."""
    return NamedUnit(session.name(unit.address), "" if unit.by < 0 else session.name(unit.by), unit)


@command("tc", aliases=("info tc",))
def tc(session: Session) -> TcReport:
    """Show what the translation cache holds and has done.

    Units, how often one was found, bytes in and out, time, chains, flushes, and why units were invalidated.

    For example:

        tc
        info tc
    """
    return TcReport(totals(session.machine))


@command("tc list")
def tc_list(
    session: Session,
    start: Address | None = None,
    end: Address | None = None,
    *,
    symbol: str | None = None,
    frame: Address | None = None,
    user: bool = False,
    kernel: bool = False,
    dead: bool = False,
    sort: Order = "address",
    most: Count = _SHOWN,
) -> UnitTable:
    """Show translation units: all, those with code from START up to END, or those of a SYMBOL.

    START alone means those with code at that address.
    FRAME (a guest-physical address), USER and KERNEL choose further. DEAD shows those that died (the last 16,384), why and
    through which guest instruction. SORT by address, size, age (the instruction count when it was made), hits (`counters start`
    has them counted), exits (`exits record` has them kept; else: ways out that are not chained). MOST (200) are shown.

    For example:

        tc list --symbol kmain
        tc list --kernel --sort size --most 10
        tc list --dead --sort age
    """
    if user and kernel:
        raise CommandError("--user and --kernel together are all units: leave both away")
    low, high = range_of(session, start, end, symbol)
    which = Choice(low, high, None if frame is None else frame >> PAGE_SHIFT, True if user else False if kernel else None, dead)
    if dead and frame is not None:
        raise CommandError("the frames of dead units are not remembered: leave --frame away")
    found = chosen(session.machine, which, sort)
    shown = tuple(named(session, unit) for unit in found[:most])
    return UnitTable(shown, len(found), dead, session.machine.cache.history.forgotten if dead else 0)


@command("tc history")
def tc_history(session: Session, address: Address | None = None) -> UnitLives:
    """Show all translation units that began at a guest ADDRESS, and why and when earlier ones died.

    ADDRESS is the next instruction's if it is left out.

    For example:

        tc history kmain
    """
    machine = session.machine
    at = machine.cpu.rip if address is None else address
    found = tuple(named(session, unit) for unit in lives(machine, at))
    if not found:
        raise CommandError(f"no translation unit began at {session.name(at)} so far (or it is forgotten)")
    return UnitLives(session.name(at), found, machine.cache.history.forgotten)
