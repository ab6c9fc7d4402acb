"""How long the monitor has been at work since one last asked, by mechanism: what is not the guest's own time."""

from __future__ import annotations

from dbgvmm.bt.ledger import ExitLedger
from dbgvmm.bt.mechanisms import DETAIL_SHIFT, Mechanism
from dbgvmm.hardware.meter import Cell

_MECHANISM = (1 << DETAIL_SHIFT) - 1
_NOT_THE_GUESTS = frozenset((int(Mechanism.SAMPLE), int(Mechanism.OUTSIDE), int(Mechanism.ENTRY)))
"""What the guest did not ask for: the sampling itself, and people."""


class MonitorTime:
    """Differences of the ledger's times. They are exact in the sum; what is noted at the end of an exit counts from then on."""

    def __init__(self, ledger: ExitLedger) -> None:
        self._cells = ledger.cells
        self._keys: list[int] = []
        self._known: list[Cell] = []
        self._counts: list[int] = []
        self._seconds: list[float] = []
        self.restart()

    def restart(self) -> None:
        """Count from now on."""
        self._keys = list(self._cells)
        self._known = list(self._cells.values())
        self._counts = [cell.count for cell in self._known]
        self._seconds = [cell.seconds for cell in self._known]

    def take(self) -> dict[str, int]:
        """Nanoseconds by mechanism since the last time; mechanisms that were not at work are left out."""
        spent = self.peek()
        if len(self._cells) != len(self._keys):
            self.restart()
        else:
            self._counts = [cell.count for cell in self._known]
            self._seconds = [cell.seconds for cell in self._known]
        return spent

    def peek(self) -> dict[str, int]:
        """The same, and let the next time begin where this one has."""
        spent: dict[str, int] = {}
        counts = self._counts
        # Cells of keys that are new are behind those that are known.
        for at, cell in enumerate(self._known if len(self._cells) == len(counts) else self._cells.values()):
            known = at < len(counts)
            if known and cell.count == counts[at]:
                continue
            key = self._keys[at] if known else list(self._cells)[at]
            if key & _MECHANISM in _NOT_THE_GUESTS:
                continue
            ns = round(cell.seconds * 1e9) - (round(self._seconds[at] * 1e9) if known else 0)
            if ns:
                title = Mechanism(key & _MECHANISM).title
                spent[title] = spent.get(title, 0) + ns
        return spent


__all__ = ["MonitorTime"]
