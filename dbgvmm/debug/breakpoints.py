"""Breakpoints: guest-virtual addresses in front of which translation ends. The guest's memory is never changed.

A unit never contains a breakpoint, and none begins at one: so the dispatcher sees every arrival. Where all conditions of
an address are compiled, they run in the translation instead, and the dispatcher sees the arrivals at which one may hold.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import reduce
from operator import or_
from typing import Protocol, runtime_checkable

from dbgvmm.bt.cache import TranslationCache
from dbgvmm.bt.probes import Probe
from dbgvmm.bt.watching import Watch

Condition = Callable[[], bool]
"""Asked with the guest in front of the breakpoint; False lets it go on, unnoticed but for the time that it takes."""
Observer = Callable[[], None]
"""Told of each arrival of the guest, once, whether it stops there or not. One with a `probe` (see CompiledCondition) need
not be told of those at which that goes on."""


class BreakpointOwner(Protocol):
    """A debugger that has breakpoints and watchpoints of its own, so that those who list all can say whose they are."""

    owner_name: str

    def breakpoint_addresses(self) -> Collection[int]:
        """Linear addresses of its breakpoints."""

    def owned_watchpoints(self) -> Collection[Watch]:
        """Its watchpoints."""


@runtime_checkable
class CompiledCondition(Protocol):
    """A condition (or an observer) that may also be code for the translation."""

    @property
    def probe(self) -> Probe | None:
        """Leaves whenever the condition may hold. None: the condition has to be asked each time."""

    def __call__(self) -> object: ...


class Breakpoints:
    """The breakpoints of a machine. Users are counted: gdb and the REPL may both want one address.

    Each user may have a condition; the guest stops if one user has none, or one's holds. Observers (tracepoints) never
    stop it, and are no breakpoints to those who list them.
    """

    def __init__(self, cache: TranslationCache) -> None:
        self._cache = cache
        self._users: dict[int, list[Condition | None]] = {}
        self._observers: dict[int, list[Observer]] = {}
        self.owners: list[BreakpointOwner] = []
        """Debuggers that are connected."""

    def add(self, rip: int, condition: Condition | None = None) -> None:
        """Stop before the instruction at `rip`, in whatever address space."""
        self._users.setdefault(rip, []).append(condition)
        self._apply(rip)

    def remove(self, rip: int, condition: Condition | None = None) -> bool:
        """Take one breakpoint at `rip` with this condition away; False if there is none."""
        users = self._users.get(rip, [])
        if condition not in users:
            return False
        users.remove(condition)
        if not users:
            del self._users[rip]
        self._apply(rip)
        return True

    def replace(self, rip: int, old: Condition | None, new: Condition | None) -> None:
        """Give a breakpoint that is there another condition. Raises ValueError if it is not there."""
        users = self._users.get(rip, [])
        users[users.index(old)] = new
        self._apply(rip)

    def _apply(self, rip: int) -> None:
        """Have units end in front of `rip`, or a probe run there, or nothing: as users and observers want it."""
        asked: list[Condition | Observer | None] = [*self._users.get(rip, ()), *self._observers.get(rip, ())]
        if not asked:
            self._cache.clear_breakpoint(rip)
            return
        probes = [one.probe if isinstance(one, CompiledCondition) else None for one in asked]
        compiled = sorted((probe for probe in probes if probe is not None), key=lambda probe: probe.records)
        try:
            together = reduce(or_, compiled) if len(compiled) == len(probes) else None
        except ValueError:
            together = None  # too long
        self._cache.set_breakpoint(rip, together)

    def add_observer(self, rip: int, observer: Observer) -> None:
        """Tell `observer` of each arrival at `rip`, in whatever address space."""
        self._observers.setdefault(rip, []).append(observer)
        self._apply(rip)

    def remove_observer(self, rip: int, observer: Observer) -> None:
        """Tell it no more. Raises ValueError if it is not told."""
        observers = self._observers.get(rip, [])
        observers.remove(observer)
        if not observers:
            del self._observers[rip]
        self._apply(rip)

    def observed(self, rip: int) -> bool:
        """Whether somebody is told of arrivals at `rip`."""
        return rip in self._observers

    def tell_observers(self, rip: int) -> None:
        """The guest is in front of `rip`."""
        for observer in tuple(self._observers.get(rip, ())):
            observer()

    def clear(self) -> None:
        """Remove all, but no observers."""
        for rip in list(self._users):
            for condition in list(self._users[rip]):
                self.remove(rip, condition)

    def stops_at(self, rip: int) -> bool:
        """Whether the guest, which is in front of `rip`, has to stop there. All conditions are asked."""
        stops = [condition is None or condition() for condition in self._users.get(rip, ())]
        return any(stops)

    def __contains__(self, rip: object) -> bool:
        return rip in self._users

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self._users))

    def __len__(self) -> int:
        return len(self._users)
