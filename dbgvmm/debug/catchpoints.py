"""Catchpoints: stop at events of the CPU rather than at addresses.

An exception stops in front of the instruction that raised it, before it is delivered; going on delivers it. So does a
triple fault: the machine is not lost yet, and whoever mends what is wrong can go on. Everything else stops behind the
instruction that did it, and an interrupt in front of its handler.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

from dbgvmm.bt.callouts import Callouts
from dbgvmm.bt.dispatcher import Dispatcher
from dbgvmm.cpu.bits import Vector
from dbgvmm.cpu.faults import GuestFault, TripleFault
from dbgvmm.cpu.state import VCpu


class Event(Enum):
    """What can be caught."""

    EXCEPTION = "exception"
    INTERRUPT = "interrupt"
    CR3 = "cr3"
    PORT = "port"
    MSR = "msr"
    MODE = "mode"
    TRIPLE_FAULT = "triple-fault"


@dataclass(frozen=True, slots=True)
class Caught:
    """One event. number: vector, port, MSR. value: of an access; of a CR3 load the new one, `old` the one before.
    size: bytes of a port access. fault: of an exception."""

    event: Event
    number: int = 0
    value: int = 0
    write: bool = False
    size: int = 0
    old: int = 0
    fault: GuestFault | None = None


Listener = Callable[[Caught], None]
"""Told of an event, in the middle of it: the guest stands still a little later, if somebody stops it."""


@dataclass(frozen=True, slots=True)
class Catch:
    """An event; of exceptions and interrupts the vector, of ports and MSRs the number (None: any)."""

    event: Event
    number: int | None = None
    reads: bool = True
    writes: bool = True

    def fits(self, number: int, write: bool) -> bool:
        """Whether an access to port or MSR `number` is meant."""
        return self.number in (None, number) and (self.writes if write else self.reads)


class Catchpoints:
    """The catchpoints of a machine. `stop` stops it with a text that says why. Users are counted.

    Listeners are told and do not stop the guest by themselves; they are no catchpoints to those who list them.
    """

    def __init__(self, cpu: VCpu, dispatcher: Dispatcher, callouts: Callouts, stop: Callable[[str], None]) -> None:
        self._cpu = cpu
        self._dispatcher = dispatcher
        self._callouts = callouts
        self._stop = stop
        self._users: Counter[Catch] = Counter()
        self._listeners: dict[Catch, list[Listener]] = {}
        self._by_event: dict[Event, tuple[Catch, ...]] = {}
        self._seen: tuple[int, int, int] | None = None
        self._lost_at: tuple[int, int] | None = None
        self._mode = cpu.mode
        self._segments_changed = cpu.on_segments_changed

    def add(self, catch: Catch) -> None:
        """Stop at each event that `catch` describes."""
        self._users[catch] += 1
        self._apply()

    def remove(self, catch: Catch) -> bool:
        """Take one catchpoint away; False if there is none like it."""
        if not self._users[catch]:
            del self._users[catch]
            return False
        self._users[catch] -= 1
        if not self._users[catch]:
            del self._users[catch]
        self._apply()
        return True

    def clear(self) -> None:
        """Remove all, but no listeners."""
        self._users.clear()
        self._apply()

    def listen(self, catch: Catch, listener: Listener) -> None:
        """Tell `listener` of each event that `catch` describes. One that is told of an exception has to stop the guest."""
        self._listeners.setdefault(catch, []).append(listener)
        self._apply()

    def ignore(self, catch: Catch, listener: Listener) -> None:
        """Tell it no more. Raises ValueError if it is not told."""
        self._listeners.get(catch, []).remove(listener)
        if not self._listeners[catch]:
            del self._listeners[catch]
        self._apply()

    def _tell(self, caught: Caught) -> tuple[bool, bool]:
        """Tell the listeners; whether there were any, and whether a user wants a stop."""
        told = wanted = False
        for catch in self._by_event[caught.event]:
            if not catch.fits(caught.number, caught.write):
                continue
            wanted = wanted or catch in self._users
            for listener in tuple(self._listeners.get(catch, ())):
                told = True
                listener(caught)
        return told, wanted

    def __iter__(self) -> Iterator[Catch]:
        return iter(sorted(self._users, key=lambda catch: (catch.event.value, catch.number or -1)))

    def __len__(self) -> int:
        return len(self._users)

    def _apply(self) -> None:
        """Hook what is wanted, and nothing else: an event that nobody catches costs nothing."""
        catches = dict.fromkeys((*self._users, *self._listeners))
        self._by_event = {event: tuple(catch for catch in catches if catch.event is event) for event in Event}
        wanted = {event for event, catches in self._by_event.items() if catches}
        self._dispatcher.on_fault = self._fault if Event.EXCEPTION in wanted else None
        self._dispatcher.on_interrupt = self._interrupt if Event.INTERRUPT in wanted else None
        self._callouts.on_msr = self._msr if Event.MSR in wanted else None
        self._callouts.port_callouts.on_port = self._port if Event.PORT in wanted else None
        self._cpu.on_segments_changed = self._mode_may_change if Event.MODE in wanted else self._segments_changed
        self._mode = self._cpu.mode

    # -- events

    def _fault(self, fault: GuestFault) -> bool:
        """Whether to stop instead of delivering it."""
        here = self._dispatcher.count, self._cpu.rip, fault.vector
        if here == self._seen:
            self._seen = None
            return False
        told, wanted = self._tell(Caught(Event.EXCEPTION, fault.vector, fault=fault))
        if wanted:
            self._stop_at_fault(fault)
        if fault.vector == Vector.DB:
            return False  # a trap: its instruction would not raise it again
        self._seen = here if told or wanted else None
        return told or wanted

    def _stop_at_fault(self, fault: GuestFault) -> None:
        error = "" if fault.error_code is None else f"({fault.error_code:x}h)"
        address = "" if fault.cr2 is None else f", address {fault.cr2:#x}"
        reason = f": {fault.reason}" if fault.reason else ""
        self._stop(f"caught {Vector.name_of(fault.vector)}{error} at {self._cpu.rip:#x}{address}{reason}")

    def triple_fault(self, fault: TripleFault) -> bool:
        """The machine asks whether to stop in front of the instruction at RIP, which ends it. Once: going on does."""
        here = self._dispatcher.count, self._cpu.rip
        if not self._by_event.get(Event.TRIPLE_FAULT) or here == self._lost_at:
            self._lost_at = None
            return False
        self._lost_at = here
        return True

    def _interrupt(self, vector: int) -> None:
        if self._tell(Caught(Event.INTERRUPT, vector))[1]:
            self._stop(f"caught interrupt {vector:02x}h")

    def _msr(self, number: int, value: int, write: bool) -> None:
        if self._tell(Caught(Event.MSR, number, value, write))[1]:
            self._stop(f"caught MSR {number:#x} {'written' if write else 'read'}, value {value:#x}")

    def _port(self, port: int, size: int, value: int, write: bool) -> None:
        if self._tell(Caught(Event.PORT, port, value, write, size))[1]:
            what = "written" if write else "read"
            self._stop(f"caught port {port:#x} {what}, {size} byte{'s'[: size > 1]}, value {value:#x}")

    def cr3_written(self, old: int, new: int) -> None:
        """The machine tells of each write of CR3."""
        if self._by_event.get(Event.CR3) and self._tell(Caught(Event.CR3, value=new, old=old))[1]:
            self._stop(f"caught CR3 {old:#x} -> {new:#x}")

    def _mode_may_change(self, cpu: VCpu) -> None:
        self._segments_changed(cpu)
        mode, self._mode = self._mode, cpu.mode
        if mode is not self._mode and self._tell(Caught(Event.MODE))[1]:
            self._stop(f"caught the change of mode from {mode.value} to {self._mode.value}")
