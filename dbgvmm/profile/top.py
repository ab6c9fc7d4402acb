"""`top`: what the machine does while it does it, round by round.

A round is a stretch of the run: of host time, for people who look on, or of instructions, for scripts that want the same
rounds each time. The guest cannot tell that somebody looks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol

from dbgvmm.bt.exit_places import ObservedExit
from dbgvmm.debug.stops import Stop, StopKind
from dbgvmm.guest_os import GuestOsError
from dbgvmm.hardware.layout import PAGE_SIZE
from dbgvmm.profile.moments import Interval, Moment, Row
from dbgvmm.profile.places import PlaceRow, Places

if TYPE_CHECKING:
    from dbgvmm.machine import Machine

HOTTEST: Final = 8
"""Functions that a round names."""
_MILLION: Final = 1e6


class RunFunction(Protocol):
    """Runs the machine as `Machine.run` does."""

    def __call__(self, *, steps: int | None = None, max_count: int | None = None) -> Stop: ...


@dataclass(frozen=True)
class TopRow:
    """A mechanism in one round. share: of the host's time."""

    mechanism: str
    is_exit: bool
    count: int
    per_second: float
    share: float


@dataclass(frozen=True)
class TopRound:
    """One round.

    seconds: of the host, spent running. instructions, guest_ns: of the guest's time. guest_share: of the host's time, in
    translated code. tc_bytes, tc_capacity: of the translation cache. task: who ran at its end, "" if that cannot be told.
    hottest: the functions whose exits cost most.
    """

    number: int
    count: int
    seconds: float
    instructions: int
    guest_ns: int
    exits: int
    guest_share: float
    rows: tuple[TopRow, ...]
    hottest: tuple[PlaceRow, ...]
    tc_bytes: int
    tc_capacity: int
    task: str

    @property
    def mips(self) -> float:
        """Million instructions a second of the host's."""
        return self.instructions / _MILLION / self.seconds if self.seconds else 0.0

    def __str__(self) -> str:
        seconds = self.seconds or 1.0
        fill = self.tc_bytes / self.tc_capacity
        lines = [
            f"round {self.number}, after {self.count:,} instructions{f', in {self.task}' if self.task else ''}",
            f"{self.mips:,.1f} million instructions/s, guest time {self.guest_ns / 1e9 / seconds:.2f} s/s, "
            f"{self.exits / seconds:,.0f} exits/s, TC {self.tc_bytes >> 20:,} MiB ({fill:.0%})",
            f"translated code {self.guest_share:.1%}, monitor {1 - self.guest_share:.1%}",
        ]
        lines += [
            f"  {row.mechanism:<12}{row.per_second:>12,.0f}/s{row.share:>8.1%}{'' if row.is_exit else '   (work)'}"
            for row in self.rows
        ]
        if self.hottest:
            lines.append("exits of these functions cost most:")
        lines += [
            f"  {row.count / seconds:>12,.0f}/s{row.whole / seconds:>8.1%}  {row.place}  "
            f"({', '.join(list(row.mechanisms)[:3])})"
            for row in self.hottest
        ]
        return "\n".join(lines)


class Top:
    """Makes rounds of a machine. Use it as a context: in it, places of exits are counted."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._places = Places()
        self._last: Moment = machine.exits.snapshot()
        self._number = 0

    def __enter__(self) -> Top:
        self._machine.exits.observe(self._add)
        return self

    def __exit__(self, *_: object) -> None:
        self._machine.exits.forget(self._add)

    def _add(self, exit_: ObservedExit) -> None:
        self._places.add(exit_)

    def round(self) -> TopRound:
        """What happened since the last one."""
        machine = self._machine
        now = machine.exits.snapshot()
        interval, self._last = now - self._last, now
        places, self._places = self._places, Places()
        self._number += 1
        hottest = places.rows(machine.symbols, by_symbol=True)[:HOTTEST]
        cache = machine.cache
        return TopRound(
            self._number, now.count, interval.seconds, interval.instructions, interval.ns, interval.exits,
            interval.guest_seconds / interval.seconds if interval.seconds else 0.0,
            _busiest(interval), hottest, int(cache.stats()["tc_bytes"]), 2 * cache.limit * PAGE_SIZE, self._task(),
        )  # fmt: skip

    def _task(self) -> str:
        try:
            task = self._machine.os.current_task()
        except GuestOsError:
            return ""
        return "" if task is None else f"{task.name} ({task.pid})"

    # -- running

    def run_by_instructions(
        self, run: RunFunction, instructions: int, rounds: int, show: Callable[[TopRound], None]
    ) -> Stop | None:
        """Run so many rounds of so many instructions. Returns the stop that ended it early, if one did."""
        for _ in range(rounds):
            stop = run(steps=instructions)
            show(self.round())
            if stop.kind is not StopKind.STEP:
                return stop
        return None

    def run_by_seconds(
        self, run: RunFunction, every: float, rounds: int | None, show: Callable[[TopRound], None],
        ended: Callable[[], bool] = lambda: False,
    ) -> Stop:
        """Run until the guest stops, `rounds` are over, or somebody has `ended` it. A round takes `every` host seconds.

        Rounds end when the machine looks at the outside, a few times in a hundred milliseconds.
        """
        machine = self._machine
        service = machine.service
        due = monotonic() + every

        def serve() -> None:
            nonlocal due
            if service is not None:
                service()
            elif machine.cpu.halted and machine.events.next_deadline_ns() is None:
                machine.request_stop("halted, and nothing is left that could wake it", StopKind.HALT)
            if ended():
                machine.request_stop("top has ended")
            if monotonic() < due:
                return
            due = monotonic() + every
            show(self.round())
            if self._number == rounds:
                machine.request_stop("top has ended")

        machine.service = serve
        try:
            return run()
        finally:
            machine.service = service


def _busiest(interval: Interval) -> tuple[TopRow, ...]:
    rows = sorted(interval.rows(), key=lambda row: (-row.seconds, row.mechanism))
    return tuple(_top_row(row, interval.seconds or 1.0) for row in rows)


def _top_row(row: Row, seconds: float) -> TopRow:
    return TopRow(row.mechanism, row.is_exit, row.count, row.count / seconds, row.share)
