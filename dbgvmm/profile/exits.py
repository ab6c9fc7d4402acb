"""`machine.exits`: what the monitor did and what it cost, as objects for people and scripts.

    machine.exits.mark("boot")
    machine.run()
    for row in machine.exits.since("boot").rows(): ...

What every exit was, and the host's time for it, is known always. Which instruction of the guest it came from is known while
`keep_places` is on; a `Recording` has them one by one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dbgvmm.bt.exit_places import ObservedExit, Observer
from dbgvmm.bt.mechanisms import DETAIL_SHIFT, TRANSLATION
from dbgvmm.guest_os import GuestOsError
from dbgvmm.profile.moments import POWER_ON, GuestNanoseconds, InstructionCount, Interval, Moment
from dbgvmm.profile.places import Places
from dbgvmm.profile.recording import MOST_EVENTS, Recording

if TYPE_CHECKING:
    from dbgvmm.machine import Machine


_MOST_FAILURES: Final = 3
_MECHANISM: Final = (1 << DETAIL_SHIFT) - 1


class _Names:
    """Tasks' names from the guest's operating system, until it has often enough turned out that it cannot be read."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._failures = 0

    def current(self) -> str:
        """ "init, 1", or ""."""
        if self._failures >= _MOST_FAILURES:
            return ""
        try:
            task = self._machine.os.current_task()
        except GuestOsError:
            self._failures += 1
            return ""
        return "" if task is None else f"{task.name}, {task.pid}"


class MomentError(ValueError):
    """There is no moment of that name, or no recording. The message is one line that says what to do."""


class Exits:
    """The ledger of a machine over time."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.moments: dict[str, Moment] = {}
        self.places: Places | None = None
        self._marked_places: dict[str, Places] = {}
        """Copies of them at the moments that were marked meanwhile."""
        self.recording: Recording | None = None
        self._observers: tuple[Observer, ...] = ()

    # -- moments

    def snapshot(self) -> Moment:
        """The ledger as it stands. `later - earlier` is what happened in between."""
        machine = self._machine
        count = machine.count
        cells = machine.dispatcher.ledger.times()
        ended = sum(number for key, (number, _) in cells.items() if key & _MECHANISM < TRANSLATION)
        return Moment(
            InstructionCount(count), GuestNanoseconds(machine.clock.ns_at(count)), machine.seconds_total, ended, cells
        )

    def mark(self, name: str) -> Moment:
        """Remember this moment by a name; one of the same name is replaced."""
        self.moments[name] = moment = self.snapshot()
        if self.places is not None:
            self._marked_places[name] = self.places.copy()
        else:
            self._marked_places.pop(name, None)
        return moment

    def moment(self, name: str) -> Moment:
        """A marked moment. Raises MomentError."""
        try:
            return self.moments[name]
        except KeyError:
            known = ", ".join(self.moments) or "none yet"
            raise MomentError(f"no moment is called {name!r} (known: {known}): `exits mark {name}` makes one") from None

    def since(self, name: str | None = None, until: str | None = None) -> Interval:
        """What happened from one moment (power-on) to another (now). Raises MomentError."""
        start = POWER_ON if name is None else self.moment(name)
        end = self.snapshot() if until is None else self.moment(until)
        if end.count < start.count or end.exits < start.exits:
            raise MomentError(f"{until!r} was before {name!r}: exchange them")
        return end - start

    # -- where exits come from

    def keep_places(self) -> Places:
        """From now on, count exits by the guest's instruction, from nothing."""
        self.drop_places()
        self.places = places = Places()
        self.observe(places.add)
        return places

    def drop_places(self) -> None:
        """Count them no more, and forget what was counted."""
        if self.places is not None:
            self.forget(self.places.add)
            self.places = None
            self._marked_places.clear()

    def places_since(self, name: str | None = None, until: str | None = None) -> Places:
        """Where exits came from between two moments: from when places began to be kept, to now. Raises MomentError."""
        if self.places is None:
            raise MomentError("where exits come from is not kept: `exits record on`, then run the guest")
        self.since(name, until)
        later = self.places if until is None else self._places_at(until)
        return later if name is None else later - self._places_at(name)

    def keeps_places_since(self, name: str | None, until: str | None) -> bool:
        """Whether `places_since` can tell."""
        return self.places is not None and all(each is None or each in self._marked_places for each in (name, until))

    def _places_at(self, name: str) -> Places:
        places = self._marked_places.get(name)
        if places is None:
            raise MomentError(f"where exits come from was not kept yet at {name!r}: `exits record on` first, then mark moments")
        return places

    # -- recordings

    def record(self, most: int = MOST_EVENTS) -> Recording:
        """Record exits and events of the guest from now on. Raises MomentError if that is being done already."""
        if self.recording is not None and self.recording.running:
            raise MomentError("a recording is running: `timeline stop` ends it")
        self.recording = recording = Recording(self._machine, self.snapshot(), most, _Names(self._machine))
        self.observe(recording.add_exit)
        return recording

    def call_names(self) -> dict[int, str]:
        """System calls' names by number, if the guest's system is known and can tell."""
        try:
            return self._machine.os.syscalls()
        except GuestOsError:
            return {}

    def stop_recording(self) -> Recording:
        """End the recording, and keep it. Raises MomentError if there is none."""
        recording = self.recording
        if recording is None or not recording.running:
            raise MomentError("nothing is being recorded: `timeline start` begins")
        recording.stop(self.snapshot())
        self.forget(recording.add_exit)
        return recording

    # -- whoever wants to be told of each exit

    def observe(self, observer: Observer) -> None:
        """Tell `observer` of each exit from now on."""
        self._observers = (*self._observers, observer)
        self._machine.dispatcher.observe_exits(self._tell)

    def forget(self, observer: Observer) -> None:
        """Tell it no more. When nobody is told, it costs nothing."""
        self._observers = tuple(known for known in self._observers if known != observer)
        self._machine.dispatcher.observe_exits(self._tell if self._observers else None)

    def _tell(self, exit_: ObservedExit) -> None:
        for observer in self._observers:
            observer(exit_)
