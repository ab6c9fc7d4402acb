"""The dispatcher: what happens at every exit, and how the guest is resumed.

Two ways lead back into the TC. The short one, for exits that leave the guest's state alone (a filled shadow entry, a
new chain), only sets the context's RIP. The long one, `resume`, starts from the architectural state in `VCpu`.

Exact time. The data page's BUDGET is the number of instructions left before the clock wants to be asked, less MARGIN.
A unit that would use it up leaves in time, and the last instructions before the deadline run in *precise* units, so
that events, interrupts and stops happen at an exact instruction count that does not depend on how units were cut.

A *sampling point* is a deadline that need not be exact (sampling_points.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from iced_x86 import Instruction, Mnemonic

from dbgvmm.bt.accesses import MemoryAccesses
from dbgvmm.bt.cache import CacheFull, TranslationCache
from dbgvmm.bt.callouts import Callouts
from dbgvmm.bt.counting import UnitCounting
from dbgvmm.bt.delivery import Delivery
from dbgvmm.bt.direct import DirectUser
from dbgvmm.bt.emission import EXIT
from dbgvmm.bt.exit_places import ExitPlaces, Observer
from dbgvmm.bt.fault_exits import FaultExits
from dbgvmm.bt.forming import MAX_UNIT
from dbgvmm.bt.guest_debug import GuestDebug
from dbgvmm.bt.mechanisms import DELIVERY, DETAIL_SHIFT, ENTRY, INTERRUPT, SITE_KEYS
from dbgvmm.bt.recovery import Recovery
from dbgvmm.bt.return_selectors import ReturnSelectors
from dbgvmm.bt.sampling_points import SamplingPoints
from dbgvmm.bt.site_exits import SiteExits
from dbgvmm.bt.stepper import Stepper
from dbgvmm.bt.sync import IOPL, KERNEL_IOPL, StateSync
from dbgvmm.bt.tcdata import BUDGET, INTERRUPT_WAITS, IOPL_SET, LIMIT, MARGIN, PENDING, VIRTUAL_IOPL, TcData
from dbgvmm.bt.trace_exits import TraceExits
from dbgvmm.bt.units import Site
from dbgvmm.bt.watching import Watching
from dbgvmm.cpu.bits import DR6, RFLAGS, PageFaultError, Vector
from dbgvmm.cpu.exceptions import deliver_fault
from dbgvmm.cpu.faults import GuestFault, TripleFault
from dbgvmm.cpu.interrupts import deliver_external
from dbgvmm.cpu.state import VCpu
from dbgvmm.hardware.context import HFlags
from dbgvmm.hardware.engine import Engine, EngineError
from dbgvmm.hardware.layout import is_canonical
from dbgvmm.mmu.linear import GuestMemory
from dbgvmm.mmu.mmu import ShadowMmu
from dbgvmm.mmu.writers import NOBODY

CALLOUT_VECTOR: Final = EXIT[1]
_SOFTWARE_INTERRUPTS: Final = frozenset((Mnemonic.INT, Mnemonic.INT3, Mnemonic.INT1, Mnemonic.INTO))
_NO_ERROR_CODE: Final = frozenset((0, 1, 3, 4, 5, 6, 7, 9, 16, 18, 19, 20))


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
        self.ledger = cache.ledger
        self._meter = engine.meter
        self._site_cells = tuple(self.ledger.cells[key] for key in SITE_KEYS)
        sync.on_sse_switched = cache.switch_sse
        self.recovery = Recovery(engine.context, cpu, cache, data, sync)
        self.returns = ReturnSelectors(cpu, data, sync)
        self.stepper = Stepper(self)
        self.sampling = SamplingPoints(self)
        self.direct: DirectUser | None = None
        self.counting: UnitCounting | None = None
        """Who is told of all instructions that retire."""
        self._places: ExitPlaces | None = None
        self._context = engine.context
        self._q = engine.context.q
        self._rip = engine.context.rip_q
        self._cr3 = engine.context.cr_q + 3
        self._signed = data.signed
        self.limit = 0
        self.due = -MARGIN
        """What the budget must be down to for `resume` to ask who is due: 0 for a sampling point, which is not exact."""
        self._signed[BUDGET >> 3] = -MARGIN
        self.open_pages: list[int] = []
        self.ignore_breakpoint = False
        self.probe_left = False
        """The probe at RIP wants its breakpoint to be asked."""
        self.trap_after = 0
        self.one_round = False
        """The #DB that comes next is that of `end_after_one_round`."""
        accesses = MemoryAccesses(cpu, callouts.operands)
        self.guest_debug = GuestDebug(cpu, accesses)
        self.watching = Watching(self, accesses)
        self.stop_requested = False
        self.last_exit = -1, 0
        """Vector and engine's RIP of the last exit; the vector is -1 if there was none yet."""
        self.last_address = 0
        """What the last page fault of translated code was about."""
        self.last_delivery: Delivery | None = None
        self.interrupts_held = False
        """A debugger steps and wants interrupts to wait."""
        self.on_limit: Callable[[], None] = self._no_limit
        self.on_breakpoint: Callable[[int], None] = self._no_breakpoint
        self.on_halt: Callable[[], None] = self._no_limit
        self.on_fault: Callable[[GuestFault], bool] | None = None
        """Asked before a fault is delivered; True: do not, a stop was requested."""
        self.on_interrupt: Callable[[int], None] | None = None
        self.on_delivery: Callable[[int, bool], None] | None = None
        """Told of (vector, whether it is an interrupt) before one is delivered; the CPU is as it was."""
        self.acknowledge: Callable[[], int] = lambda: 0
        self.interrupt_line: Callable[[], bool] = lambda: False
        traces = TraceExits(self)
        self.adaptation = traces.adaptation
        self.faults = FaultExits(self, traces)
        self._site_handlers = SiteExits(self).handlers(traces.on_store)
        self.choose_handler()
        mmu.on_code_write = traces.on_code_write
        signed = data.signed
        mmu.tell_time(lambda: signed[LIMIT >> 3] - signed[BUDGET >> 3])  # `count`, without a detour

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
        self.limit = limit = self.sampling.earlier(limit)
        self._signed[BUDGET >> 3] = limit - now - MARGIN
        self._signed[LIMIT >> 3] = limit - MARGIN

    # -- exits

    def choose_handler(self) -> None:
        """Have the engine's exits handled as is wanted now: who watches, looks again behind each."""
        engine, places = self.engine, self._places
        handler = self.watching.on_exit if self.watching.active else self.on_exit
        if places is None:
            engine.handler, engine.after_exit = handler, None
        else:
            places.handler = handler
            engine.handler, engine.after_exit = places.on_exit, places.note
        if self.direct is not None:
            engine.on_interruption = self.direct.on_interruption if places is None else places.on_interruption

    def observe_exits(self, observer: Observer | None) -> None:
        """Have `observer` told of each exit, from the next one on; None: nobody, and it costs nothing."""
        self._places = None if observer is None else ExitPlaces(self, observer)
        self.choose_handler()

    def on_exit(self, vector: int) -> None:
        """Every exit of the engine comes through here, its context saved."""
        rip = self._q[self._rip]
        self.last_exit = vector, rip
        if vector == CALLOUT_VECTOR:
            site = self.cache.sites.get(rip)
            if site is not None:
                kind = site.kind
                self._meter.cell = self._site_cells[kind]
                self._site_handlers[kind](site)
                return
        if self.stepper.active:
            self.stepper.on_exit(vector)
            return
        if self.direct is not None and self.direct.active:
            self.direct.on_exit(vector)
            return
        if vector == Vector.PF:
            self.last_address = self._q[self._cr3 - 1]
            self.faults.on_page_fault()
            return
        self.faults.on_exception(vector)

    def resume_at(self, rip: int) -> None:
        """Go on at `rip`; the flags are still the context's."""
        self.cpu.rip = rip
        self.sync.load_flags()
        self.resume()

    def execute(self, instruction: Instruction, next_rip: int, site: Site | None = None) -> None:
        """Carry out a sensitive instruction (already counted, by the unit of `site`) and resume behind it, or deliver its
        fault."""
        cpu = self.cpu
        try:
            if not self.callouts.execute(instruction):
                cpu.rip = next_rip
        except GuestFault as fault:
            self.take_back(site)
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

    @property
    def watched(self) -> bool:
        """Whether the guest's debug registers or a debugger's watchpoint want to be asked before the guest goes on."""
        return self.guest_debug.armed or self.watching.hit is not None

    def remaining(self) -> int:
        """Instructions left to the next deadline."""
        return self._signed[0] + MARGIN

    def run_user_directly(self) -> None:
        """From now on, CPL-3 code runs untranslated."""
        self.direct = DirectUser(self)

    def retire(self, instructions: int) -> None:
        """Count instructions that no unit counted."""
        self._signed[0] -= instructions

    def take_back(self, site: Site | None) -> None:
        """A sensitive instruction, already counted, faulted: it did not retire."""
        self._signed[0] += 1
        if self.counting is not None and site is not None:
            self.counting.take_back(site)

    def count_executions(self, counting: UnitCounting | None) -> None:
        """From now on, units count their executions for `counting`; for nobody, if it is None. Only while the machine stands
        still: all units are made anew."""
        self.cache.flush()
        self.counting = self.cache.translator.counting = counting
        self.recovery.account = self.recovery.make_exact if counting is None else counting.account

    # -- faults

    def stack_or_general(self) -> int:
        """Whether the instruction at RIP faults through the stack segment (SDM vol. 3A 6.15, interrupt 12)."""
        return Vector.SS if self.stepper.uses_stack_segment(self.cpu.rip) else Vector.GP

    def deliver_exception(self, vector: int) -> None:
        """Deliver an exception that the hardware found at cpu.rip."""
        if vector == Vector.GP:
            vector = self.stack_or_general()
        self.deliver(GuestFault(vector, None if vector in _NO_ERROR_CODE else 0))

    def deliver_page_fault(self, fault: GuestFault) -> None:
        """Deliver a page fault of the instruction at cpu.rip, with the error code that hardware would give."""
        error = fault.error_code or 0
        if not error & (PageFaultError.W | PageFaultError.I) and self.stepper.modifies_memory(self.cpu.rip):
            # The engine loads before it stores; hardware reports the read-modify-write as the write that it is.
            fault = GuestFault(fault.vector, error | PageFaultError.W, fault.cr2)
        self.deliver(fault)

    def deliver(self, fault: GuestFault) -> None:
        """Deliver a fault of the instruction at cpu.rip and resume in its handler."""
        self._close_pages()
        self.trap_after = 0
        self.one_round = False
        self.watching.hit = None
        self._note(fault)
        if self.on_fault is not None and self.on_fault(fault):
            self.resume()
            return
        self._deliver_fault(fault)
        self.resume()

    def _note(self, fault: GuestFault) -> None:
        """Remember a fault that the guest gets, for whoever asks why."""
        self.mmu.writers.rip = NOBODY  # whoever was about to write has not
        index, entry = self.mmu.format.failed_at
        self.last_delivery = Delivery(fault, self.cpu.rip, self.count, self.cpu.cpl, index, entry)

    def _deliver_fault(self, fault: GuestFault) -> None:
        if self.on_delivery is not None:
            self.on_delivery(fault.vector, False)
        self.ledger.timed(DELIVERY | fault.vector << DETAIL_SHIFT, deliver_fault, self.cpu, self.memory, fault)

    def _close_pages(self) -> None:
        if self.open_pages:
            pages, self.open_pages = self.open_pages, []
            for gpa in pages:
                self.mmu.close_page(gpa)

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
                if self._signed[0] <= self.due and self.sampling.deadline_is_due():
                    self.on_limit()
                    self.update_pending()
                if self.watching.hit is not None:
                    self.watching.report()
                if self.stop_requested:
                    self.sync.store_flags()
                    self.engine.stop()
                    return
                if (
                    self.data.bytes[PENDING] & INTERRUPT_WAITS
                    and cpu.rflags & RFLAGS.IF
                    and not cpu.interrupt_shadow
                    and not self.interrupts_held
                ):
                    self._interrupt()
                    continue
                if cpu.rip in self.cache.all_breakpoints and not self.ignore_breakpoint and not self._leaves_it_to_probe():
                    self.on_breakpoint(cpu.rip)
                    continue
                if not cpu.in_64bit_code:
                    if self.stepper.enter():
                        return
                    continue
                self._enter()
                return
            except GuestFault as fault:
                self.watching.hit = None
                self._note(fault)
                if self.on_fault is not None and self.on_fault(fault):
                    continue
                self._deliver_fault(fault)
            except CacheFull:
                self.cache.flush()

    def _leaves_it_to_probe(self) -> bool:
        """Whether the breakpoint at RIP need not be asked: the unit that is entered next has its probe, which has not just
        left."""
        left, self.probe_left = self.probe_left, False
        cpu = self.cpu
        return not (
            left
            or cpu.rip in self.cache.breakpoints
            or (self.remaining() <= MARGIN and self.due)
            or cpu.interrupt_shadow
            or cpu.rflags & RFLAGS.TF
            or self.guest_debug.armed
            or not cpu.in_64bit_code
        )

    def _interrupt(self) -> None:
        vector = self.acknowledge()
        self.update_pending()
        if self.on_delivery is not None:
            self.on_delivery(vector, True)
        self.ledger.timed(INTERRUPT | vector << DETAIL_SHIFT, deliver_external, self.cpu, self.memory, vector)
        if self.on_interrupt is not None:
            self.on_interrupt(vector)

    def _enter(self) -> None:
        cpu = self.cpu
        user = cpu.cpl == 3
        rip = cpu.rip
        remaining = self._signed[0] + MARGIN
        if cpu.rflags & RFLAGS.TF or self.guest_debug.armed:
            self._enter_debugged(rip)
            return
        if remaining <= MARGIN and self.due or self.ignore_breakpoint or cpu.interrupt_shadow:
            self._enter_precise_checked(rip, remaining)
            return
        if self.direct is not None and self.counting is None and self.direct.wants(remaining):
            self.direct.enter()
            return
        cache = self.cache
        entry = (cache.user_entries if user else cache.kernel_entries).get(rip)
        if entry is None:
            if not is_canonical(rip):
                raise GuestFault(Vector.GP, 0)
            entry = cache.find(rip, user).entry
        self.set_context(entry)

    def _enter_precise_checked(self, rip: int, remaining: int) -> None:
        """From `resume`, which looks for a breakpoint at RIP again if this raises CacheFull: it may only be known since now."""
        cpu = self.cpu
        ignored, shadow = self.ignore_breakpoint, cpu.interrupt_shadow
        self.ignore_breakpoint = False
        cpu.interrupt_shadow = False
        try:
            unit = self.cache.find_precise(rip, cpu.cpl == 3, 1 if ignored or shadow else remaining)
        except CacheFull:
            self.ignore_breakpoint, cpu.interrupt_shadow = ignored, shadow
            raise
        self.set_context(unit.entry)

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
            self.end_after_one_round()

    def end_after_one_round(self) -> None:
        """Have the repeated string instruction that the context is set for run once: the hardware's own TF ends it."""
        context = self._context
        context.q[context.eflags_q] |= RFLAGS.TF
        context.d[context.hflags_d] |= HFlags.TF
        self.sync.segments_dirty = True  # which takes TF out of hflags again
        self.one_round = True

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
            self.store_segments()
        sync.store_flags()
        self._q[self._rip] = entry
        self.load_root()

    def store_segments(self) -> None:
        """Segments of the CPU into the context."""
        sync = self.sync
        sync.store_segments()
        if sync.return_selectors is not None and not sync.return_selectors_hold():
            self.returns.forget()

    def load_root(self) -> None:
        """Point the hardware's CR3 at the current shadow root."""
        root = self.mmu.root
        if self._q[self._cr3] != root:
            self._q[self._cr3] = root
            self.engine.needs_flush = True

    # -- from outside

    def _begin(self) -> None:
        self.watching.begin()
        self.resume()

    def run(self) -> None:
        """Run from the CPU's state until somebody sets `stop_requested`. Afterwards the CPU's state is exact.

        Raises TripleFault (state as at the last fault), EngineError.
        """
        self.stop_requested = False
        self.sync.segments_dirty = True
        self.sync.store_control()
        self.update_pending()
        self.ledger.timed(ENTRY, self._begin)
        if not self.stop_requested:
            self.engine.run()


__all__ = ["CALLOUT_VECTOR", "Dispatcher", "TripleFault"]
