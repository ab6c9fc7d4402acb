"""The ledger: how often each mechanism of the monitor was at work, and the host's time that it took.

Every exit is noted in one place, `note`, which the engine calls with the moment at which its exit began; whoever handles
an exit has put its `key` here before. Work inside of exits is noted by `timed`. Both write the same cells.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from time import perf_counter
from typing import ParamSpec, TypeVar

from dbgvmm.bt.mechanisms import DETAIL_SHIFT, OTHER, Mechanism

P = ParamSpec("P")
R = TypeVar("R")
_MECHANISM = (1 << DETAIL_SHIFT) - 1
_CALLOUTS = (Mechanism.CALLOUT, Mechanism.PORT, Mechanism.CR3_SWITCH, Mechanism.HALT)


class Cell:
    """Times, and host seconds without what is noted elsewhere."""

    __slots__ = ("count", "seconds")

    def __init__(self) -> None:
        self.count = 0
        self.seconds = 0.0


class ExitLedger:
    """Counters since power-on; times are host seconds, for people only.

    cells: by key (see mechanisms.py). key: what the exit that is being handled is, OTHER while none is. inner: host seconds
    of work noted since that exit (or the work around) began.
    """

    __slots__ = ("cells", "inner", "key")

    def __init__(self) -> None:
        self.cells: defaultdict[int, Cell] = defaultdict(Cell)
        self.key = OTHER
        self.inner = 0.0

    def note(self, start: float) -> float:
        """An exit that began at `start` ends here. Returns the host seconds that are its own."""
        cell = self.cells[self.key]
        self.key = OTHER
        cell.count += 1
        elapsed = perf_counter() - start
        inner = self.inner
        if inner:
            elapsed -= inner
            self.inner = 0.0
        cell.seconds += elapsed
        return elapsed

    def timed(self, key: int, work: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> R:
        """Do `work`, and note it under `key`."""
        outer, self.inner = self.inner, 0.0
        start = perf_counter()
        try:
            return work(*arguments, **named)
        finally:
            elapsed = perf_counter() - start
            cell = self.cells[key]
            cell.count += 1
            cell.seconds += elapsed - self.inner
            self.inner = outer + elapsed

    def add_work(self, key: int, seconds: float) -> None:
        """Work of the exit that is being handled took so long."""
        cell = self.cells[key]
        cell.count += 1
        cell.seconds += seconds
        self.inner += seconds

    def timed_beside(self, key: int, work: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> R:
        """The same for work that may also come while no exit is being handled: then it is part of none."""
        outside = self.key == OTHER
        try:
            return self.timed(key, work, *arguments, **named)
        finally:
            if outside:
                self.inner = 0.0

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
