"""Exact execution counts out of the translated code.

While somebody counts, each unit adds 1 to a word of its own where it counts itself for the clock, and each *side exit*
(a way out of its middle that is linked) adds 1 to another. All other ways out of the middle lead to the monitor, which
makes the instruction count exact there (`Recovery.account`): the same call says how far the unit came. So how often each
of a unit's instructions has retired follows:

    passes, less the ways out behind which it lies

and the sum over all instructions is the increase of the instruction count, by construction: whatever moves the one is
seen by the other. Words live until the TC is flushed, as the units' bytes do; before that, and whenever somebody asks,
their values move to tables that are known by guest address and bytes, and lose nothing.

Where calls through pointers go is counted by call site (emit_counting.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from dbgvmm.bt.counter_area import CounterArea
from dbgvmm.bt.emit_counting import BEHIND, ELSEWHERE, FIRST
from dbgvmm.bt.units import Site, TranslationUnit
from dbgvmm.hardware.layout import MASK64

_MOST_WORDS: Final = 64
"""More than a unit can need: its passes, the targets of its call, and all branches of an unrolled one."""
UNKNOWN: Final = -1
"""Where calls went whose target found no slot."""


class CodeKey(NamedTuple):
    """Guest code that is counted as one: straight-line instructions where they are mapped.

    frames: of the page and, if the code crosses, the next one; so equal linear addresses of two address spaces are told
    apart, and what they share is counted once. data: the guest's bytes (one round of an unrolled loop). length:
    instructions in all rounds. bits: 64, 32, 16.
    """

    address: int
    user: bool
    frames: tuple[int, ...]
    data: bytes
    length: int
    bits: int


class UnitCounting:
    """Counts what is executed. `executions`: for each piece of code, how often its first n instructions ran in a row, by n.

    Numbers may be negative in between (a pass that was counted and not completed): sum up from the end.
    """

    def __init__(self, area: CounterArea, make_exact: Callable[[TranslationUnit, int, bool], None]) -> None:
        self._area = area
        self._make_exact = make_exact
        self.first_exit = 1
        """Of the unit that is being made: its counters before those of its side exits."""
        self._units: list[tuple[int, int, TranslationUnit, list[int]]] = []
        self._partly: dict[tuple[TranslationUnit, int], int] = {}
        self.executions: dict[CodeKey, dict[int, int]] = {}
        self.targets: dict[CodeKey, dict[int, int]] = {}
        """Of code that ends in a branch through a pointer: how often where to; under UNKNOWN what found no slot."""

    # -- what the translator asks

    def has_room(self) -> bool:
        """Whether another unit can have counters; if not, the TC must be flushed."""
        return self._area.room(_MOST_WORDS)

    def place(self, user: bool) -> int:
        """Where the counters of the unit that is being made are, for its code (ask `has_room` before)."""
        return self._area.address(user)

    def adopt(self, unit: TranslationUnit) -> None:
        """The unit was made, with counters at the last `place`."""
        length = unit.length
        exits = [edge.retired for edge in unit.edges if edge.retired != length]
        first = self._area.take(self.first_exit + len(exits))
        self._units.append((first, self.first_exit, unit, exits))

    # -- what the monitor tells

    def account(self, unit: TranslationUnit, retired: int, counted: bool) -> None:
        """Control left the unit after `retired` instructions of a pass; counted: it had counted itself."""
        self._make_exact(unit, retired, counted)
        partly = self._partly
        key = unit, retired
        partly[key] = partly.get(key, 0) + 1
        if counted:
            key = unit, unit.length
            partly[key] = partly.get(key, 0) - 1

    def take_back(self, site: Site) -> None:
        """The instruction of a callout, counted as retired, has faulted."""
        partly, unit, number = self._partly, site.unit, site.retired
        partly[unit, number] = partly.get((unit, number), 0) + 1
        partly[unit, number + 1] = partly.get((unit, number + 1), 0) - 1

    def stepped(self, key: CodeKey) -> None:
        """A single instruction (of 16- or 32-bit code) has retired."""
        runs = self.executions.setdefault(key, {})
        runs[1] = runs.get(1, 0) + 1

    # -- taking

    def collect(self) -> dict[CodeKey, dict[int, int]]:
        """`executions`, up to date. Only where the instruction count is exact."""
        words = self._area.read_and_clear()
        for first, first_exit, unit, exits in self._units:
            passes = words[first]
            if passes:
                runs = self._runs(unit)
                runs[unit.length] = runs.get(unit.length, 0) + passes
            for number, retired in enumerate(exits, first + first_exit):
                taken = words[number]
                if taken:
                    runs = self._runs(unit)
                    runs[retired] = runs.get(retired, 0) + taken
                    runs[unit.length] = runs.get(unit.length, 0) - taken
            if first_exit == BEHIND:
                self._take_targets(words, first, unit)
        for (unit, retired), times in self._partly.items():
            runs = self._runs(unit)
            runs[retired] = runs.get(retired, 0) + times
        self._partly.clear()
        return self.executions

    def _take_targets(self, words: list[int], first: int, unit: TranslationUnit) -> None:
        for at in range(first + FIRST, first + ELSEWHERE, 2):
            if words[at + 1]:
                self._went(unit, -words[at] & MASK64, words[at + 1])
        if words[first + ELSEWHERE]:
            self._went(unit, UNKNOWN, words[first + ELSEWHERE])

    def _went(self, unit: TranslationUnit, target: int, times: int) -> None:
        targets = self.targets.setdefault(_key(unit), {})
        targets[target] = targets.get(target, 0) + times

    def _runs(self, unit: TranslationUnit) -> dict[int, int]:
        key = _key(unit)
        runs = self.executions.get(key)
        if runs is None:
            runs = self.executions[key] = {}
        return runs

    def went(self, unit: TranslationUnit, target: int) -> None:
        """A precise unit ended in a branch through a pointer, to `target`."""
        self._went(unit, target, 1)

    def forget_units(self) -> None:
        """The TC is about to be flushed: take the units' counts, and let them go."""
        self.collect()
        self._units.clear()
        self._area.free_all()

    def clear(self) -> None:
        """Begin again at 0. Only where the instruction count is exact."""
        self.collect()
        self.executions.clear()
        self.targets.clear()


def _key(unit: TranslationUnit) -> CodeKey:
    page = unit.page
    frames = tuple(frame for _, frame in page.pages)
    return CodeKey(unit.guest_rip, page.user, frames, unit.guest_bytes, unit.length, 64)


__all__ = ["UNKNOWN", "CodeKey", "UnitCounting"]
