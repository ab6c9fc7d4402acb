"""What the host's time goes into: a meter that runs while the guest waits.

The engine notes each exit when it ends, in the cell that whoever handled it has put into `Meter.cell`. Work inside of an exit
has a cell of its own, and its time is taken off the exit's at once: so no time is counted twice.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Final, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
_NONE: Final = -1


class Cell:
    """Times, and host seconds that are in no other cell. key: what it is about, for its owner."""

    __slots__ = ("count", "key", "seconds")

    def __init__(self, key: int) -> None:
        self.key = key
        self.count = 0
        self.seconds = 0.0


class Meter:
    """cell: of what is going on. none: the cell while nothing is. Its count is that of exits that nobody has put elsewhere, its
    seconds mean nothing. last: the last exit's cell. inner: host seconds of the work that was done in what is going on, for
    who has set it to 0.
    """

    __slots__ = ("cell", "inner", "last", "none")

    def __init__(self) -> None:
        self.none = self.cell = self.last = Cell(_NONE)
        self.inner = 0.0

    def note(self, start: float) -> float:
        """An exit that began at `start` (`perf_counter`) ends here. Returns its host seconds, with the work in it.

        The engine does this itself, written out, where nobody else wants to be told.
        """
        cell = self.last = self.cell
        self.cell = self.none
        cell.count += 1
        elapsed = perf_counter() - start
        cell.seconds += elapsed
        return elapsed

    def timed(self, cell: Cell, work: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> R:
        """Do `work`, and note it in `cell`."""
        outer, inner = self.cell, self.inner
        self.cell, self.inner = cell, 0.0
        start = perf_counter()
        try:
            return work(*arguments, **named)
        finally:
            elapsed = perf_counter() - start
            cell.count += 1
            cell.seconds += elapsed
            outer.seconds -= elapsed
            self.cell, self.inner = outer, inner + elapsed
