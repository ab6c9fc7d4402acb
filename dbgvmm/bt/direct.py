"""`--user=direct`: CPL-3 code runs untranslated, from the guest's own pages (Adams & Agesen 2006, section 3).

Only 64-bit code; the kernel stays translated. The engine has no counter of its own, so its block hook counts: a block
of straight-line code costs a call into Python, which makes this mode slower here than translation, but just as exact.
A block is counted when it begins. An exit in its middle takes back what has not run, and the engine begins another block
there if the code goes on. The last instructions before a deadline run translated, in precise units.

Since every block is decoded once to be counted, those with a sensitive instruction (SGDT, RDTSC, IN ...) are known: they
run translated, and unprivileged code does not see the monitor's state, which the paper's direct execution cannot hide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dbgvmm.bt.direct_blocks import NOTHING, DirectBlocks
from dbgvmm.bt.mechanisms import DETAIL_SHIFT, DIRECT, EXCEPTION, callout_key
from dbgvmm.bt.tcdata import MARGIN
from dbgvmm.cpu.bits import PageFaultError, Vector
from dbgvmm.cpu.faults import GuestFault
from dbgvmm.hardware.engine import EngineError
from dbgvmm.hardware.layout import END_OF_USER, is_canonical
from dbgvmm.mmu.access import HIDDEN, TRACE

if TYPE_CHECKING:
    from dbgvmm.bt.dispatcher import Dispatcher

_RESERVE: Final = 512
"""Instructions before a deadline from which user code is translated: more than any block has."""
_CALL_LENGTH: Final = 2
"""Bytes of SYSCALL and SYSENTER."""
_FETCH: Final = PageFaultError.I


class DirectUser:
    """Runs CPL-3 code in place. `active` while the context holds guest addresses."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        engine = dispatcher.engine
        classifier = dispatcher.cache.translator.former.classifier
        self._blocks = DirectBlocks(dispatcher.mmu, classifier, engine.flush_tlb, engine.forget_all_code)
        dispatcher.cache.on_flush = self._blocks.clear
        self.active = False
        self.blocks = 0
        self._block = NOTHING
        self._start = 0
        """What runs now: the block and its address."""
        self._translate_next = False
        self._call = False
        engine.watch_direct_code(self._on_block, self._on_call, END_OF_USER)
        engine.on_interruption = self.on_interruption

    def wants(self, remaining: int) -> bool:
        """Whether the CPU's state is for direct execution, with so many instructions to the next deadline."""
        cpu = self._dispatcher.cpu
        if self._dispatcher.cache.user_breakpoints:
            return False  # nothing looks for them in code that runs in place
        if self._translate_next:
            self._translate_next = False
            return False
        return cpu.cpl == 3 and remaining > _RESERVE and cpu.rip < END_OF_USER

    def enter(self) -> None:
        """Set the context to run the CPU's state in place."""
        dispatcher = self._dispatcher
        self.active = True
        self._block = NOTHING
        self._blocks.remapped()
        dispatcher.set_context(dispatcher.cpu.rip)

    # -- counting

    def _on_block(self, address: int, size: int) -> None:
        if not self.active:
            return
        self.blocks += 1
        dispatcher = self._dispatcher
        block = self._blocks.find(address, size)
        count = len(block.offsets)
        before = self._block
        if before.iterates and self._start + before.offsets[-1] == address:
            # One more iteration of an instruction that is counted already. It is not if the code is left here.
            if not dispatcher.stop_requested:
                return
            dispatcher.retire(-1)
        if not count or dispatcher.remaining() - count < MARGIN or dispatcher.stop_requested:
            self._block = NOTHING
            dispatcher.engine.interrupt_run()
            return
        self._block, self._start = block, address
        dispatcher.retire(count)

    def _uncount(self, rip: int) -> None:
        """Take back the instructions of the current block from `rip` on: they did not run."""
        self._dispatcher.retire(-self._counted_ahead(rip))
        self._block = NOTHING

    def _counted_ahead(self, rip: int) -> int:
        at = rip - self._start
        return sum(1 for offset in self._block.offsets if offset >= at) if at >= 0 else 0

    def place(self) -> tuple[int, int]:
        """RIP of the code that was left, and instructions retired before it."""
        context = self._dispatcher.engine.context
        rip = context.q[context.rip_q] - (_CALL_LENGTH if self._call else 0)
        return rip, self._dispatcher.count - self._counted_ahead(rip)

    # -- exits

    def _leave(self, rip: int) -> None:
        dispatcher = self._dispatcher
        self.active = False
        dispatcher.cpu.rip = rip
        dispatcher.sync.load_flags()

    def on_interruption(self) -> None:
        """The engine left a block early: for a system call, or because the deadline is near."""
        dispatcher = self._dispatcher
        dispatcher.ledger.exit_is(DIRECT)
        if not self.active:
            raise EngineError("the engine stopped and nobody asked for it")
        context = dispatcher.engine.context
        rip = context.q[context.rip_q]
        if self._call:
            self._call = False
            start = rip - _CALL_LENGTH
            self._leave(start)
            self._carry_out(start)
            return
        self._leave(rip)
        remaining = dispatcher.remaining()
        if remaining > 0 and not dispatcher.stop_requested:
            dispatcher.enter_precise(remaining)
        else:
            dispatcher.resume()

    def _on_call(self, instruction: int) -> None:
        if self.active:
            self._call = True
            self._dispatcher.engine.interrupt_run()

    def _carry_out(self, rip: int) -> None:
        """Have the monitor carry out the sensitive instruction at `rip`."""
        dispatcher = self._dispatcher
        self._uncount(rip)
        try:
            instruction = dispatcher.stepper.decode(rip)
        except GuestFault as fault:
            dispatcher.deliver(fault)
            return
        dispatcher.retire(1)
        dispatcher.ledger.exit_is(callout_key(instruction, instruction.mnemonic, dispatcher.cpu))
        dispatcher.execute(instruction, instruction.next_ip)

    def on_exit(self, vector: int) -> None:
        """An exception or software interrupt of direct code."""
        dispatcher = self._dispatcher
        context = dispatcher.engine.context
        rip = context.q[context.rip_q]
        dispatcher.ledger.exit_is(EXCEPTION | vector << DETAIL_SHIFT)
        if vector == Vector.PF:
            self._page_fault(rip, context.q[context.cr_q + 2], context.s[context.error_code_d])
            return
        if not is_canonical(rip):
            self._undo_branch()
            return
        self._leave(rip)
        self._uncount(rip)
        dispatcher.deliver_exception(vector)

    def _undo_branch(self) -> None:
        """The last instruction of the block branched to what is no address: it faults itself."""
        dispatcher = self._dispatcher
        branch = self._start + self._block.offsets[-1]
        self._leave(branch)
        self._uncount(branch)
        dispatcher.stepper.undo_branch(branch)
        dispatcher.deliver(GuestFault(Vector.GP, 0))

    def _page_fault(self, rip: int, address: int, error: int) -> None:
        dispatcher = self._dispatcher
        mmu = dispatcher.mmu
        if not is_canonical(rip):
            self._undo_branch()
            return
        if not is_canonical(address):
            self._leave(rip)
            self._uncount(rip)
            dispatcher.deliver_exception(Vector.GP)
            return
        outcome = dispatcher.faults.find_cause(address, error)
        if not error & _FETCH:  # what is fetched is a block that has not begun, and the one before is over
            self._uncount(rip)
        if outcome == HIDDEN:
            self._blocks.remapped()
            dispatcher.load_root()
            return
        self._leave(rip)
        if error & _FETCH and address != rip:
            # The engine compiles ahead, into the next page: what comes before runs first, and may never arrive there.
            self._translate_next = True
            dispatcher.resume()
            return
        if outcome == TRACE:
            mmu.writers.fault(mmu.trace_gpa >> 12, rip)
        if outcome == TRACE and dispatcher.watching.concerns(mmu.trace_gpa):
            dispatcher.watching.run_alone(mmu.trace_gpa)
        elif outcome == TRACE:
            mmu.open_page(mmu.trace_gpa)
            dispatcher.open_pages.append(mmu.trace_gpa)
            dispatcher.enter_precise(1)
        else:
            dispatcher.deliver_page_fault(GuestFault(Vector.PF, mmu.fault_error, address))
