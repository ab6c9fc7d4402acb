"""A recording: every exit and every event of the guest, in memory that does not grow beyond what was allowed."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Final

from dbgvmm.bt.exit_places import ObservedExit
from dbgvmm.profile.guest_events import GuestEvent, GuestEvents, TaskNames
from dbgvmm.profile.moments import GuestNanoseconds, Moment

if TYPE_CHECKING:
    from dbgvmm.machine import Machine

MOST_EVENTS: Final = 1 << 17
"""What a recording keeps if nothing else is asked for: the newest so many exits and so many events, about 60 MB."""


@dataclass(frozen=True, slots=True)
class ExitEvent:
    """An exit, and the guest's time at its beginning."""

    exit: ObservedExit
    ns: GuestNanoseconds


class Recording:
    """Records a machine from now until `stop`. The newest `most` exits and `most` events of the guest are kept.

    began, ended: the moments between which was recorded; began_host: the first by `perf_counter`. exits_seen, events_seen:
    all, those that were dropped too.
    """

    def __init__(
        self, machine: Machine, began: Moment, most: int = MOST_EVENTS, names: TaskNames | None = None
    ) -> None:
        if most < 1:
            raise ValueError(f"a recording of {most} events is none: keep at least 1")
        self._clock = machine.clock
        self.began = began
        self.began_host = perf_counter()
        self.ended: Moment | None = None
        self.most = most
        self.exits: deque[ExitEvent] = deque(maxlen=most)
        self.events: deque[GuestEvent] = deque(maxlen=most)
        self._waits: list[tuple[int, int]] = []
        self.exits_seen = 0
        self.events_seen = 0
        self._hooks: GuestEvents | None = GuestEvents(machine, self.add_event, names)

    def add_exit(self, exit_: ObservedExit) -> None:
        """One more exit."""
        self.exits_seen += 1
        # The clock has skipped what a HLT waited for in this very exit, which began before.
        waited = sum(ns for count, ns in self._waits if count > exit_.count)
        self._waits.clear()
        self.exits.append(ExitEvent(exit_, GuestNanoseconds(self._clock.ns_at(exit_.count) - waited)))

    def add_event(self, event: GuestEvent) -> None:
        """One more event of the guest."""
        self.events_seen += 1
        self.events.append(event)
        if event.until is not None:
            self._waits.append((event.count, event.until - event.ns))

    def stop(self, ended: Moment) -> None:
        """Record no more."""
        if self._hooks is not None:
            self._hooks.stop()
            self._hooks = None
            self.ended = ended

    @property
    def running(self) -> bool:
        """It still records."""
        return self._hooks is not None

    @property
    def exits_dropped(self) -> int:
        """Older exits that there was no room for."""
        return self.exits_seen - len(self.exits)

    @property
    def events_dropped(self) -> int:
        """Older events of the guest that there was no room for."""
        return self.events_seen - len(self.events)

    @property
    def dropped_text(self) -> str:
        """A line that says so; "" if nothing was dropped."""
        if not self.exits_dropped and not self.events_dropped:
            return ""
        return (
            f"{self.exits_dropped:,} exits and {self.events_dropped:,} events of the guest were dropped, the oldest: "
            f"the newest {self.most:,} of each are kept"
        )
