"""The ledger: how often each mechanism of the monitor was at work, and the host's time that it took.

Its cells are those of the engine's meter, by key. Whoever handles an exit puts the exit's cell into the meter; the engine notes
it there when the exit ends. Work inside of exits is noted by `timed`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from dbgvmm.bt.mechanisms import DETAIL_SHIFT, OTHER, Mechanism
from dbgvmm.hardware.meter import Cell, Meter

P = ParamSpec("P")
R = TypeVar("R")
_MECHANISM = (1 << DETAIL_SHIFT) - 1
_CALLOUTS = (Mechanism.CALLOUT, Mechanism.PORT, Mechanism.CR3_SWITCH, Mechanism.HALT)


class Cells(dict[int, Cell]):
    """Cells by key (mechanisms.py), made when they are first asked for."""

    def __missing__(self, key: int) -> Cell:
        cell = self[key] = Cell(key)
        return cell


class ExitLedger:
    """Counters since power-on; times are host seconds, for people only."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self.cells = Cells()

    def exit_is(self, key: int) -> None:
        """What the exit that is being handled is. To be said before anything is done in it."""
        self.meter.cell = self.cells[key]

    def timed(self, key: int, work: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> R:
        """Do `work`, and note it under `key`."""
        return self.meter.timed(self.cells[key], work, *arguments, **named)

    def times(self) -> dict[int, tuple[int, float]]:
        """How often and how long, by key, of all that has ever been."""
        found = {key: (cell.count, cell.seconds) for key, cell in sorted(self.cells.items()) if cell.count}
        if self.meter.none.count:
            found[OTHER] = self.meter.none.count, 0.0
        return found

    # -- sums

    def count_of(self, *mechanisms: Mechanism) -> int:
        """How often they were at work, all together."""
        return sum(cell.count for key, cell in self.cells.items() if key & _MECHANISM in mechanisms)

    def seconds_of(self, *mechanisms: Mechanism) -> float:
        """Their host seconds."""
        return sum(cell.seconds for key, cell in self.cells.items() if key & _MECHANISM in mechanisms)

    def details_of(self, mechanism: Mechanism) -> dict[int, int]:
        """How often, by the mechanism's detail."""
        return {
            key >> DETAIL_SHIFT: cell.count for key, cell in sorted(self.cells.items()) if key & _MECHANISM == mechanism
        }

    @property
    def interrupts(self) -> int:
        """Delivered to the guest."""
        return self.count_of(Mechanism.INTERRUPT)

    @property
    def exceptions(self) -> dict[int, int]:
        """By vector: exceptions that were delivered to the guest."""
        return self.details_of(Mechanism.DELIVERY)

    @property
    def callouts(self) -> int:
        """Exits for sensitive instructions, those of ports, CR3 and HLT among them."""
        return self.count_of(*_CALLOUTS)

    @property
    def seconds_callouts(self) -> float:
        """Host seconds of these."""
        return self.seconds_of(*_CALLOUTS)
