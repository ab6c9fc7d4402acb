"""The translation cache as data: all units with what is known of each, chosen and sorted; and the cache's totals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from dbgvmm.bt.history import DeadUnit
from dbgvmm.bt.mechanisms import Mechanism
from dbgvmm.bt.units import Edge, TranslationUnit
from dbgvmm.debug.inside.sites import SITE_KINDS
from dbgvmm.hardware.layout import PAGE_SIZE, TC_SIZE

if TYPE_CHECKING:
    from dbgvmm.machine import Machine

Order = Literal["address", "size", "age", "hits", "exits"]


@dataclass(frozen=True)
class UnitRow:
    """One unit. instructions: in all rounds, if it is unrolled. born: the instruction count when it was made.

    hits: how often it was entered, None if nobody counts (`counters start`). exits: how often it was left for the monitor,
    None unless `exits record` keeps places. ways_out: direct ones; `linked` of them are chained. died, why, by: of a dead one
    (by: the guest instruction that was the cause, -1 if there is none).
    """

    address: int
    user: bool
    frames: tuple[int, ...]
    instructions: int
    guest_size: int
    tc_start: int
    tc_size: int
    born: int
    hits: int | None
    exits: int | None
    ways_out: int
    linked: int
    entered_from: int
    indirect: bool
    live: bool
    died: int
    why: str
    by: int


@dataclass(frozen=True)
class TcTotals:
    """The translation cache in numbers, since power-on where nothing else is said.

    live, precise: units now; precise ones are cut to length in front of what is due. asked, missed: how often an exit asked for
    the unit at an address, and had to make it. guest_bytes, translated_bytes: of live units. pages: of the TC, handed out.
    """

    live: int
    precise: int
    made: int
    dead: int
    asked: int
    missed: int
    guest_bytes: int
    translated_bytes: int
    instructions_translated: int
    seconds_translating: float
    code_pages: int
    pages: int
    page_limit: int
    chains: int
    unchained: int
    lookup_fills: int
    lookup_pages: int
    lookup_misses: int
    flushes: int
    reasons: dict[str, int]
    sites: dict[str, int]

    @property
    def expansion(self) -> float:
        """Translated bytes for each byte of the guest's."""
        return self.translated_bytes / self.guest_bytes if self.guest_bytes else 0.0

    @property
    def found(self) -> float:
        """The share of questions for a unit that were answered by one that existed."""
        return 1 - self.missed / self.asked if self.asked else 0.0


