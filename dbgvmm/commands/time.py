"""Virtual time: `info time`."""

from __future__ import annotations

from dataclasses import dataclass

from dbgvmm.commands.columns import columns
from dbgvmm.commands.session import Session
from dbgvmm.commands.table import command


@dataclass(frozen=True)
class PendingEvent:
    """Something that will happen at virtual time `when_ns`."""

    name: str
    when_ns: int


@dataclass(frozen=True)
class TimeReport:
    """count: instructions since power-on. now_ns: virtual nanoseconds. tsc: what RDTSC reads. events: soonest first."""

    count: int
    now_ns: int
    tsc: int
    events: tuple[PendingEvent, ...]

    def __str__(self) -> str:
        rows = [
            ("instructions", f"{self.count:,}"),
            ("virtual time", f"{self.now_ns:,} ns"),
            ("TSC", f"{self.tsc:,}"),
            *((event.name, f"in {event.when_ns - self.now_ns:,} ns") for event in self.events),
        ]
        return columns(rows if self.events else [*rows, ("events", "none pending")])


@command("info time", aliases=("time",))
def info_time(session: Session) -> TimeReport:
    """Show the instruction count, virtual time, the TSC, and the events that are due next.

    For example:

        info time
    """
    machine = session.machine
    events = tuple(PendingEvent(event.name, event.when_ns) for event in machine.events.pending())
    return TimeReport(machine.count, machine.clock.now_ns(), machine.msrs.tsc(machine.cpu), events)
