"""Where in the guest an exit came from, at which exact instruction count: for who records exits one by one.

This is not kept for exits in general, because for a fault it has to be looked up. While somebody observes, the engine's exits
come through here first; otherwise nothing here runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Final

from dbgvmm.bt import units
from dbgvmm.bt.emission import EXIT
from dbgvmm.bt.mechanisms import RECORDING
from dbgvmm.bt.units import Site, TranslationUnit
from dbgvmm.hardware.layout import MASK64

if TYPE_CHECKING:
    from dbgvmm.bt.dispatcher import Dispatcher

_CALLOUT_VECTOR: Final = EXIT[1]
_WITHOUT_INSTRUCTION: Final = frozenset((units.EDGE, units.INDIRECT))
"""Their place is the start of their unit: which of its branches left is not noted in the translation."""


@dataclass(frozen=True, slots=True)
class ObservedExit:
    """One exit.

    key: mechanism and detail (mechanisms.py). rip: the guest's instruction; for a branch that left, the start of its unit; for
    an indirect branch without a slot, its target. count: instructions retired before it. start: the host's `perf_counter`.
    seconds: of the host, its own. whole: with the work inside of it.
    """

    key: int
    rip: int
    count: int
    start: float
    seconds: float
    whole: float


Observer = Callable[[ObservedExit], None]


class ExitPlaces:
    """Stands in front of the handler of exits, and tells `observer` of each when it is over."""

    def __init__(self, dispatcher: Dispatcher, observer: Observer) -> None:
        self._dispatcher = dispatcher
        self._observer = observer
        self._place: tuple[int, int] | None = None
        self._finding = 0.0
        self.handler: Callable[[int], None] = dispatcher.on_exit
        self._context = dispatcher.engine.context
        self._meter = dispatcher.engine.meter
        self._recording = dispatcher.ledger.cells[RECORDING]

    def on_exit(self, vector: int) -> None:
        """The engine's handler while somebody observes."""
        start = perf_counter()
        self._place = self._find(vector)
        self._finding = perf_counter() - start
        self._meter.inner = 0.0
        self.handler(vector)

    def on_interruption(self) -> None:
        """The same for code that runs in place."""
        direct = self._dispatcher.direct
        if direct is not None:
            self._place, self._finding, self._meter.inner = direct.place(), 0.0, 0.0
            direct.on_interruption()

    def note(self, start: float) -> None:
        """The end of an exit."""
        meter, place, finding = self._meter, self._place, self._finding
        cell = meter.cell
        whole = meter.note(start)
        if place is None:  # it had begun when nobody observed yet
            return
        cell.seconds -= finding
        self._recording.seconds += finding
        whole -= finding
        self._place = None
        seen = ObservedExit(cell.key, *place, start, whole - meter.inner, whole)
        meter.timed(self._recording, self._observer, seen)

    def _find(self, vector: int) -> tuple[int, int]:
        """Guest RIP, and instructions retired before it."""
        dispatcher = self._dispatcher
        cpu, count = dispatcher.cpu, dispatcher.count
        if dispatcher.stepper.active:
            return cpu.segs[1].base + cpu.rip & 0xFFFF_FFFF, count
        if dispatcher.direct is not None and dispatcher.direct.active:
            return dispatcher.direct.place()
        tc_rip = self._context.q[self._context.rip_q]
        if vector == _CALLOUT_VECTOR:
            site = dispatcher.cache.sites.get(tc_rip)
            if site is not None:
                return self._of_site(site, tc_rip, count)
        unit = dispatcher.cache.unit_at(tc_rip)
        if unit is None:  # the miss exits, whose window is not open here either: RCX holds the target
            return self._context.gpr[1], count
        return self._of_mark(unit, tc_rip, count)

    def _of_site(self, site: Site, tc_rip: int, count: int) -> tuple[int, int]:
        unit, kind = site.unit, site.kind
        if kind in (units.LOOKUP_MISS, units.RETURNED):
            return self._context.gpr[1], count
        if kind in _WITHOUT_INSTRUCTION:
            counted_by_monitor = kind == units.INDIRECT or not site.linkable  # type: ignore[attr-defined]  # an Edge
            return unit.guest_rip, count + site.retired if counted_by_monitor else count
        if kind == units.SLICE:
            return self._of_mark(unit, unit.resume_at, count)
        if kind == units.PROBE or kind == units.STORE:
            return self._of_mark(unit, tc_rip - len(EXIT), count)
        if kind == units.BREAK:
            return site.guest_rip, count
        pending = kind == units.PENDING
        counted = site.retired > unit.count_index if pending else site.retired >= unit.count_index
        rip = site.next_rip if pending else site.guest_rip
        return rip, _exact(unit, count, site.retired, counted)

    @staticmethod
    def _of_mark(unit: TranslationUnit, tc_rip: int, count: int) -> tuple[int, int]:
        if not unit.mark_offsets:
            return unit.guest_rip, count  # a thunk, in front of its unit
        mark = unit.mark_at(tc_rip)
        rip = unit.guest_rip + mark.guest_offset & MASK64
        return rip, _exact(unit, count, mark.retired, unit.tc_start + mark.tc_offset >= unit.resume_at)


def _exact(unit: TranslationUnit, count: int, retired: int, counted: bool) -> int:
    """The count after `retired` instructions of a unit that has counted itself as a whole, or not yet."""
    return count - (unit.length - retired) if counted else count + retired


__all__ = ["ExitPlaces", "ObservedExit", "Observer"]