def totals(machine: Machine) -> TcTotals:
    """The cache now."""
    cache, ledger = machine.cache, machine.dispatcher.ledger
    units = list(cache.units())
    kinds = Counter(
        SITE_KINDS[site.kind] for unit in units for site in map(cache.sites.get, unit.sites) if site is not None
    )
    stats = cache.stats()
    return TcTotals(
        len(units), sum(len(page.precise) for page in cache.code_pages.values()), cache.units_made, cache.units_dead,
        cache.asked, cache.missed, sum(len(unit.guest_bytes) for unit in units),
        sum(unit.tc_end - unit.tc_start for unit in units), stats["translated_instructions"],
        ledger.seconds_of(Mechanism.TRANSLATION), len(cache.code_pages), stats["tc_bytes"] // PAGE_SIZE,
        min(2 * cache.limit, TC_SIZE // PAGE_SIZE), cache.chains, cache.unchained, cache.lookup.fills, len(cache.lookup),
        ledger.count_of(Mechanism.LOOKUP_MISS), cache.flushes,
        dict(sorted(cache.history.reasons.items(), key=lambda item: (-item[1], item[0]))), dict(kinds.most_common()),
    )  # fmt: skip


class Costs:
    """Hits and exits of units, out of what is being counted."""

    def __init__(self, machine: Machine) -> None:
        self._hits: dict[tuple[int, bool, tuple[int, ...], int], int] | None = None
        counts = machine.counters.counts()
        if machine.counters.running or counts.units:
            self._hits = {}
            for unit in counts.units:
                key = unit.address, unit.user, unit.frames, unit.size
                self._hits[key] = self._hits.get(key, 0) + unit.entries
        self._exits: Counter[int] | None = None
        places = machine.exits.places
        if places is not None:
            self._exits = Counter()
            for (_, rip), cell in places.cells.items():
                self._exits[rip] += cell.count

    def hits(self, unit: TranslationUnit) -> int | None:
        """How often the unit was entered; None if nobody has counted."""
        if self._hits is None:
            return None
        frames = tuple(frame for _, frame in unit.page.pages)
        return self._hits.get((unit.guest_rip, unit.page.user, frames, len(unit.guest_bytes)), 0)

    def exits(self, unit: TranslationUnit) -> int | None:
        """How often code of the unit's range was left for the monitor; None if that is not kept."""
        if self._exits is None:
            return None
        return sum(self._exits.get(rip, 0) for rip in range(unit.guest_rip, unit.guest_rip + len(unit.guest_bytes)))


def row(unit: TranslationUnit, costs: Costs) -> UnitRow:
    """What is known of a unit that exists."""
    page = unit.page
    return UnitRow(
        unit.guest_rip, page.user, tuple(frame for _, frame in page.pages), unit.length, len(unit.guest_bytes), unit.tc_start,
        unit.tc_end - unit.tc_start, unit.born, costs.hits(unit), costs.exits(unit), len(unit.edges),
        sum(edge.target is not None for edge in unit.edges), len(unit.incoming), bool(unit.indirect_entry), unit.live, 0,
        unit.why_dead, -1,
    )  # fmt: skip


def dead_row(dead: DeadUnit) -> UnitRow:
    """What is remembered of one that died."""
    return UnitRow(
        dead.guest_rip, dead.user, (), dead.instructions, dead.guest_size, dead.tc_start, dead.tc_size, dead.born, None, None,
        0, 0, 0, False, False, dead.died, dead.why, dead.by,
    )  # fmt: skip


@dataclass(frozen=True)
class Choice:
    """Which units are wanted. start, end: units with code at addresses from start up to end. frame: with code on that frame.
    user: only user code's (True) or the kernel's (False). dead: those that died, instead of those that live."""

    start: int = 0
    end: int = 1 << 64
    frame: int | None = None
    user: bool | None = None
    dead: bool = False

    def takes(self, address: int, size: int, user: bool, frames: tuple[int, ...]) -> bool:
        """Whether a unit is among them."""
        return (
            address < self.end and address + size > self.start
            and (self.user is None or user == self.user)
            and (self.frame is None or self.frame in frames)
        )  # fmt: skip


_KEYS: Final[dict[Order, Callable[[UnitRow], int]]] = {
    "address": lambda unit: unit.address,
    "size": lambda unit: -unit.tc_size,
    "age": lambda unit: unit.born,
    "hits": lambda unit: -(unit.hits or 0),
    "exits": lambda unit: -(unit.ways_out - unit.linked if unit.exits is None else unit.exits),
}


def chosen(machine: Machine, choice: Choice, order: Order = "address") -> list[UnitRow]:
    """The units of a choice: by address, the biggest translation, the oldest, the most entered, the most left one first (where
    exits are not kept: the one with the most ways out that are not chained)."""
    if choice.dead:
        rows = [
            dead_row(dead) for dead in machine.cache.history.dead
            if choice.takes(dead.guest_rip, dead.guest_size, dead.user, ())
        ]  # fmt: skip
    else:
        costs = Costs(machine)
        rows = [row(unit, costs) for unit in live_units(machine, choice)]
    key = _KEYS[order]
    return sorted(rows, key=lambda unit: (key(unit), unit.address, unit.user, unit.born))


def live_units(machine: Machine, choice: Choice) -> Iterator[TranslationUnit]:
    """The live ones, as objects."""
    for unit in machine.cache.units():
        frames = tuple(frame for _, frame in unit.page.pages)
        if choice.takes(unit.guest_rip, len(unit.guest_bytes), unit.page.user, frames):
            yield unit


def lives(machine: Machine, address: int) -> list[UnitRow]:
    """All units that began at a guest address, oldest first: the dead that are remembered, then the live ones."""
    rows = [dead_row(dead) for dead in machine.cache.history.of(address)]
    costs = Costs(machine)
    rows += [row(unit, costs) for unit in machine.cache.units() if unit.guest_rip == address]
    rows += [
        row(unit, costs) for page in machine.cache.code_pages.values() for unit in page.precise.values()
        if unit.guest_rip == address
    ]  # fmt: skip
    return sorted(rows, key=lambda unit: unit.born)


def side_exits(unit: TranslationUnit) -> list[Edge]:
    """The ways out of the middle of a unit."""
    return [edge for edge in unit.edges if edge.retired != unit.length]
