"""What happens when translated code faults: hidden faults, traces and windows are ours, the rest is the guest's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dbgvmm.bt import units
from dbgvmm.bt.mechanisms import (
    AD_UPDATE,
    DETAIL_SHIFT,
    EXCEPTION,
    HIDDEN_FAULT,
    LOOKUP_PAGE,
    PROBE,
    TRACE,
    TRUE_FAULT,
    WATCH,
    WINDOW_FAULT,
)
from dbgvmm.bt.probes import leave_at
from dbgvmm.bt.trace_exits import TraceExits
from dbgvmm.cpu.bits import Vector
from dbgvmm.cpu.faults import GuestFault
from dbgvmm.hardware.engine import EngineError
from dbgvmm.hardware.layout import KERNEL_LOOKUP_VA, TC_SIZE, TC_VA, USER_LOOKUP_VA, is_canonical, is_lookup_slot
from dbgvmm.mmu.access import HIDDEN, TRUE

if TYPE_CHECKING:
    from dbgvmm.bt.dispatcher import Dispatcher

_FETCH: Final = 1 << 4
_LOOKUP_BASES: Final = frozenset((KERNEL_LOOKUP_VA, USER_LOOKUP_VA))


class FaultExits:
    """Page faults and other exceptions whose RIP is in the TC."""

    def __init__(self, dispatcher: Dispatcher, traces: TraceExits) -> None:
        self._dispatcher = dispatcher
        self.traces = traces
        self.cpu = dispatcher.cpu
        self.mmu = dispatcher.mmu
        self.cache = dispatcher.cache
        self.ledger = dispatcher.ledger
        self._meter = dispatcher.engine.meter
        self._window_cell = self.ledger.cells[WINDOW_FAULT]
        self.recovery = dispatcher.recovery
        context = dispatcher.engine.context
        self._context = context
        self._q = context.q
        self._rip = context.rip_q

    def on_page_fault(self) -> None:
        """A page fault of translated code: ours (a window, a lookup page, a shadow entry, a trace) or the guest's."""
        context = self._context
        address = self._q[context.cr_q + 2]
        error = context.s[context.error_code_d]
        rip = self._q[self._rip]
        if error & _FETCH and TC_VA <= address < TC_VA + TC_SIZE:
            self._on_window_fault(rip)
            return
        if self._in_probe(rip):
            return
        if self._context.gpr[0] in _LOOKUP_BASES and self._on_lookup_fault(rip, address):
            return
        if is_canonical(address):
            outcome = self.find_cause(address, error)
            if outcome == HIDDEN:
                self._dispatcher.load_root()
            elif outcome == TRUE:
                self._true_fault(rip, GuestFault(Vector.PF, self.mmu.fault_error, address))
            else:
                self.traces.on_trace(rip, self.mmu.trace_gpa)
            return
        self._on_noncanonical(rip)

    def find_cause(self, address: int, error: int) -> int:
        """HIDDEN (the shadow is filled now), TRUE or TRACE, for a fault at a canonical guest address, which is noted so."""
        mmu = self.mmu
        updates = mmu.ad_updates
        outcome = mmu.on_page_fault(address, error, self.cpu.cpl == 3)
        if outcome == HIDDEN:
            self.ledger.exit_is(HIDDEN_FAULT if mmu.ad_updates == updates else AD_UPDATE)
        elif outcome == TRUE:
            self.ledger.exit_is(TRUE_FAULT | mmu.fault_error << DETAIL_SHIFT)
        elif self._dispatcher.watching.concerns(mmu.trace_gpa):
            self.ledger.exit_is(WATCH)
        else:
            self.ledger.exit_is(TRACE | mmu.traces.kinds.get(mmu.trace_gpa >> 12, 0) << DETAIL_SHIFT)
        return outcome

    def _in_probe(self, tc_rip: int) -> bool:
        """Whether a probe faulted. If so, it leaves."""
        unit = self.cache.unit_at(tc_rip)
        leave = leave_at(unit, tc_rip) if unit is not None and unit.probes else 0
        if leave:
            self.ledger.exit_is(PROBE)
            self._q[self._rip] = leave
        return leave != 0

    def _on_lookup_fault(self, tc_rip: int, address: int) -> bool:
        """A fault of the jump through a lookup table: the slot's page is not there yet, or the target is no address."""
        unit = self.cache.unit_at(tc_rip)
        if unit is None or unit.mark_at(tc_rip).fix != units.FIX_RCX:
            return False
        target_rip = self._context.gpr[1]
        if is_canonical(target_rip) and is_lookup_slot(address):
            self.ledger.exit_is(LOOKUP_PAGE)
            self.cache.lookup.make_page(address)
            return True
        self.ledger.exit_is(EXCEPTION | Vector.GP << DETAIL_SHIFT)
        self.recovery.restore(unit, unit.mark_at(tc_rip))
        self._dispatcher.stepper.undo_branch(self.cpu.rip)
        self._dispatcher.deliver(GuestFault(Vector.GP, 0, reason=f"branch to {target_rip:#x}, which is not canonical"))
        return True

    def _on_noncanonical(self, rip: int) -> None:
        """What 57-bit hardware calls a page fault is #GP(0) or #SS(0) to a 48-bit guest."""
        self.recovery.recover(rip)
        vector = self._dispatcher.stack_or_general()
        self.ledger.exit_is(EXCEPTION | vector << DETAIL_SHIFT)
        self._dispatcher.deliver(GuestFault(vector, 0))

    def _on_window_fault(self, tc_rip: int) -> None:
        """A jump arrived at a TC page whose window is not open here: open it if the guest's mapping agrees."""
        self._meter.cell = self._window_cell
        cache = self.cache
        tc_page = cache.tc_pages.get((tc_rip - TC_VA) >> 12)
        if tc_page is None:
            raise EngineError(f"jump to {tc_rip:#x}, where the TC has nothing")
        owner = tc_page.owner
        if not owner.pages:
            self.open_monitor_window(tc_rip)
            return
        try:
            is_global = True
            for va, frame in owner.pages:
                found, page_global = self.mmu.resolve_code(va | self._guest_offset(tc_page, tc_rip, va), owner.user)
                is_global = is_global and page_global
                if found != frame:
                    break
            else:
                pages = list(owner.pages)
                if is_global == owner.is_global and self.mmu.open_window(tc_page.index, pages, owner.user, is_global):
                    return
        except GuestFault:
            pass  # the fetch that `resume` makes finds the same fault, with the right address
        self.recovery.recover(tc_rip)
        self.cache.forget_entry(self.cpu.rip, owner.user)
        self._dispatcher.watching.hit = None  # what it was about did not run
        self._dispatcher.resume()

    def open_monitor_window(self, tc_rip: int) -> None:
        """Open a TC page that depends on no guest mapping."""
        index = (tc_rip - TC_VA) >> 12
        self.mmu.open_window(index, [], self.cache.tc_pages[index].owner.user, True)

    @staticmethod
    def _guest_offset(tc_page: units.TcPage, tc_rip: int, va: int) -> int:
        unit = tc_page.unit_at(tc_rip)
        return unit.guest_rip & 0xFFF if unit is not None and unit.guest_rip & ~0xFFF == va else 0

    def on_exception(self, vector: int) -> None:
        """The guest's own exception, found by the hardware."""
        self.ledger.exit_is(EXCEPTION | vector << DETAIL_SHIFT)
        rip = self._q[self._rip]
        if not TC_VA <= rip < TC_VA + TC_SIZE:
            raise EngineError(f"exception {vector} at {rip:#x}, outside the TC")
        if self._in_probe(rip):
            return
        self.recovery.recover(rip)
        one_round, self._dispatcher.one_round = self._dispatcher.one_round, False
        if vector == Vector.DB and (one_round or self._dispatcher.trap_after):
            self._dispatcher.resume()
            return
        self._dispatcher.deliver_exception(vector)

    def _true_fault(self, tc_rip: int, fault: GuestFault) -> None:
        self.recovery.recover(tc_rip)
        self._dispatcher.deliver_page_fault(fault)
