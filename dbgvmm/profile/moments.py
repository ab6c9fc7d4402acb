"""Moments of a run, and what happened between two of them.

    before = machine.exits.snapshot()
    machine.run(max_count=100_000_000)
    for row in (machine.exits.snapshot() - before).rows():
        print(row.mechanism, row.count, row.seconds)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NewType

from dbgvmm.bt.mechanisms import Mechanism, detail_text, parts

InstructionCount = NewType("InstructionCount", int)
"""A point in the guest's time: instructions retired since power-on."""
GuestNanoseconds = NewType("GuestNanoseconds", int)
"""A point in the guest's time, as its devices see it: virtual nanoseconds since power-on, waiting in HLT included."""

_MILLION: Final = 1_000_000


@dataclass(frozen=True)
class Row:
    """A mechanism, or one detail of it.

    is_exit: it leaves translated code; otherwise it is work inside of exits or beside. per_million: of it, per million
    instructions. seconds: of the host, its own. mean_us: microseconds each. share: of the host seconds that the run took.
    """

    mechanism: str
    detail: str
    is_exit: bool
    count: int
    per_million: float
    seconds: float
    mean_us: float
    share: float


@dataclass(frozen=True)
class Interval:
    """What happened between two moments: guest time (instructions, ns) and host time (seconds of running), apart.

    cells: by key (bt/mechanisms.py), times and own host seconds.
    """

    start: InstructionCount
    end: InstructionCount
    ns: int
    seconds: float
    exits: int
    cells: Mapping[int, tuple[int, float]]

    @property
    def instructions(self) -> int:
        """Retired meanwhile."""
        return self.end - self.start

    @property
    def vmm_seconds(self) -> float:
        """Host seconds that the monitor took."""
        return sum(seconds for _, seconds in self.cells.values())

    @property
    def guest_seconds(self) -> float:
        """Host seconds that translated code took, with the engine's own work for it."""
        return self.seconds - self.vmm_seconds

    def count_of(self, mechanism: Mechanism) -> int:
        """How often it was at work."""
        return sum(count for key, (count, _) in self.cells.items() if parts(key)[0] is mechanism)

    def rows(self) -> tuple[Row, ...]:
        """One for each mechanism that was at work, in their order."""
        sums: dict[Mechanism, tuple[int, float]] = {}
        for key, (count, seconds) in self.cells.items():
            mechanism = parts(key)[0]
            counted, spent = sums.get(mechanism, (0, 0.0))
            sums[mechanism] = counted + count, spent + seconds
        return tuple(self._row(mechanism, "", *sums[mechanism]) for mechanism in sorted(sums))

    def details(self, mechanism: Mechanism) -> tuple[Row, ...]:
        """One for each detail (instruction, port, vector, error code) of a mechanism, most often first."""
        found = [(parts(key), cell) for key, cell in self.cells.items()]
        wanted = [(detail, cell) for (which, detail), cell in found if which is mechanism]
        wanted.sort(key=lambda item: (-item[1][0], item[0]))
        return tuple(self._row(mechanism, detail_text(mechanism, detail), *cell) for detail, cell in wanted)

    def _row(self, mechanism: Mechanism, detail: str, count: int, seconds: float) -> Row:
        return Row(
            mechanism.title, detail, mechanism.is_exit, count, count * _MILLION / max(self.instructions, 1), seconds,
            seconds * _MILLION / max(count, 1), seconds / self.seconds if self.seconds else 0.0,
        )  # fmt: skip


@dataclass(frozen=True)
class Moment:
    """The ledger at a point of the run. seconds: of the host, spent running so far. `later - earlier` is an Interval."""

    count: InstructionCount
    ns: GuestNanoseconds
    seconds: float
    exits: int
    cells: Mapping[int, tuple[int, float]]

    def __sub__(self, earlier: Moment) -> Interval:
        cells = {}
        for key, (count, seconds) in self.cells.items():
            counted, spent = earlier.cells.get(key, (0, 0.0))
            if count != counted:
                cells[key] = count - counted, seconds - spent
        return Interval(
            earlier.count, self.count, self.ns - earlier.ns, self.seconds - earlier.seconds, self.exits - earlier.exits, cells
        )


POWER_ON: Final = Moment(InstructionCount(0), GuestNanoseconds(0), 0.0, 0, {})
"""The moment before everything."""
