"""Exits by the place in the guest that they came from: kept while somebody wants it, and free otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from dbgvmm.bt.exit_places import ObservedExit
from dbgvmm.bt.mechanisms import Mechanism, parts

if TYPE_CHECKING:
    from dbgvmm.debug.symbols import Symbols

MOST_PLACES: Final = 1 << 18
"""Pairs of key and address that are kept; exits at others are summed up."""


@dataclass(frozen=True)
class PlaceRow:
    """Exits at one place, or in one function.

    place: symbol, or address. mechanisms: how often each, most often first. seconds: of the host, the exits' own. whole: with
    the work inside of them (translation, deliveries).
    """

    place: str
    count: int
    seconds: float
    whole: float
    mechanisms: dict[str, int]


class PlaceCell:
    """Times and host seconds, own and whole."""

    __slots__ = ("count", "seconds", "whole")

    def __init__(self, count: int = 0, seconds: float = 0.0, whole: float = 0.0) -> None:
        self.count = count
        self.seconds = seconds
        self.whole = whole

    def since(self, before: PlaceCell | None) -> PlaceCell:
        """What was added since it was as `before` (nothing)."""
        if before is None:
            return PlaceCell(self.count, self.seconds, self.whole)
        return PlaceCell(self.count - before.count, self.seconds - before.seconds, self.whole - before.whole)


class Places:
    """What the exits were by (key, guest RIP). beyond: exits at places that were too many to keep apart."""

    def __init__(self, most: int = MOST_PLACES) -> None:
        self.cells: dict[tuple[int, int], PlaceCell] = {}
        self.beyond = PlaceCell()
        self._most = most

    def add(self, exit_: ObservedExit) -> None:
        """One more."""
        at = exit_.key, exit_.rip
        cell = self.cells.get(at)
        if cell is None:
            cell = self.beyond
            if len(self.cells) < self._most:
                cell = self.cells[at] = PlaceCell()
        cell.count += 1
        cell.seconds += exit_.seconds
        cell.whole += exit_.whole

    def copy(self) -> Places:
        """What they are now: later exits do not change it."""
        return self - Places()

    def __sub__(self, earlier: Places) -> Places:
        """What has come since an earlier copy."""
        difference = Places(self._most)
        for at, cell in self.cells.items():
            before = earlier.cells.get(at)
            if before is None or cell.count != before.count:
                difference.cells[at] = cell.since(before)
        difference.beyond = self.beyond.since(earlier.beyond)
        return difference

    @property
    def count(self) -> int:
        """All exits that were seen."""
        return sum(cell.count for cell in self.cells.values()) + self.beyond.count

    def rows(
        self, symbols: Symbols, *, by_symbol: bool, mechanism: Mechanism | None = None
    ) -> tuple[PlaceRow, ...]:
        """By address or by function, most host time first; of one mechanism, or of all."""
        cells: dict[str, tuple[PlaceCell, dict[str, int]]] = {}
        for (key, rip), cell in self.cells.items():
            which = parts(key)[0]
            if mechanism is not None and which is not mechanism:
                continue
            total, counts = cells.setdefault(_name(symbols, rip, by_symbol), (PlaceCell(), {}))
            total.count += cell.count
            total.seconds += cell.seconds
            total.whole += cell.whole
            counts[which.title] = counts.get(which.title, 0) + cell.count
        rows = [
            PlaceRow(
                place, total.count, total.seconds, total.whole,
                dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))),
            )
            for place, (total, counts) in cells.items()
        ]  # fmt: skip
        return tuple(sorted(rows, key=lambda row: (-row.whole, row.place)))


def _name(symbols: Symbols, rip: int, by_symbol: bool) -> str:
    described = symbols.describe(rip)
    if not described:
        return f"{rip:#x}"
    return described.partition("+")[0] if by_symbol else f"{rip:#x} <{described}>"
