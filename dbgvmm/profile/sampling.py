"""The sampler: every so many guest instructions, where the guest is and how it came there.

Time is the guest's: one sample per `period` instructions. When is decided by the instruction count alone, so two runs
of a guest have the same samples. In each period there is one, at an irregular place of its first quarter (the fractional
parts of multiples of the golden ratio: Weyl's sequence, equidistributed): a loop whose length divides the period is not
met at the same instruction for ever.

A sample is taken at an exit of the unit that would reach its point (bt/sampling_points.py): it costs an exit and a
stack walk, and changes nothing. So what it tells is exact to a translation unit, not to an instruction; a unit is not
longer than a page, and hardly ever in two functions.

What each sample weighs is the instructions since the one before it: weights add up to what was executed. A second
weight is the host's time that the monitor took meanwhile, by mechanism.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Final, Protocol

from dbgvmm.bt.dispatcher import Dispatcher
from dbgvmm.bt.forming import UNROLLED
from dbgvmm.bt.sampling_points import NEVER
from dbgvmm.bt.tcdata import MARGIN
from dbgvmm.profile.current_task import CurrentTask
from dbgvmm.profile.history import RunHistory
from dbgvmm.profile.monitor_time import MonitorTime
from dbgvmm.profile.samples import Samples, StackKey, Task
from dbgvmm.timeline.clock import NS_PER_SECOND

if TYPE_CHECKING:
    from dbgvmm.machine import Machine

DEFAULT_HZ: Final = 1000
LEAST_PERIOD: Final = 200
"""Instructions: with fewer, nearly every unit would exit."""
_LEAST_DISTANCE: Final = UNROLLED + MARGIN + 1
"""Instructions to the next sampling point, at least: the unit that met the last one can go on."""
_BITS: Final = 30
_GOLDEN: Final = 0x278D_DE6E
"""2**30 divided by the golden ratio: numbers of 30 bits are the ones that Python is quick with."""
_MASK: Final = (1 << _BITS) - 1
_SPACE: Final = ~0xFFF
"""CR3 without PCID and flags."""


MAX_DEPTH: Final = 128
"""Frames of a stack, at most: the outermost ones of deeper stacks are missing."""


class StackWalker(Protocol):
    """Finds the stack of the CPU's present state: RIP, then return addresses, innermost first.

    It must change nothing that the guest could see.
    """

    def __call__(self) -> tuple[int, ...]: ...


@dataclass(frozen=True)
class Tail:
    """What has passed since the last sample, and where the guest is now."""

    key: StackKey
    instructions: int
    monitor_ns: dict[str, int]


class Sampler:
    """Takes samples of one machine while it is `on`. What it costs while it is off is nothing.

    walk: how stacks are found. task: which task runs, where somebody knows the guest's operating system. history: what else
    is kept of the run meanwhile.
    """

    def __init__(
        self, dispatcher: Dispatcher, walk: StackWalker, task: Callable[[], Task | None] | None = None,
        history: RunHistory | None = None,
    ) -> None:  # fmt: skip
        self._dispatcher = dispatcher
        self._points = dispatcher.sampling
        self._cpu = dispatcher.cpu
        self._engine = dispatcher.engine
        self._exits = 0
        self._time = MonitorTime(dispatcher.ledger)
        self.walk = walk
        self.task = task
        self.history = history
        self.samples = Samples()
        self.period = 0
        """Instructions from one sample to the next, on average; 0: it was never on."""
        self.on = False
        self._last = 0
        self._number = 0
        """Of the period whose sampling point comes next."""
        self._spread = 0
        """Instructions at a period's beginning in which its sampling point may be."""
        self._note_at = 0
        """From which instruction count on the history wants to be told of a sample."""

    # -- on and off

    def start(self, period: int) -> None:
        """Sample once in `period` instructions from now on. Raises ValueError for one that is too short."""
        if period < LEAST_PERIOD:
            raise ValueError(f"{period} instructions from sample to sample are too few: at least {LEAST_PERIOD}")
        if self.on:
            self._close()
        self.period = period
        self.on = True
        self._last = self._dispatcher.count
        self._time.restart()
        self._points.on_sample = self._take
        self._spread = period >> 2
        self._points.at = self._aim()
        if self.history is not None:
            self._note_at = self.history.begin(period, self.samples.ordered)

    def stop(self) -> None:
        """Take no more samples. What has passed since the last one counts where the guest is now."""
        if self.on:
            self._close()
        self.on = False
        self._points.at = NEVER
        if self.history is not None:
            self.history.end()

    def clear(self) -> None:
        """Forget what was sampled; go on if it is on."""
        self.samples.clear()
        self._last = self._dispatcher.count
        self._time.restart()
        if self.history is not None:
            self._note_at = self.history.clear()

    def tail(self) -> Tail | None:
        """What has passed since the last sample; None if nothing has, or it is off."""
        passed = self._dispatcher.count - self._last
        if not self.on or passed <= 0:
            return None
        return Tail(StackKey(*self._key()), passed, self._time.peek())

    # -- sampling

    def _take(self, count: int) -> None:
        """A sample. After some 100,000 instructions of the guest nothing of this is in the host's caches: so it does little."""
        passed = count - self._last
        self._last = count
        if passed > 0:  # not so after a jump back in time
            exits = self._engine.exits
            # Nothing but the last sample was an exit: in code that just computes, that is the rule.
            spent = None if exits == self._exits + 1 else self._time.take()
            self._exits = exits
            cpu, task = self._cpu, self.task
            key = None if task is None else task(), cpu.cr3 & _SPACE, cpu.cpl, self.walk()
            self.samples.add(key, passed, spent)
            if count >= self._note_at and self.history is not None:
                self._note_at = self.history.sampled()
        self._number = number = self._number + 1
        at = number * self.period + ((number * _GOLDEN & _MASK) * self._spread >> _BITS)
        if not _LEAST_DISTANCE <= at - count <= 2 * self.period:
            at = self._aim()
        self._points.at = at

    def _close(self) -> None:
        count = self._dispatcher.count
        if count > self._last:
            self._take(count)

    def _aim(self) -> int:
        """The next sampling point after what happens rarely: a beginning, a jump in time, a sample that came late."""
        number = self._last // self.period
        at = 0
        while at < self._last + _LEAST_DISTANCE:
            number += 1
            at = number * self.period + ((number * _GOLDEN & _MASK) * self._spread >> _BITS)
        self._number = number
        return at

    def _key(self) -> tuple[Task | None, int, int, tuple[int, ...]]:
        """A StackKey, as a plain tuple: those are made in no time."""
        cpu = self._cpu
        return None if self.task is None else self.task(), cpu.cr3 & _SPACE, cpu.cpl, self.walk()


def period_of(hz: int, ns_per_instruction: Fraction) -> int:
    """Instructions from sample to sample for `hz` samples in a second of guest time."""
    return int(NS_PER_SECOND / (hz * ns_per_instruction))


def sampler_of(machine: Machine) -> Sampler:
    """A machine's sampler, with the unwinder for its stacks, and tasks as far as the guest's system is known."""
    walk = machine.unwinder.quickly(MAX_DEPTH)
    return Sampler(machine.dispatcher, walk, CurrentTask(machine.os_finder, machine.cpu), RunHistory(machine))


__all__ = ["DEFAULT_HZ", "LEAST_PERIOD", "MAX_DEPTH", "Sampler", "StackWalker", "Tail", "period_of", "sampler_of"]
