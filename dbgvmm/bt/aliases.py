"""Aliases: the monitor's own mappings of watched frames, and the moments at which they may stand for the guest's pages.

An access through an alias meets no trace and no check, so it is allowed only while the page's mapping would allow it
without a fault and without a trace to apply: present and writable at this CPL, its A and D bits set (or hardware would have
to set them), its frame traced for watchpoints only. This is looked up again at every exit after which it may have changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dbgvmm.bt.tcdata import MAX_ALIASES, TcData, alias_words
from dbgvmm.cpu.bits import CR4
from dbgvmm.cpu.state import VCpu
from dbgvmm.hardware.layout import PAGE_SHIFT
from dbgvmm.hardware.paging import PTE
from dbgvmm.mmu.mmu import ShadowMmu
from dbgvmm.mmu.monitor_space import ALIAS_NUMBERS
from dbgvmm.mmu.trace_kinds import HIDE, WATCH

_ONLY_WATCHED: Final = WATCH | HIDE
_APART: Final = 0x35
"""Keeps an alias off the entry of the engine's TLB that its page has (it is direct-mapped, by low bits of page numbers)."""


@dataclass(slots=True)
class _Alias:
    """va: the guest's page (address). addresses: of the kernel's alias and the user's."""

    va: int
    frame: int
    number: int
    addresses: tuple[int, int]


class Aliases:
    """The aliases of one CPU's guest."""

    def __init__(self, cpu: VCpu, mmu: ShadowMmu, data: TcData) -> None:
        self._cpu = cpu
        self._mmu = mmu
        self._words = data.words
        self._aliases: list[_Alias] = []

    def find(self, va: int, frame: int) -> int | None:
        """The alias of guest page `va` on `frame`, made now if need be; None if there are too many."""
        for index, alias in enumerate(self._aliases):
            if alias.va == va and alias.frame == frame:
                return index
        if len(self._aliases) == MAX_ALIASES:
            return None
        taken = {alias.number for alias in self._aliases}
        number = (va >> PAGE_SHIFT) + _APART & ALIAS_NUMBERS - 1
        while number in taken:
            number = number + 1 & ALIAS_NUMBERS - 1
        monitor = self._mmu.monitor
        addresses = monitor.map_alias(number, frame, False), monitor.map_alias(number, frame, True)
        self._aliases.append(_Alias(va, frame, number, addresses))
        self.refresh()
        return len(self._aliases) - 1

    def refresh(self) -> None:
        """Allow those that may be used now, and no others."""
        for index, alias in enumerate(self._aliases):
            allowed = self._allowed(alias)
            for user in (False, True):
                page, where = alias_words(index, user)
                self._words[page >> 3] = alias.va if allowed[user] else 0
                self._words[where >> 3] = alias.addresses[user] if allowed[user] else 0

    def suspend(self) -> None:
        """Allow none."""
        for index in range(len(self._aliases)):
            for user in (False, True):
                for at in alias_words(index, user):
                    self._words[at >> 3] = 0

    def clear(self) -> None:
        """Have none. Guards that know one must be gone."""
        self.suspend()
        for alias in self._aliases:
            self._mmu.monitor.unmap_alias(alias.number)
        if self._aliases:
            self._mmu.tlb.outdated()
        self._aliases.clear()

    def _allowed(self, alias: _Alias) -> tuple[bool, bool]:
        """For the kernel, for the user."""
        kinds = self._mmu.traces.kinds.get(alias.frame, 0)
        if not kinds or kinds & ~_ONLY_WATCHED:
            return False, False
        report = self._mmu.walk_report(alias.va)
        if report.gpa is None or report.gpa >> PAGE_SHIFT != alias.frame or not report.writable or not report.levels:
            return False, False
        if not all(level.entry & PTE.A for level in report.levels) or not report.levels[-1].entry & PTE.D:
            return False, False
        return not (report.user and self._cpu.cr4 & CR4.SMAP), report.user


__all__ = ["Aliases"]
