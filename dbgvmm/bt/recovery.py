"""Exact guest state out of the middle of a translation unit.

A unit's marks say for each TC address which guest instruction it belongs to, how many have retired before it and which
registers are spilled (`units.Mark`).
"""

from __future__ import annotations

from collections.abc import Callable

from dbgvmm.bt import units
from dbgvmm.bt.cache import TranslationCache
from dbgvmm.bt.sync import StateSync
from dbgvmm.bt.tcdata import SPILL_ANY, SPILL_RAX, SPILL_RCX, TcData
from dbgvmm.bt.units import Mark, TranslationUnit
from dbgvmm.cpu.state import VCpu
from dbgvmm.hardware.context import ContextView
from dbgvmm.hardware.engine import EngineError
from dbgvmm.hardware.layout import MASK64


class Recovery:
    """Puts into the CPU what the guest would see at a TC address."""

    def __init__(
        self, context: ContextView, cpu: VCpu, cache: TranslationCache, data: TcData, sync: StateSync
    ) -> None:
        self.cpu = cpu
        self.cache = cache
        self.data = data
        self.sync = sync
        self._gpr = context.gpr
        self._signed = data.signed
        self.account: Callable[[TranslationUnit, int, bool], None] = self.make_exact
        """`make_exact`, or who counts executions around it (counting.py)."""

    def recover(self, tc_rip: int) -> TranslationUnit:
        """Put the exact guest state of a TC address into the CPU."""
        unit = self.cache.unit_at(tc_rip)
        if unit is None:
            raise EngineError(f"no unit at {tc_rip:#x}")
        self.restore(unit, unit.mark_at(tc_rip))
        return unit

    def restore(self, unit: TranslationUnit, mark: Mark) -> None:
        """The exact guest state at a mark of `unit`, spilled registers and count included."""
        self.sync.load_flags()
        fix = mark.fix
        if fix:
            gpr, words = self._gpr, self.data.words
            if fix >= units.FIX_SPILL:
                gpr[fix - units.FIX_SPILL] = words[SPILL_ANY >> 3]
            if fix in (units.FIX_RAX, units.FIX_RAX | units.FIX_RCX):
                gpr[0] = words[SPILL_RAX >> 3]
            if fix in (units.FIX_RCX, units.FIX_RAX | units.FIX_RCX):
                gpr[1] = words[SPILL_RCX >> 3]
        if unit.length:
            self.account(unit, mark.retired, unit.tc_start + mark.tc_offset >= unit.resume_at)
        self.cpu.rip = unit.guest_rip + mark.guest_offset & MASK64

    def make_exact(self, unit: TranslationUnit, retired: int, counted: bool) -> None:
        """Make the count exact for a state after `retired` instructions of the unit, which has counted itself or not."""
        if counted:
            self._signed[0] += unit.length - retired
        else:
            self._signed[0] -= retired
