"""`machine.exits`: what the monitor did and what it cost, as objects for people and scripts.

    machine.exits.mark("boot")
    machine.run()
    for row in machine.exits.since("boot").rows(): ...

What every exit was, and the host's time for it, is known always. Which instruction of the guest it came from is known while
`keep_places` is on; a `Recording` has them one by one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from dbgvmm.bt.exit_places import ObservedExit
from dbgvmm.bt.mechanisms import parts
from dbgvmm.profile.moments import POWER_ON, GuestNanoseconds, InstructionCount, Interval, Moment
from dbgvmm.profile.places import Places
from dbgvmm.profile.recording import MOST_EVENTS, Recording

if TYPE_CHECKING:
    from dbgvmm.machine import Machine


class _Task(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def pid(self) -> int: ...


class _System(Protocol):
    def current_task(self) -> _Task | None: ...

    def syscalls(self) -> dict[int, str]: ...


class _Names:
    """Tasks' names from an operating system that the machine knows of, until it cannot be read."""

    def __init__(self, system: _System) -> None:
        self._system: _System | None = system

    def current(self) -> str:
        """ "init, 1", or ""."""
        if self._system is None:
            return ""
        try:
            task = self._system.current_task()
        except Exception:  # noqa: BLE001 - whatever is in guest memory, the guest runs on: it is recorded without names
            self._system = None
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
        self.recording: Recording | None = None

    # -- moments

    def snapshot(self) -> Moment:
        """The ledger as it stands. `later - earlier` is what happened in between."""
        machine = self._machine
        count = machine.count
        cells = {key: (cell.count, cell.seconds) for key, cell in sorted(machine.dispatcher.ledger.cells.items())}
        ended = sum(number for key, (number, _) in cells.items() if parts(key)[0].is_exit)
        return Moment(
            InstructionCount(count), GuestNanoseconds(machine.clock.ns_at(count)), machine.seconds_total, ended, cells
        )

    def mark(self, name: str) -> Moment:
        """Remember this moment by a name; one of the same name is replaced."""
        self.moments[name] = moment = self.snapshot()
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
        self.places = Places()
        self._observe()
        return self.places

    def drop_places(self) -> None:
        """Count them no more, and forget what was counted."""
        self.places = None
        self._observe()

    # -- recordings

    def record(self, most: int = MOST_EVENTS) -> Recording:
        """Record exits and events of the guest from now on. Raises MomentError if that is being done already."""
        if self.recording is not None and self.recording.running:
            raise MomentError("a recording is running: `timeline stop` ends it")
        system = self._system()
        names = None if system is None else _Names(system)
        self.recording = recording = Recording(self._machine, self.snapshot(), most, names)
        self._observe()
        return recording

    def _system(self) -> _System | None:
        system: _System | None = getattr(self._machine, "os", None)
        return system

    def call_names(self) -> dict[int, str]:
        """System calls' names by number, if the machine knows its guest's system and that can tell."""
        system = self._system()
        if system is None:
            return {}
        try:
            return system.syscalls()
        except Exception:  # noqa: BLE001 - then they are shown by number
            return {}

    def stop_recording(self) -> Recording:
        """End the recording, and keep it. Raises MomentError if there is none."""
        recording = self.recording
        if recording is None or not recording.running:
            raise MomentError("nothing is being recorded: `timeline start` begins")
        recording.stop(self.snapshot())
        self._observe()
        return recording

    def _observe(self) -> None:
        wanted = self.places is not None or (self.recording is not None and self.recording.running)
        self._machine.dispatcher.observe_exits(self._on_exit if wanted else None)

    def _on_exit(self, exit_: ObservedExit) -> None:
        if self.places is not None:
            self.places.add(exit_)
        if self.recording is not None and self.recording.running:
            self.recording.add_exit(exit_)
