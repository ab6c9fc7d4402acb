"""Exact execution counts out of the translated code.

While somebody counts, each unit adds 1 to a word of its own where it counts itself for the clock, and each *side exit*
(a way out of its middle that is linked) adds 1 to another. All other ways out of the middle lead to the monitor, which
makes the instruction count exact there (`Recovery.account`): the same call says how far the unit came. So how often each
of a unit's instructions has retired follows:

    passes, less the ways out behind which it lies

and the sum over all instructions is the increase of the instruction count, by construction: whatever moves the one is
seen by the other. Words live until the TC is flushed, as the units' bytes do; before that, and whenever somebody asks,
their values move to `Execution` objects that are known by guest address and bytes, and lose nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from dbgvmm.bt.counter_area import CounterArea
from dbgvmm.bt.units import Site, TranslationUnit

_MOST_WORDS: Final = 64
"""More than a unit can need: its passes, and all branches of an unrolled one."""


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
        self._units: list[tuple[int, TranslationUnit, list[int]]] = []
        self._partly: dict[tuple[TranslationUnit, int], int] = {}
        self.executions: dict[CodeKey, dict[int, int]] = {}

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
        self._units.append((self._area.take(1 + len(exits)), unit, exits))

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
        for first, unit, exits in self._units:
            passes = words[first]
            if not passes:
                continue
            runs = self._runs(unit)
            runs[unit.length] = runs.get(unit.length, 0) + passes
            for number, retired in enumerate(exits, first + 1):
                taken = words[number]
                if taken:
                    runs[retired] = runs.get(retired, 0) + taken
                    runs[unit.length] -= taken
        for (unit, retired), times in self._partly.items():
            runs = self._runs(unit)
            runs[retired] = runs.get(retired, 0) + times
        self._partly.clear()
        return self.executions

    def _runs(self, unit: TranslationUnit) -> dict[int, int]:
        page = unit.page
        key = CodeKey(
            unit.guest_rip, page.user, tuple(frame for _, frame in page.pages), unit.guest_bytes, unit.length, 64
        )
        runs = self.executions.get(key)
        if runs is None:
            runs = self.executions[key] = {}
        return runs

    def forget_units(self) -> None:
        """The TC is about to be flushed: take the units' counts, and let them go."""
        self.collect()
        self._units.clear()
        self._area.free_all()

    def clear(self) -> None:
        """Begin again at 0. Only where the instruction count is exact."""
        self.collect()
        self.executions.clear()


__all__ = ["CodeKey", "UnitCounting"]
