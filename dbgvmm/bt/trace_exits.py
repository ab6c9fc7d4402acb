"""What happens when translated code writes to a traced page: a guest page table that has a shadow, or translated code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dbgvmm.bt.adaptation import Adaptation
from dbgvmm.bt.emission import EXIT
from dbgvmm.bt.stores import emulate_store
from dbgvmm.bt.units import Site, TranslationUnit
from dbgvmm.cpu.bits import Vector
from dbgvmm.cpu.faults import GuestFault
from dbgvmm.hardware.engine import EngineError
from dbgvmm.hardware.layout import MASK64
from dbgvmm.mmu.writers import NOBODY

if TYPE_CHECKING:
    from dbgvmm.bt.dispatcher import Dispatcher

_CODE_WRITES_BEFORE_DATA: Final = 32
"""A code frame written this often becomes data: its units go, its trace too."""


class TraceExits:
    """Stores that hit a trace, and those that go straight to the monitor because they kept doing so."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self.cpu = dispatcher.cpu
        self.mmu = dispatcher.mmu
        self.cache = dispatcher.cache
        self.recovery = dispatcher.recovery
        self.watching = dispatcher.watching
        self.adaptation = Adaptation(dispatcher.cache, dispatcher.mmu, dispatcher.memory, dispatcher.callouts.operands)
        self._q = dispatcher.engine.context.q
        self._rip = dispatcher.engine.context.rip_q

    def on_trace(self, tc_rip: int, gpa: int) -> None:
        """A store to a traced page: carried out here if it is simple, else stepped with the page open."""
        writers = self.mmu.writers
        if self._dispatcher.open_pages:
            writers.fault(gpa >> 12, writers.rip)
            self.mmu.open_page(gpa)
            self._dispatcher.open_pages.append(gpa)
            return
        unit = self.cache.unit_at(tc_rip)
        mark = None
        if unit is not None:
            mark = unit.mark_at(tc_rip)
            writers.fault(gpa >> 12, unit.guest_rip + mark.guest_offset & MASK64)
        if self.watching.active and self.watching.concerns(gpa):
            self.recovery.recover(tc_rip)
            self.watching.run_alone(gpa)
            if unit is not None and mark is not None:
                self.watching.accuse(unit, mark)
            return
        if unit is not None and mark is not None and not mark.fix and emulate_store(unit, mark, gpa, self.cpu, self.mmu):
            writers.rip = NOBODY
            self.adaptation.accuse(unit, mark)
            self._behind(unit, tc_rip)
            return
        self.recovery.recover(tc_rip)
        if self._dispatcher.stepper.is_repeated_string(self.cpu.rip):
            self.mmu.release_table(gpa >> 12)
            if gpa >> 12 not in self.mmu.traces.kinds:
                writers.rip = NOBODY
                self._dispatcher.resume()
                return
        self.mmu.open_page(gpa)
        self._dispatcher.open_pages.append(gpa)
        self._dispatcher.enter_precise(1)

    def on_store(self, site: Site) -> None:
        """A store that was found guilty of faulting on traces. RIP is behind the exit already."""
        unit = site.unit
        tc_rip = self._q[self._rip]
        try:
            self.adaptation.carry_out(site)
        except GuestFault as fault:
            self.recovery.restore(unit, unit.mark_at(tc_rip - len(EXIT)))
            self._dispatcher.deliver_page_fault(fault) if fault.vector == Vector.PF else self._dispatcher.deliver(fault)
            return
        if not unit.live or self.watching.hit is not None:
            self._behind(unit, tc_rip - len(EXIT))

    def _behind(self, unit: TranslationUnit, tc_rip: int) -> None:
        """Go on behind the guest instruction at `tc_rip`, which was carried out."""
        mark = unit.mark_behind(tc_rip)
        if mark is None:
            raise EngineError(f"no instruction behind {tc_rip:#x}")
        if unit.live and not mark.fix and self.watching.hit is None:
            self._q[self._rip] = unit.tc_start + mark.tc_offset
            return
        self.recovery.restore(unit, mark._replace(fix=0))
        self._dispatcher.resume()

    def on_code_write(self, gpa: int, size: int) -> None:
        """Code that has translations was written to, by whomever."""
        frame = gpa >> 12
        self.cache.code_written(gpa, size)
        pages = self.cache.by_frame.get(frame, ())
        if any(page.writes > _CODE_WRITES_BEFORE_DATA for page in pages) or not pages:
            self.cache.abandon_frame(frame)
