"""Virtual time: `info time`."""

from __future__ import annotations

from dataclasses import dataclass

from dbgvmm.commands.columns import columns
from dbgvmm.commands.session import Session
from dbgvmm.commands.table import command


@dataclass(frozen=True)
class PendingEvent:
    """Something that will happen at virtual time `when_ns`, which is instruction count `at_count` if the CPU does not halt."""

    name: str
    when_ns: int
    at_count: int


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
        ]
        due = [
            (event.name, f"in {event.when_ns - self.now_ns:,} ns", f"at {event.when_ns:,} ns", f"#{event.at_count:,}")
            for event in self.events
        ]
        return f"{columns(rows)}\n{columns(due) if due else 'no events are to come'}"


@command("info time", aliases=("time", "info timers"))
def info_time(session: Session) -> TimeReport:
    """Show the instruction count, virtual time, the TSC, and the timers' events that are to come.

    Of each how long it takes, when it is, and at which instruction count (if the CPU does not halt): `until #N` stops there.

    For example:

        info time
    """
    machine = session.machine
    clock = machine.clock
    events = tuple(
        PendingEvent(event.name, event.when_ns, clock.count_at(event.when_ns)) for event in machine.events.pending()
    )
    return TimeReport(machine.count, machine.clock.now_ns(), machine.msrs.tsc(machine.cpu), events)
