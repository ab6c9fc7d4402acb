"""Sampling points: deadlines that need not be exact, and so cost little more than an exit.

An exact deadline is reached in precise units, which are made for that one place and thrown away. A sampling point is met
at the exit of the unit that would reach it, and that very unit goes on behind its count: nothing is translated, and nothing
of it is left in the cache. So a guest does the same, at the same instruction, with sampling and without.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from dbgvmm.bt.mechanisms import SAMPLE, SLICE
from dbgvmm.bt.tcdata import BUDGET, LIMIT, MARGIN, TSC_BASE
from dbgvmm.bt.units import Site
from dbgvmm.hardware.layout import MASK64

if TYPE_CHECKING:
    from dbgvmm.bt.dispatcher import Dispatcher

NEVER: Final = 1 << 62
"""An instruction count that is not reached."""
_BUDGET: Final = BUDGET >> 3
_LIMIT: Final = LIMIT >> 3
_TSC_BASE: Final = TSC_BASE >> 3


class SamplingPoints:
    """Calls `on_sample` with the instruction count at an exit near `at`, when the CPU's RIP and registers are exact (its RFLAGS
    may be older). It must set `at` anew, and may change nothing else."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._signed = dispatcher.data.signed
        self._words = dispatcher.data.words
        self._translator = dispatcher.cache.translator
        self._cpu = dispatcher.cpu
        self._q = dispatcher.engine.context.q
        self._rip = dispatcher.engine.context.rip_q
        ledger = dispatcher.ledger
        self._meter = ledger.meter
        self._sample_cell, self._slice_cell = ledger.cells[SAMPLE], ledger.cells[SLICE]
        self._deadline = 0
        self.at = NEVER
        self.on_sample: Callable[[int], None] = self._nobody

    def _nobody(self, count: int) -> None:
        self.at = NEVER

    def earlier(self, deadline: int) -> int:
        """The limit of the dispatcher's budget: the exact deadline, or a sampling point that comes before it."""
        self._deadline = deadline
        if self.at < deadline:
            self._dispatcher.due = 0
            return self.at
        self._dispatcher.due = -MARGIN
        return deadline

    def sample(self, ahead: int = 0) -> int:
        """The point is reached. Nobody else's time has come, and the budget goes on towards what comes next: it is returned.

        ahead: instructions that a unit has counted and not executed yet.
        """
        dispatcher, signed, words = self._dispatcher, self._signed, self._words
        budget, limit = signed[_BUDGET] + ahead, dispatcher.limit
        signed[_BUDGET] = budget
        self.on_sample(limit - budget - MARGIN)
        at = self.at
        if at >= self._deadline:
            at = self.earlier(self._deadline)
        dispatcher.limit = at
        signed[_LIMIT] = at - MARGIN
        words[_TSC_BASE] = words[_TSC_BASE] + (at - limit) * self._translator.tsc.ticks & MASK64
        signed[_BUDGET] = left = budget + at - limit - ahead
        return left

    def deadline_is_due(self) -> bool:
        """The budget is used up: whether by the exact deadline. If it was by a sampling point, the sample is taken."""
        if not self._dispatcher.due:
            self.sample()
        return self._signed[_BUDGET] <= -MARGIN

    def taken(self, site: Site) -> bool:
        """At the end of a slice: whether it was only for a sample. Then the unit goes on behind its count."""
        dispatcher = self._dispatcher
        if dispatcher.due or dispatcher.stop_requested:
            return False
        self._meter.cell = self._sample_cell
        unit = site.unit
        if not site.guest_rip:
            mark = unit.mark_at(unit.resume_at)
            assert not mark.fix, "no register is spilled where a unit has counted itself"
            site.guest_rip = unit.guest_rip + mark.guest_offset & MASK64
        self._cpu.rip = site.guest_rip
        if self.sample(unit.length - site.retired) < 0:
            self._meter.cell = self._slice_cell
            return False
        self._q[self._rip] = unit.resume_at
        return True


__all__ = ["NEVER", "SamplingPoints"]
