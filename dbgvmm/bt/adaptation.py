"""Adaptive retranslation: an instruction that keeps faulting on traces is translated to go straight to the monitor.

Innocent until proven guilty: a store is copied. After GUILTY_AFTER trace faults its unit is made anew with a callout in
its place, which saves the fault and its diagnosis (Adams & Agesen 2006, section 3.3). A callout that finds nothing
traced ACQUITTED_AFTER times in a row is a copied store again.
"""

from __future__ import annotations

from typing import Final

from dbgvmm.bt.cache import TranslationCache
from dbgvmm.bt.history import ACQUITTED, CONVICTED
from dbgvmm.bt.operands import Operands
from dbgvmm.bt.stores import StoreSite
from dbgvmm.bt.units import Mark, Site, TranslationUnit
from dbgvmm.mmu.access import USER, WRITE
from dbgvmm.mmu.linear import GuestMemory
from dbgvmm.mmu.mmu import ShadowMmu
from dbgvmm.mmu.writers import NOBODY

GUILTY_AFTER: Final = 6
ACQUITTED_AFTER: Final = 16


class Adaptation:
    """Who is guilty, by code page and offset."""

    def __init__(self, cache: TranslationCache, mmu: ShadowMmu, memory: GuestMemory, operands: Operands) -> None:
        self._cache = cache
        self._mmu = mmu
        self._memory = memory
        self._operands = operands
        self.convicted = 0
        self.acquitted = 0
        self.adapted_stores = 0

    def accuse(self, unit: TranslationUnit, mark: Mark) -> None:
        """The store at `mark` faulted on a trace again."""
        page = unit.page
        offset = (unit.guest_rip + mark.guest_offset) & 0xFFF
        count = page.accused.get(offset, 0) + 1
        page.accused[offset] = count
        if count == GUILTY_AFTER and unit.live and len(page.pages) == 1:
            page.guilty[offset] = 0
            self.convicted += 1
            self._cache.remake(page, offset, CONVICTED)

    def carry_out(self, site: Site) -> None:
        """Do the guilty store. Raises GuestFault with nothing changed."""
        assert isinstance(site, StoreSite)
        operands = self._operands
        address = site.address(operands)
        user = operands.cpu.cpl == 3
        gpa = self._memory.physical_address(address, WRITE | USER if user else WRITE)
        traced = gpa >> 12 in self._mmu.traces.kinds
        writers = self._mmu.writers
        if traced:
            writers.store(gpa >> 12, site.guest_rip)
        try:
            self._memory.write_int(address, site.value(operands), site.size, user)
        finally:
            writers.rip = NOBODY
        self.adapted_stores += 1
        page = site.unit.page
        offset = site.guest_rip & 0xFFF
        if traced:
            page.guilty[offset] = 0
            return
        innocent = page.guilty.get(offset, 0) + 1
        page.guilty[offset] = innocent
        if innocent >= ACQUITTED_AFTER:
            del page.guilty[offset]
            page.accused.pop(offset, None)
            self.acquitted += 1
            self._cache.remake(page, offset, ACQUITTED)
