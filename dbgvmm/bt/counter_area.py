"""The counters: words of the monitor's memory that translated code adds to, without an exit.

The area grows by pages, and is used from its start again after a flush of the TC.
"""

from __future__ import annotations

from typing import Final

from dbgvmm.hardware.layout import COUNTERS_OFFSET, COUNTERS_SIZE, COUNTERS_VA, PAGE_SIZE, USER_COUNTERS_VA
from dbgvmm.hardware.memory import FramePool
from dbgvmm.mmu.monitor_space import MonitorSpace

_WORDS_PER_PAGE: Final = PAGE_SIZE // 8
FIRST_PAGE: Final = 0xB8
_TLB_ENTRIES: Final = 64
_FIRST_ENTRY: Final = 2
"""The engine's TLB is direct-mapped, by the page number's low bits, and has at least so many entries (it grows and shrinks).
The first ones are the TC's data page's, for kernel and user, which every unit uses: no counter may be in their way. The
busiest counters, which are the first ones, are not where a small guest has its data, either."""
_FIRST: Final = FIRST_PAGE * _WORDS_PER_PAGE
_END: Final = COUNTERS_SIZE // 8


class CounterArea:
    """The area as the monitor sees it."""

    def __init__(self, frames: FramePool, monitor: MonitorSpace) -> None:
        self._bytes = frames.block.bytes[COUNTERS_OFFSET : COUNTERS_OFFSET + COUNTERS_SIZE]
        self._words = self._bytes.cast("Q")
        self._monitor = monitor
        self._mapped = FIRST_PAGE
        self._next = _FIRST

    @property
    def used(self) -> int:
        """Words in use."""
        return self._next - _FIRST

    def room(self, words: int) -> bool:
        """Whether so many more can be had, one behind the other; then they are mapped."""
        end = self._next + words
        page = end // _WORDS_PER_PAGE
        if page % _TLB_ENTRIES < _FIRST_ENTRY:
            self._next = (page - page % _TLB_ENTRIES + _FIRST_ENTRY) * _WORDS_PER_PAGE
            end = self._next + words
        if end > _END:
            return False
        while self._mapped * _WORDS_PER_PAGE < end:
            self._monitor.map_counters(self._mapped)
            self._mapped += 1
        return True

    def address(self, user: bool) -> int:
        """Where translated code finds the next word that is free."""
        return (USER_COUNTERS_VA if user else COUNTERS_VA) + 8 * self._next

    def take(self, words: int) -> int:
        """Take the next free words, which hold 0; returns the first one's number in `read_and_clear`."""
        first = self._next
        self._next = first + words
        return first - _FIRST

    def read_and_clear(self) -> list[int]:
        """What all words in use hold, in their order; then they hold 0. Only while no translated code runs."""
        values = self._words[_FIRST : self._next].tolist()
        self._bytes[8 * _FIRST : 8 * self._next] = bytes(8 * len(values))
        return values

    def free_all(self) -> None:
        """No word is in use any more: nothing counts in them now. They hold 0 (see `read_and_clear`)."""
        self._next = _FIRST


__all__ = ["CounterArea"]
