"""The dispatcher: what happens at every exit, and how the guest is resumed.

Two ways lead back into the TC. The short one, for exits that leave the guest's state alone (a filled shadow entry, a
new chain), only sets the context's RIP. The long one, `resume`, starts from the architectural state in `VCpu`.

Exact time. The data page's BUDGET is the number of instructions left before the clock wants to be asked, less MARGIN.
A unit that would use it up leaves in time, and the last instructions before the deadline run in *precise* units, so
that events, interrupts and stops happen at an exact instruction count that does not depend on how units were cut.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Final

from iced_x86 import Instruction, Mnemonic

from dbgvmm.bt import units
from dbgvmm.bt.adaptation import Adaptation
from dbgvmm.bt.cache import CacheFull, TranslationCache
from dbgvmm.bt.callouts import SIMPLE, Callouts
from dbgvmm.bt.direct import DirectUser
from dbgvmm.bt.guest_debug import GuestDebug
from dbgvmm.bt.stepper import Stepper
from dbgvmm.bt.stores import emulate_store
from dbgvmm.bt.sync import IOPL, KERNEL_IOPL, StateSync
from dbgvmm.bt.tcdata import (
    BUDGET,
    INTERRUPT_WAITS,
    IOPL_SET,
    MARGIN,
    PENDING,
    RETURN_CS,
    RETURN_SS,
    SPILL_ANY,
    SPILL_RAX,
    SPILL_RCX,
    VIRTUAL_IOPL,
    ZERO,
    TcData,
)
from dbgvmm.bt.translator import EXIT, MAX_UNIT
from dbgvmm.bt.units import Edge, Mark, Site, TranslationUnit
from dbgvmm.cpu.bits import DR6, RFLAGS, PageFaultError, Vector
from dbgvmm.cpu.exceptions import deliver_fault
from dbgvmm.cpu.faults import GuestFault, TripleFault
from dbgvmm.cpu.interrupts import deliver_external
from dbgvmm.cpu.same_level import SameLevelReturn
from dbgvmm.cpu.state import VCpu
from dbgvmm.hardware.context import HFlags
from dbgvmm.hardware.engine import Engine, EngineError
from dbgvmm.hardware.layout import (
    DATA_VA,
    KERNEL_LOOKUP_VA,
    MASK64,
    TC_SIZE,
    TC_VA,
    USER_LOOKUP_VA,
    is_canonical,
    is_lookup_slot,
)
from dbgvmm.mmu.access import HIDDEN, TRUE
from dbgvmm.mmu.linear import GuestMemory
from dbgvmm.mmu.mmu import ShadowMmu

CALLOUT_VECTOR: Final = EXIT[1]
_FETCH: Final = 1 << 4
_LOOKUP_BASES: Final = frozenset((KERNEL_LOOKUP_VA, USER_LOOKUP_VA))
_SOFTWARE_INTERRUPTS: Final = frozenset((Mnemonic.INT, Mnemonic.INT3, Mnemonic.INT1, Mnemonic.INTO))
_NO_ERROR_CODE: Final = frozenset((0, 1, 3, 4, 5, 6, 7, 9, 16, 18, 19, 20))
_CODE_WRITES_BEFORE_DATA: Final = 32
"""A code frame written this often becomes data: its units go, its trace too."""


class Dispatcher:
    """Runs one vCPU out of the translation cache."""

    def __init__(
        self, engine: Engine, cpu: VCpu, mmu: ShadowMmu, memory: GuestMemory, cache: TranslationCache, data: TcData,
        sync: StateSync, callouts: Callouts,
    ) -> None:
        self.engine = engine
        self.cpu = cpu
        self.mmu = mmu
        self.memory = memory
        self.cache = cache
        self.data = data
        self.sync = sync
        self.callouts = callouts
        self.stepper = Stepper(self)
        self.same_level = SameLevelReturn()
        self.adaptation = Adaptation(cache, mmu, memory, callouts.operands)
        self.direct: DirectUser | None = None
        self._context = engine.context
        self._q = engine.context.q
        self._rip = engine.context.rip_q
        self._cr3 = engine.context.cr_q + 3
        self._signed = data.signed
        self.limit = 0
        self._signed[BUDGET >> 3] = -MARGIN
        self.open_pages: list[int] = []
        self.ignore_breakpoint = False
        self.trap_after = 0
        self.guest_debug = GuestDebug(cpu, callouts.operands)
        self.stop_requested = False
        self.on_limit: Callable[[], None] = self._no_limit
        self.on_breakpoint: Callable[[int], None] = self._no_breakpoint
        self.on_halt: Callable[[], None] = self._no_limit
        self.on_fault: Callable[[GuestFault], bool] | None = None
        self.acknowledge: Callable[[], int] = lambda: 0
        self.interrupt_line: Callable[[], bool] = lambda: False
        self.interrupts = 0
        self.callout_exits = 0
        self.edge_exits = 0
        self.slice_exits = 0
        self.window_faults = 0
        self.exceptions: dict[int, int] = {}
        self.callout_counts: dict[int, int] = {}
        self.seconds_translating = 0.0
        self.seconds_hidden_faults = 0.0
        self.seconds_trace_faults = 0.0
        self.seconds_callouts = 0.0
        self._site_handlers = (
            self._on_edge, self._on_callout, self._on_slice, self._on_lookup_miss, self._on_break, self._on_pending,
            self._on_indirect, self._on_store, self._on_returned,
        )
        self.forget_return()
        engine.handler = self.on_exit
        mmu.on_code_write = self._on_code_write

    @staticmethod
    def _no_limit() -> None:
        raise EngineError("no machine is attached to the dispatcher")

    @staticmethod
    def _no_breakpoint(rip: int) -> None:
        raise EngineError("no debugger is attached to the dispatcher")

    # -- the count

    @property
    def count(self) -> int:
        """Instructions retired since power-on; exact whenever an exit is being handled or the machine is stopped."""
        return self.limit - self._signed[BUDGET >> 3] - MARGIN

    def set_limit(self, limit: int, count: int | None = None) -> None:
        """Have `on_limit` called when exactly `limit` instructions have retired."""
        now = self.count if count is None else count
        self.limit = limit
        self._signed[BUDGET >> 3] = limit - now - MARGIN

    # -- exits

    def on_exit(self, vector: int) -> None:
        """Every exit of the engine comes through here, its context saved."""
        if self.stepper.active:
            self.stepper.on_exit(vector)
            return
        if self.direct is not None and self.direct.active:
            self.direct.on_exit(vector)
            return
        if vector == CALLOUT_VECTOR:
            site = self.cache.sites.get(self._q[self._rip])
            if site is not None:
                self._site_handlers[site.kind](site)
                return
        if vector == Vector.PF:
            self._on_page_fault()
            return
        self._on_exception(vector)

    def _on_edge(self, site: Site) -> None:
        """A direct branch whose target is not linked yet."""
        self.edge_exits += 1
        assert isinstance(site, Edge)
        target_rip = site.guest_rip
        unit = site.unit
        user = unit.page.user
        if not site.linkable:
            self._signed[0] -= site.retired
            self._resume_at(target_rip)
            return
        if target_rip in self.cache.breakpoints or self.stop_requested:
            self._resume_at(target_rip)
            return
        try:
            start = perf_counter()
            target = self.cache.find(target_rip, user)
            self.seconds_translating += perf_counter() - start
        except (GuestFault, CacheFull):
            self._resume_at(target_rip)
            return
        if unit.live and target.live:
            self.cache.link(site, target)
        self._q[self._rip] = target.entry

    def _resume_at(self, rip: int) -> None:
        self.cpu.rip = rip
        self.sync.load_flags()
        self.resume()

    def _on_lookup_miss(self, site: Site) -> None:
        """An indirect branch to an address that has no slot yet. RCX holds it; RAX and RCX are spilled."""
        gpr = self._context.gpr
        target_rip = gpr[1]
        gpr[0] = self.data.words[SPILL_RAX >> 3]
        gpr[1] = self.data.words[SPILL_RCX >> 3]
        self._go_indirect(target_rip, site.unit.page.user)

    def _go_indirect(self, target_rip: int, user: bool) -> None:
        if target_rip in self.cache.breakpoints or self.stop_requested or not is_canonical(target_rip):
            self._resume_at(target_rip)
            return
        try:
            start = perf_counter()
            target = self.cache.find(target_rip, user)
            self.cache.fill_lookup(target)
            self.seconds_translating += perf_counter() - start
        except (GuestFault, CacheFull):
            self._resume_at(target_rip)
            return
        self._q[self._rip] = target.entry

    def _on_slice(self, site: Site) -> None:
        """The budget does not cover this unit and MARGIN more."""
        self.slice_exits += 1
        unit = site.unit
        self._restore_mark(unit, unit.mark_at(unit.resume_at))
        remaining = self._signed[0] + MARGIN
        if self.stop_requested or remaining <= 0:
            self.resume()
        else:
            self.enter_precise(remaining)

    def _on_pending(self, site: Site) -> None:
        """IF may have been set while an interrupt waits."""
        unit = site.unit
        self._account(unit, site.retired, site.retired > unit.count_index)
        cpu = self.cpu
        cpu.rip = site.next_rip
        instruction = site.instruction
        assert instruction is not None
        if instruction.mnemonic == Mnemonic.STI:
            cpu.interrupt_shadow = True
        else:
            cpu.rflags &= ~IOPL  # a popf of IOPL bits is a callout: this one cleared them
        self.sync.load_flags()
        self.update_pending()
        self.resume()

    def _on_indirect(self, site: Site) -> None:
        """An indirect branch ends a precise unit. RCX holds the target; RCX itself is spilled."""
        unit = site.unit
        gpr = self._context.gpr
        target_rip = gpr[1]
        gpr[1] = self.data.words[SPILL_RCX >> 3]
        self._signed[0] -= site.retired
        if is_canonical(target_rip):
            self._resume_at(target_rip)
            return
        self._signed[0] += 1
        self.sync.load_flags()
        self.cpu.rip = unit.guest_rip + unit.marks[-1].guest_offset & MASK64
        self.stepper.undo_branch(self.cpu.rip)
        self.deliver(GuestFault(Vector.GP, 0, reason=f"branch to {target_rip:#x}, which is not canonical"))

    def _on_returned(self, site: Site) -> None:
        """An IRETQ ran in the TC and something waits for its IF. RCX holds its target; RAX and RCX are spilled."""
        gpr, words = self._context.gpr, self.data.words
        target_rip = gpr[1]
        gpr[0], gpr[1] = words[SPILL_RAX >> 3], words[SPILL_RCX >> 3]
        self.cpu.rflags &= ~IOPL
        self._resume_at(target_rip)

    def _on_break(self, site: Site) -> None:
        self._resume_at(site.guest_rip)

    def _account(self, unit: TranslationUnit, retired: int, counted: bool) -> None:
        """Make the count exact for a state after `retired` instructions of the unit, which has counted itself or not."""
        if counted:
            self._signed[0] += unit.length - retired
        else:
            self._signed[0] -= retired

    def _on_callout(self, site: Site) -> None:
        """A sensitive instruction."""
        start = perf_counter()
        self.callout_exits += 1
        cpu = self.cpu
        unit = site.unit
        if site.retired + 1 != unit.length or unit.count_index > unit.length:
            self._account(unit, site.retired + 1, site.retired >= unit.count_index)
        cpu.rip = site.guest_rip
        instruction = site.instruction
        assert instruction is not None
        mnemonic = instruction.mnemonic
        counts = self.callout_counts
        counts[mnemonic] = counts.get(mnemonic, 0) + 1
        done = (
            self._return_to_same_level() if mnemonic == Mnemonic.IRETQ
            else mnemonic in SIMPLE and self._execute_simply(instruction, site)
        )  # fmt: skip
        if not done:
            self.sync.load_flags()
            self.execute(instruction, site.next_rip)
        self.seconds_callouts += perf_counter() - start

    def _return_to_same_level(self) -> bool:
        """The short way for an IRETQ that changes neither CS nor SS, as kernels do after interrupts and to serialise."""
        cpu = self.cpu
        if cpu.cpl or self.trap_after or self.open_pages:
            return False
        try:
            frame = self.same_level.pop(cpu, self.memory)
        except GuestFault:
            return False  # the long way finds it again
        if frame is None:
            return False
        self._remember_return()
        cpu.rip, cpu.rflags, cpu.gpr[4] = frame
        cpu.nmi_blocked = cpu.interrupt_shadow = False
        self.update_pending()
        self.resume()
        return True

    def _remember_return(self) -> None:
        """Let translated IRETQs return to the current CS and SS: their descriptors were just checked."""
        cpu, words = self.cpu, self.data.words
        for index, at in ((1, RETURN_CS >> 3), (2, RETURN_SS >> 3)):
            selector = cpu.segs[index].selector
            offset = selector & ~7
            words[at] = -selector & MASK64
            words[at + 1] = cpu.gdtr.base + offset & MASK64 if offset else DATA_VA + ZERO
            words[at + 2] = -self.same_level.known[offset] & MASK64 if offset else 0
        self.sync.return_selectors = cpu.segs[1].selector, cpu.segs[2].selector, cpu.gdtr.base

    def _execute_simply(self, instruction: Instruction, site: Site) -> bool:
        """The short way for instructions that leave RFLAGS alone: no flags are moved. False: nothing was done yet."""
        cpu, unit, data = self.cpu, site.unit, self.data
        if self._signed[0] < 0 or self.trap_after or unit.count_index > unit.length or cpu.interrupt_shadow:
            return False
        next_rip = site.next_rip
        entry = (self.cache.user_entries if unit.page.user else self.cache.kernel_entries).get(next_rip)
        if entry is None:
            return False
        try:
            self.callouts.table[instruction.mnemonic](instruction)
        except GuestFault as fault:
            self.sync.load_flags()
            self._signed[0] += 1
            self.deliver(fault)
            return True
        sync = self.sync
        if cpu.interrupt_shadow or self.stop_requested or self._signed[0] < 0 or self.guest_debug.armed:
            sync.load_flags()
            cpu.rip = next_rip
            self.update_pending()
            self.resume()
            return True
        if self.interrupt_line():
            data.bytes[PENDING] |= INTERRUPT_WAITS
            if sync.interrupts_enabled():
                sync.load_flags()
                cpu.rip = next_rip
                self.resume()
                return True
        elif data.bytes[PENDING] & INTERRUPT_WAITS:
            data.bytes[PENDING] &= ~INTERRUPT_WAITS
        if sync.segments_dirty:
            self._store_segments()
        self._q[self._rip] = entry
        self.load_root()
        return True

    def execute(self, instruction: Instruction, next_rip: int) -> None:
        """Carry out a sensitive instruction (already counted) and resume behind it, or deliver its fault."""
        cpu = self.cpu
        try:
            if not self.callouts.execute(instruction):
                cpu.rip = next_rip
        except GuestFault as fault:
            self._signed[0] += 1  # it did not retire
            self.deliver(fault)
            return
        if instruction.mnemonic in _SOFTWARE_INTERRUPTS:
            self.trap_after = 0
        self.after_callout()
        self.resume()

    def after_callout(self) -> None:
        """What a sensitive instruction may have left to do: wait in HLT, see an interrupt line that moved."""
        if self.cpu.halted:
            self.on_halt()
        self.update_pending()

    def remaining(self) -> int:
        """Instructions left to the next deadline."""
        return self._signed[0] + MARGIN

    def run_user_directly(self) -> None:
        """From now on, CPL-3 code runs untranslated."""
        self.direct = DirectUser(self)

    def retire(self, instructions: int) -> None:
        """Count instructions that no unit counted."""
        self._signed[0] -= instructions

    # -- faults

    def _on_page_fault(self) -> None:
        context = self._context
        address = self._q[context.cr_q + 2]
        error = context.s[context.error_code_d]
        rip = self._q[self._rip]
        if error & _FETCH and TC_VA <= address < TC_VA + TC_SIZE:
            self._on_window_fault(rip)
            return
        if self._context.gpr[0] in _LOOKUP_BASES and self._on_lookup_fault(rip, address):
            return
        if is_canonical(address):
            start = perf_counter()
            mmu = self.mmu
            outcome = mmu.on_page_fault(address, error, self.cpu.cpl == 3)
            if outcome == HIDDEN:
                self.load_root()
                self.seconds_hidden_faults += perf_counter() - start
                return
            if outcome == TRUE:
                self._true_fault(rip, GuestFault(Vector.PF, mmu.fault_error, address))
                return
            self._on_trace(rip, mmu.trace_gpa)
            self.seconds_trace_faults += perf_counter() - start
            return
        self._on_noncanonical(rip)

    def _on_lookup_fault(self, tc_rip: int, address: int) -> bool:
        """A fault of the jump through a lookup table: the slot's page is not there yet, or the target is no address."""
        unit = self.cache.unit_at(tc_rip)
        if unit is None or unit.mark_at(tc_rip).fix != units.FIX_RCX:
            return False
        target_rip = self._context.gpr[1]
        if is_canonical(target_rip) and is_lookup_slot(address):
            self.cache.lookup_page(address)
            return True
        self._restore_mark(unit, unit.mark_at(tc_rip))
        self.stepper.undo_branch(self.cpu.rip)
        self.deliver(GuestFault(Vector.GP, 0, reason=f"branch to {target_rip:#x}, which is not canonical"))
        return True

    def _on_noncanonical(self, rip: int) -> None:
        """What 57-bit hardware calls a page fault is #GP(0) or #SS(0) to a 48-bit guest."""
        self._recover(rip)
        self.deliver(GuestFault(self._stack_or_general(), 0))

    def _stack_or_general(self) -> int:
        """Whether the instruction at RIP faults through the stack segment (SDM vol. 3A 6.15, interrupt 12)."""
        return Vector.SS if self.stepper.uses_stack_segment(self.cpu.rip) else Vector.GP

    def _on_window_fault(self, tc_rip: int) -> None:
        """A jump arrived at a TC page whose window is not open here: open it if the guest's mapping agrees."""
        self.window_faults += 1
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
        self._recover(tc_rip)
        self.cache.forget_entry(self.cpu.rip, owner.user)
        self.resume()

    def open_monitor_window(self, tc_rip: int) -> None:
        """Open a TC page that depends on no guest mapping."""
        index = (tc_rip - TC_VA) >> 12
        self.mmu.open_window(index, [], self.cache.tc_pages[index].owner.user, True)

    @staticmethod
    def _guest_offset(tc_page: units.TcPage, tc_rip: int, va: int) -> int:
        unit = tc_page.unit_at(tc_rip)
        return unit.guest_rip & 0xFFF if unit is not None and unit.guest_rip & ~0xFFF == va else 0

    def _on_exception(self, vector: int) -> None:
        """The guest's own exception, found by the hardware."""
        rip = self._q[self._rip]
        if not TC_VA <= rip < TC_VA + TC_SIZE:
            raise EngineError(f"exception {vector} at {rip:#x}, outside the TC")
        self._recover(rip)
        if vector == Vector.DB and self.trap_after:
            self.resume()
            return
        self.deliver_exception(vector)

    def deliver_exception(self, vector: int) -> None:
        """Deliver an exception that the hardware found at cpu.rip."""
        if vector == Vector.GP:
            vector = self._stack_or_general()
        self.deliver(GuestFault(vector, None if vector in _NO_ERROR_CODE else 0))

    def _true_fault(self, tc_rip: int, fault: GuestFault) -> None:
        self._recover(tc_rip)
        self.deliver_page_fault(fault)

    def deliver_page_fault(self, fault: GuestFault) -> None:
        """Deliver a page fault of the instruction at cpu.rip, with the error code that hardware would give."""
        error = fault.error_code or 0
        if not error & (PageFaultError.W | PageFaultError.I) and self.stepper.modifies_memory(self.cpu.rip):
            # The engine loads before it stores; hardware reports the read-modify-write as the write that it is.
            fault = GuestFault(fault.vector, error | PageFaultError.W, fault.cr2)
        self.deliver(fault)

    def _recover(self, tc_rip: int) -> TranslationUnit:
        """Put the exact guest state of a TC address into the CPU."""
        unit = self.cache.unit_at(tc_rip)
        if unit is None:
            raise EngineError(f"no unit at {tc_rip:#x}")
        self._restore_mark(unit, unit.mark_at(tc_rip))
        return unit

    def _restore_mark(self, unit: TranslationUnit, mark: Mark) -> None:
        self.sync.load_flags()
        fix = mark.fix
        if fix:
            gpr, words = self._context.gpr, self.data.words
            if fix >= units.FIX_SPILL:
                gpr[fix - units.FIX_SPILL] = words[SPILL_ANY >> 3]
            if fix in (units.FIX_RAX, units.FIX_RAX | units.FIX_RCX):
                gpr[0] = words[SPILL_RAX >> 3]
            if fix in (units.FIX_RCX, units.FIX_RAX | units.FIX_RCX):
                gpr[1] = words[SPILL_RCX >> 3]
        if unit.length:
            self._account(unit, mark.retired, unit.tc_start + mark.tc_offset >= unit.resume_at)
        self.cpu.rip = unit.guest_rip + mark.guest_offset & MASK64

    def deliver(self, fault: GuestFault) -> None:
        """Deliver a fault of the instruction at cpu.rip and resume in its handler."""
        self._close_pages()
        self.trap_after = 0
        if self.on_fault is not None and self.on_fault(fault):
            self.sync.store_flags()
            return
        self.exceptions[fault.vector] = self.exceptions.get(fault.vector, 0) + 1
        deliver_fault(self.cpu, self.memory, fault)
        self.resume()

    # -- traces

    def _on_trace(self, tc_rip: int, gpa: int) -> None:
        """A store to a traced page: carried out here if it is simple, else stepped with the page open."""
        if self.open_pages:
            self.mmu.open_page(gpa)
            self.open_pages.append(gpa)
            return
        unit = self.cache.unit_at(tc_rip)
        if unit is not None:
            mark = unit.mark_at(tc_rip)
            if not mark.fix and emulate_store(unit, mark, gpa, self.cpu, self.mmu):
                self.adaptation.accuse(unit, mark)
                self._behind(unit, tc_rip)
                return
        self._recover(tc_rip)
        if self.stepper.is_repeated_string(self.cpu.rip):
            self.mmu.release_table(gpa >> 12)
            if gpa >> 12 not in self.mmu.traces.kinds:
                self.resume()
                return
        self.mmu.open_page(gpa)
        self.open_pages.append(gpa)
        self.enter_precise(1)

    def _on_store(self, site: Site) -> None:
        """A store that was found guilty of faulting on traces. RIP is behind the exit already."""
        unit = site.unit
        tc_rip = self._q[self._rip]
        try:
            self.adaptation.carry_out(site)
        except GuestFault as fault:
            self._restore_mark(unit, unit.mark_at(tc_rip - len(EXIT)))
            self.deliver_page_fault(fault) if fault.vector == Vector.PF else self.deliver(fault)
            return
        if not unit.live:
            self._behind(unit, tc_rip - len(EXIT))

    def _behind(self, unit: TranslationUnit, tc_rip: int) -> None:
        """Go on behind the guest instruction at `tc_rip`, which was carried out."""
        at = tc_rip - unit.tc_start
        offset = unit.mark_at(tc_rip).guest_offset
        for mark in unit.marks:
            if mark.tc_offset > at and mark.guest_offset > offset:
                if unit.live and not mark.fix:
                    self._q[self._rip] = unit.tc_start + mark.tc_offset
                    return
                self._restore_mark(unit, mark._replace(fix=0))
                self.resume()
                return
        raise EngineError(f"no instruction behind {tc_rip:#x}")

    def _close_pages(self) -> None:
        if self.open_pages:
            pages, self.open_pages = self.open_pages, []
            for gpa in pages:
                self.mmu.close_page(gpa)

    def _on_code_write(self, gpa: int, size: int) -> None:
        frame = gpa >> 12
        self.cache.code_written(gpa, size)
        pages = self.cache.by_frame.get(frame, ())
        if any(page.writes > _CODE_WRITES_BEFORE_DATA for page in pages) or not pages:
            self.cache.abandon_frame(frame, "its page became data")

    # -- resuming

    def update_pending(self) -> None:
        """Tell the translated code whether an interrupt waits for IF."""
        waits = INTERRUPT_WAITS if self.interrupt_line() else 0
        iopl = self.cpu.rflags & IOPL
        self.data.bytes[PENDING] = waits | IOPL_SET if iopl else waits
        self.data.bytes[VIRTUAL_IOPL] = ((iopl - KERNEL_IOPL) >> 8) & 0xFF

    def resume(self) -> None:
        """Go on from the state in the CPU: deliver what is due, find the unit, set the context."""
        cpu = self.cpu
        self._close_pages()
        while True:
            try:
                if self.trap_after and not cpu.interrupt_shadow:
                    cpu.dr[6] |= self.trap_after
                    self.trap_after = 0
                    raise GuestFault(Vector.DB)
                if self._signed[0] + MARGIN <= 0:
                    self.on_limit()
                    self.update_pending()
                if self.stop_requested:
                    self.sync.store_flags()
                    self.engine.stop()
                    return
                if self.data.bytes[PENDING] & INTERRUPT_WAITS and cpu.rflags & RFLAGS.IF and not cpu.interrupt_shadow:
                    self._interrupt()
                    continue
                if cpu.rip in self.cache.breakpoints and not self.ignore_breakpoint:
                    self.on_breakpoint(cpu.rip)
                    continue
                if not cpu.in_64bit_code:
                    if self.stepper.enter():
                        return
                    continue
                self._enter()
                return
            except GuestFault as fault:
                if self.on_fault is not None and self.on_fault(fault):
                    continue
                self.exceptions[fault.vector] = self.exceptions.get(fault.vector, 0) + 1
                deliver_fault(cpu, self.memory, fault)
            except CacheFull:
                self.cache.flush()

    def _interrupt(self) -> None:
        vector = self.acknowledge()
        self.interrupts += 1
        self.update_pending()
        deliver_external(self.cpu, self.memory, vector)

    def _enter(self) -> None:
        cpu = self.cpu
        user = cpu.cpl == 3
        rip = cpu.rip
        remaining = self._signed[0] + MARGIN
        if cpu.rflags & RFLAGS.TF or self.guest_debug.armed:
            self._enter_debugged(rip)
            return
        if remaining <= MARGIN or self.ignore_breakpoint or cpu.interrupt_shadow:
            one = self.ignore_breakpoint or cpu.interrupt_shadow
            self.ignore_breakpoint = False
            cpu.interrupt_shadow = False
            self.enter_precise(1 if one else remaining)
            return
        if self.direct is not None and self.direct.wants(remaining):
            self.direct.enter()
            return
        cache = self.cache
        entry = (cache.user_entries if user else cache.kernel_entries).get(rip)
        if entry is None:
            if not is_canonical(rip):
                raise GuestFault(Vector.GP, 0)
            start = perf_counter()
            entry = cache.find(rip, user).entry
            self.seconds_translating += perf_counter() - start
        self.set_context(entry)

    def _enter_debugged(self, rip: int) -> None:
        """Run one instruction for a guest that debugs itself. Raises GuestFault #DB for an instruction breakpoint."""
        cpu, debug = self.cpu, self.guest_debug
        hits = debug.execution_hits(rip)
        if hits and not cpu.rflags & RFLAGS.RF:
            cpu.dr[6] |= hits
            raise GuestFault(Vector.DB)
        instruction = self.stepper.decode(rip)
        self.trap_after |= debug.data_hits(instruction) | (DR6.BS if cpu.rflags & RFLAGS.TF else 0)
        self.ignore_breakpoint = False
        cpu.interrupt_shadow = False
        self.enter_precise(1)
        if self.trap_after and self.stepper.is_repeated(instruction):
            # One round at a time: here the hardware's own TF ends it.
            context = self._context
            context.q[context.eflags_q] |= RFLAGS.TF
            context.d[context.hflags_d] |= HFlags.TF
            self.sync.segments_dirty = True  # which takes TF out of hflags again

    def enter_precise(self, length: int) -> None:
        """Run at most `length` instructions from the CPU's state, in a unit that chains to nothing."""
        cpu = self.cpu
        while True:
            try:
                unit = self.cache.find_precise(cpu.rip, cpu.cpl == 3, min(length, MAX_UNIT))
                break
            except CacheFull:
                self.cache.flush()
        self.set_context(unit.entry)

    def set_context(self, entry: int) -> None:
        """Segments, flags, RIP and root of the CPU into the context; RIP becomes `entry`."""
        sync = self.sync
        if sync.segments_dirty:
            self._store_segments()
        sync.store_flags()
        self._q[self._rip] = entry
        self.load_root()

    def _store_segments(self) -> None:
        sync = self.sync
        sync.store_segments()
        if sync.return_selectors is not None and not sync.return_selectors_hold():
            self.forget_return()

    def forget_return(self) -> None:
        """CS, SS or GDTR changed: what IRETQ in the TC compares with is not known any more."""
        self.sync.return_selectors = None
        words = self.data.words
        for at in (RETURN_CS >> 3, RETURN_SS >> 3):
            # A null selector still equals the first word; so the descriptor compared with must differ from its word.
            words[at], words[at + 1], words[at + 2] = 0, DATA_VA + ZERO, 1

    def load_root(self) -> None:
        """Point the hardware's CR3 at the current shadow root."""
        root = self.mmu.root
        if self._q[self._cr3] != root:
            self._q[self._cr3] = root
            self.engine.needs_flush = True

    # -- from outside

    def run(self) -> None:
        """Run from the CPU's state until somebody sets `stop_requested`. Afterwards the CPU's state is exact.

        Raises TripleFault (state as at the last fault), EngineError.
        """
        self.stop_requested = False
        self.sync.segments_dirty = True
        self.sync.store_control()
        self.update_pending()
        self.resume()
        if not self.stop_requested:
            self.engine.run()


__all__ = ["CALLOUT_VECTOR", "Dispatcher", "TripleFault"]
