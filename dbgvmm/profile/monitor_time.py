"""How long the monitor has been at work since one last asked, by mechanism: what is not the guest's own time."""

from __future__ import annotations

from dbgvmm.bt.ledger import ExitLedger
from dbgvmm.bt.mechanisms import DETAIL_SHIFT, Mechanism
from dbgvmm.hardware.meter import Cell

_MECHANISM = (1 << DETAIL_SHIFT) - 1
_TITLES = {int(mechanism): mechanism.title for mechanism in Mechanism}
_NOT_THE_GUESTS = frozenset((int(Mechanism.SAMPLE), int(Mechanism.OUTSIDE), int(Mechanism.ENTRY)))
"""What the guest did not ask for: the sampling itself, and people."""


class MonitorTime:
    """Differences of the ledger's times. They are exact in the sum; what is noted at the end of an exit counts from then on."""

    def __init__(self, ledger: ExitLedger) -> None:
        self._cells = ledger.cells
        self._known: list[Cell] = []
        self._counts: list[int] = []
        self._seconds: list[float] = []
        self.restart()

    def restart(self) -> None:
        """Count from now on."""
        self._known = list(self._cells.values())
        self._counts = [cell.count for cell in self._known]
        self._seconds = [cell.seconds for cell in self._known]

    def take(self) -> dict[str, int]:
        """Nanoseconds by mechanism since the last time; mechanisms that were not at work are left out."""
        changed = self._changed()
        spent = self._spent(changed)
        for at in changed:
            cell = self._known[at]
            self._counts[at], self._seconds[at] = cell.count, cell.seconds
        return spent

    def peek(self) -> dict[str, int]:
        """The same, and let the next time begin where this one has."""
        return self._spent(self._changed())

    def _changed(self) -> list[int]:
        """Which of the known cells were at work; new ones become known."""
        if len(self._cells) != len(self._known):  # they are behind those that are known
            added = list(self._cells.values())[len(self._known) :]
            self._known += added
            self._counts += [0] * len(added)
            self._seconds += [0.0] * len(added)
        return [at for at, (cell, count) in enumerate(zip(self._known, self._counts, strict=True)) if cell.count != count]

    def _spent(self, changed: list[int]) -> dict[str, int]:
        spent: dict[str, int] = {}
        for at in changed:
            cell = self._known[at]
            mechanism = cell.key & _MECHANISM
            if mechanism in _NOT_THE_GUESTS:
                continue
            ns = round(cell.seconds * 1e9) - round(self._seconds[at] * 1e9)
            if ns:
                title = _TITLES[mechanism]
                spent[title] = spent.get(title, 0) + ns
        return spent


__all__ = ["MonitorTime"]
