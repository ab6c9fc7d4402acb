"""`Counters`: exact execution counts of one machine, to be started, stopped and read at any stop.

    machine.counters.start()
    machine.run(...)
    for item in machine.counters.counts().instructions: ...

While they are off, translated code is as it always is, and nothing costs anything. Starting and stopping throws the
translations away. The guest cannot notice: its registers, memory and instruction count are the same either way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dbgvmm.bt.counter_area import CounterArea
from dbgvmm.bt.counting import UnitCounting
from dbgvmm.profile.counts import ExecutionCounts
from dbgvmm.profile.moments import Interval

if TYPE_CHECKING:
    from dbgvmm.machine import Machine


class CountersError(Exception):
    """The counters cannot do this now. One line that says what to do."""


@dataclass(frozen=True)
class HostTime:
    """Host seconds while counters ran: all of the time in which the guest could run, and the monitor's part of it.

    monitor: by mechanism, as the exit ledger has it ("translation", "callout" ...). The rest went into translated code, the
    engine's own work for it included.
    """

    total: float
    monitor: dict[str, float]


class Counters:
    """The counters of a machine."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._counting: UnitCounting | None = None
        self._on = False
        self._before = 0
        self._since = 0
        self._intervals: list[Interval] = []
        self._began = machine.exits.snapshot()
        self._snapshot: ExecutionCounts | None = None

    @property
    def running(self) -> bool:
        """Whether executions are being counted."""
        return self._on

    @property
    def total(self) -> int:
        """Instructions that retired while counters ran, by the clock: what all counts sum up to."""
        return self._before + (self._machine.count - self._since if self._on else 0)

    @property
    def host_time(self) -> HostTime:
        """What counting runs have cost the host."""
        spent: dict[str, float] = {}
        for interval in self.intervals:
            for row in interval.rows():
                spent[row.mechanism] = spent.get(row.mechanism, 0.0) + row.seconds
        return HostTime(sum(interval.seconds for interval in self.intervals), spent)

    @property
    def intervals(self) -> tuple[Interval, ...]:
        """What the ledger of exits has noted while counters ran, one for each time that they did."""
        return (*self._intervals, self._machine.exits.snapshot() - self._began) if self._on else tuple(self._intervals)

    def start(self) -> None:
        """Count from here on, on top of what was counted before. Raises CountersError while the guest runs."""
        if self._on:
            return
        self._demand_stopped("start")
        machine = self._machine
        if self._counting is None:
            area = CounterArea(machine.engine.frames, machine.mmu.monitor)
            self._counting = UnitCounting(area, machine.dispatcher.recovery.make_exact)
        machine.dispatcher.count_executions(self._counting)
        self._on = True
        self._since = machine.count
        self._began = machine.exits.snapshot()

    def stop(self) -> None:
        """Count no longer, and keep what was counted. Raises CountersError while the guest runs."""
        if not self._on:
            return
        self._demand_stopped("stop")
        self._intervals = list(self.intervals)
        self._before = self.total
        self._on = False
        self._machine.dispatcher.count_executions(None)

    def clear(self) -> None:
        """Begin again at 0, running or not."""
        if self._counting is not None:
            self._counting.clear()
        self._snapshot = None
        self._before = 0
        self._since = self._machine.count
        self._intervals.clear()
        self._began = self._machine.exits.snapshot()

    def counts(self) -> ExecutionCounts:
        """What was executed how often up to now, as data of its own: it does not go on counting."""
        snapshot = self._snapshot
        if snapshot is None or snapshot.total != self.total:
            counting = self._counting
            executions = {} if counting is None else counting.collect()
            snapshot = ExecutionCounts(executions, self.total, {} if counting is None else counting.targets)
            self._snapshot = snapshot
        return snapshot

    def _demand_stopped(self, what: str) -> None:
        if self._machine.running:
            raise CountersError(f"the guest runs: stop it before you {what} the counters")

__all__ = ["Counters", "CountersError", "HostTime"]
