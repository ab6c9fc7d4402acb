"""Timed events in virtual time: what makes a timer device tick.

Events run in order of their deadline and, for equal deadlines, in the order they were scheduled. That order is
a number (`Event.order`) and part of what a device saves, so a run resumed from a snapshot breaks ties as the
original did.

To restore a snapshot: the clock first, then `EventQueue.load_state` (which empties the queue), then each device,
which puts back its own events with `resume`.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from heapq import heappop, heappush

from dbgvmm.timeline.clock import InstructionClock

EventCallback = Callable[[], None]


@dataclass(slots=True, eq=False)
class Event:
    """One scheduled callback. `when_ns` is virtual time; `pending` ends when it runs or is cancelled."""

    when_ns: int
    order: int
    callback: EventCallback
    name: str
    pending: bool = True


@dataclass(frozen=True, slots=True)
class SavedEvent:
    """A pending event as a device keeps it in its snapshot."""

    when_ns: int
    order: int


class EventQueue:
    """A deterministic queue of events on one `InstructionClock`."""

    def __init__(self, clock: InstructionClock) -> None:
        self._clock = clock
        self._heap: list[tuple[int, int, Event]] = []
        self._next_order = 0

    def schedule(self, when_ns: int, callback: EventCallback, name: str) -> Event:
        """Run `callback` once virtual time reaches `when_ns`. A time in the past is due at once."""
        event = Event(when_ns, self._next_order, callback, name)
        self._next_order += 1
        heappush(self._heap, (event.when_ns, event.order, event))
        return event

    def cancel(self, event: Event | None) -> None:
        """Make sure that `event` does not run. One that already ran, or None, is ignored."""
        if event is not None:
            event.pending = False

    def next_deadline_ns(self) -> int | None:
        """Virtual time of the earliest pending event, or None."""
        self._drop_cancelled()
        return self._heap[0][0] if self._heap else None

    def run_due(self) -> int:
        """Run every event whose time has come, those that callbacks add included; returns how many ran."""
        ran = 0
        while True:
            self._drop_cancelled()
            if not self._heap or self._heap[0][0] > self._clock.now_ns():
                return ran
            event = heappop(self._heap)[2]
            event.pending = False
            event.callback()
            ran += 1

    def pending(self) -> list[Event]:
        """The pending events in the order they will run, for people to look at."""
        return [entry[2] for entry in sorted(self._heap, key=lambda entry: entry[:2]) if entry[2].pending]

    @staticmethod
    def save(event: Event | None) -> SavedEvent | None:
        """What the owner of `event` keeps in its snapshot; None if it is not pending."""
        return SavedEvent(event.when_ns, event.order) if event is not None and event.pending else None

    def resume(self, saved: SavedEvent | None, callback: EventCallback, name: str) -> Event | None:
        """Put a saved event back with its original place among ties."""
        if saved is None:
            return None
        event = Event(saved.when_ns, saved.order, callback, name)
        heappush(self._heap, (event.when_ns, event.order, event))
        return event

    def state(self) -> int:
        """What a snapshot must keep of the queue itself: the order number of the next event."""
        return self._next_order

    def load_state(self, next_order: int) -> None:
        """Empty the queue and continue numbering from `next_order`; owners then `resume` their events."""
        for _, _, event in self._heap:
            event.pending = False
        self._heap.clear()
        self._next_order = next_order

    def _drop_cancelled(self) -> None:
        while self._heap and not self._heap[0][2].pending:
            heappop(self._heap)
