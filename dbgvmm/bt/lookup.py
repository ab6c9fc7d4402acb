"""The lookup tables: every guest address has a quadword that says where an indirect branch to it goes on.

There is one table for user code and one for the kernel, and the MMU makes them sparse: a page exists only if a branch
needed a slot in it. Slots that say nothing lead to a miss exit, which is the monitor's cue to fill them.
"""

from __future__ import annotations

from typing import Final

from dbgvmm.hardware.layout import KERNEL_LOOKUP_VA, MASK64, MONITOR_PA, PAGE_SIZE, USER_LOOKUP_VA
from dbgvmm.hardware.memory import FramePool
from dbgvmm.mmu.monitor_space import MonitorSpace

_BASES: Final = KERNEL_LOOKUP_VA, USER_LOOKUP_VA


class LookupTables:
    """Both tables. miss: TC addresses of the kernel's and the user's miss exit."""

    def __init__(self, frames: FramePool, monitor: MonitorSpace, miss: tuple[int, int]) -> None:
        self._bytes = frames.block.bytes
        self._words = frames.u64
        self._monitor = monitor
        self._miss = miss
        self._empty_pages = [address.to_bytes(8, "little") * 512 for address in miss]
        self._pages: dict[int, int] = {}
        """Index of the first of a page's 512 words, by the page's number."""
        self.fills = 0

    def __len__(self) -> int:
        """Pages that exist."""
        return len(self._pages)

    def make_page(self, slot: int) -> int:
        """Have the page of a slot's address exist, its slots empty if it is new. Returns the index of its first word."""
        number = slot >> 12
        first = self._pages.get(number)
        if first is None:
            frame = self._monitor.map_lookup_page(slot)
            first = self._pages[number] = frame - MONITOR_PA >> 3
            self._clear(number, first)
        return first

    def fill(self, guest_rip: int, user: bool, entry: int) -> None:
        """Have indirect branches to `guest_rip` go on at TC address `entry`."""
        slot = _BASES[user] + 8 * guest_rip & MASK64
        first = self._pages.get(slot >> 12)
        if first is None:
            first = self.make_page(slot)
        self._words[first + (slot >> 3 & 511)] = entry
        self.fills += 1

    def forget(self, guest_rip: int, user: bool, entry: int) -> None:
        """Empty the slot of `guest_rip` if it leads to `entry`."""
        slot = _BASES[user] + 8 * guest_rip & MASK64
        at = self.make_page(slot) + (slot >> 3 & 511)
        if self._words[at] == entry:
            self._words[at] = self._miss[user]

    def clear(self) -> None:
        """Empty all slots; their pages stay."""
        for number, first in self._pages.items():
            self._clear(number, first)

    def _clear(self, number: int, first: int) -> None:
        user = number >= USER_LOOKUP_VA - (1 << 50) >> 12
        self._bytes[first << 3 : (first << 3) + PAGE_SIZE] = self._empty_pages[user]


__all__ = ["LookupTables"]
