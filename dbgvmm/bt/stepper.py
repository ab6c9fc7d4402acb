"""Guest code that is not 64-bit: stepped one instruction at a time.

The way from a boot loader to long mode is some hundred to some ten thousand instructions of 16-bit and 32-bit code.
Each is decoded; a sensitive one is carried out by the monitor, any other runs on the hardware in compatibility mode, at
the guest's (deprivileged) CPL, with EFLAGS.TF set: about 10 us an instruction. It runs from a copy in the TC. The
hidden base of CS is chosen so that EIP has the guest's value there: the engine adds base and EIP in 64 bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from iced_x86 import (
    Decoder,
    DecoderError,
    FlowControl,
    Instruction,
    InstructionInfoFactory,
    Mnemonic,
    OpAccess,
    OpKind,
    Register,
)

from dbgvmm.bt import classify
from dbgvmm.bt.counting import CodeKey
from dbgvmm.bt.mechanisms import DETAIL_SHIFT, EXCEPTION, STEP, STEP_CALLOUT, WINDOW_FAULT
from dbgvmm.cpu.bits import RFLAGS, SegmentAttributes, Vector
from dbgvmm.cpu.faults import GuestFault
from dbgvmm.hardware.context import HFlags
from dbgvmm.hardware.layout import MASK64, PAGE_SHIFT, PAGE_SIZE, TC_SIZE, TC_VA
from dbgvmm.mmu.access import TRACE, TRUE

if TYPE_CHECKING:
    from dbgvmm.bt.dispatcher import Dispatcher

_STACK_REGISTERS: Final = frozenset((Register.RSP, Register.RBP, Register.ESP, Register.EBP))
_STRING: Final = frozenset(
    (Mnemonic.MOVSB, Mnemonic.MOVSW, Mnemonic.MOVSD, Mnemonic.MOVSQ, Mnemonic.STOSB, Mnemonic.STOSW, Mnemonic.STOSD,
     Mnemonic.STOSQ)
)  # fmt: skip
_SENSITIVE: Final = frozenset(
    (classify.CALLOUT, classify.POPF, classify.PUSHF, classify.STI, classify.INVALID)
)
_SEGMENT_POPS: Final = frozenset((Register.ES, Register.SS, Register.DS))
_SENSITIVE_HERE: Final = frozenset((Mnemonic.CLI, Mnemonic.LES, Mnemonic.LDS))
_READ_AND_WRITE: Final = frozenset((OpAccess.READ_WRITE, OpAccess.READ_COND_WRITE))
_SLOT: Final = 16
_FETCH: Final = 1 << 4


class Stepper:
    """Steps 16-bit and 32-bit code, and answers questions about single instructions."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._classifier = dispatcher.cache.translator.former.classifier
        self._info = InstructionInfoFactory()
        self.active = False
        self.steps = 0
        self.code = b""
        self._counted = CodeKey(0, False, (), b"", 0, 0)
        """What is being stepped, if somebody counts."""
        self._slots: dict[bytes, int] = {}

    # -- looking at one instruction

    def decode(self, rip: int) -> Instruction:
        """The instruction at cpu.rip in the current mode. Raises GuestFault as its fetch would."""
        cpu = self._dispatcher.cpu
        if cpu.in_64bit_code:
            bits, linear = 64, rip
        else:
            bits = 32 if cpu.segs[1].attributes & SegmentAttributes.DB else 16
            linear = rip + cpu.segs[1].base & 0xFFFF_FFFF
        self.code = self._fetch(linear)
        decoder = Decoder(bits, self.code, ip=rip)
        instruction = decoder.decode()
        if decoder.last_error == DecoderError.NO_MORE_BYTES:
            self.code += self._fetch((linear | 0xFFF) + 1 & MASK64)
            instruction = Decoder(bits, self.code, ip=rip).decode()
        return instruction

    def _fetch(self, linear: int) -> bytes:
        """The bytes from `linear` to the end of its page, 15 at most. Raises GuestFault."""
        mmu = self._dispatcher.mmu
        frame, _ = mmu.resolve_code(linear, self._dispatcher.cpu.cpl == 3)
        length = min(15, PAGE_SIZE - (linear & 0xFFF))
        gpa = frame << PAGE_SHIFT | linear & 0xFFF
        return bytes(mmu.ram.bytes[gpa : gpa + length]) if gpa < mmu.ram.size else b"\xff" * length

    def uses_stack_segment(self, rip: int) -> bool:
        """Whether the memory operand of the instruction at `rip` goes through SS (or it is push, pop, call, ret)."""
        try:
            instruction = self.decode(rip)
        except GuestFault:
            return False
        for operand in range(instruction.op_count):
            if instruction.op_kind(operand) == OpKind.MEMORY:
                return instruction.memory_segment == Register.SS
        return instruction.is_stack_instruction

    def modifies_memory(self, rip: int) -> bool:
        """Whether the instruction at `rip` reads and writes its memory operand."""
        try:
            instruction = self.decode(rip)
        except GuestFault:
            return False
        return any(use.access in _READ_AND_WRITE for use in self._info.info(instruction).used_memory())

    def is_repeated_string(self, rip: int) -> bool:
        """Whether the instruction at `rip` is a repeated string store."""
        instruction = self.decode(rip)
        return instruction.mnemonic in _STRING and instruction.has_rep_prefix

    @staticmethod
    def is_repeated(instruction: Instruction) -> bool:
        """Whether this is a string instruction with a REP prefix."""
        return instruction.is_string_instruction and (instruction.has_rep_prefix or instruction.has_repne_prefix)

    def undo_branch(self, rip: int) -> None:
        """Take back what an indirect branch at `rip` did to RSP before its target turned out to be no address."""
        instruction = self.decode(rip)
        gpr = self._dispatcher.cpu.gpr
        if instruction.flow_control == FlowControl.RETURN:
            gpr[4] = gpr[4] - 8 - (instruction.immediate16 if instruction.op_count else 0) & MASK64
        elif instruction.flow_control == FlowControl.INDIRECT_CALL:
            gpr[4] = gpr[4] + 8 & MASK64

    # -- stepping

    def enter(self) -> bool:
        """Step the instruction at cpu.rip. True: the context is set to run it; False: the monitor carried it out.

        Raises GuestFault.
        """
        dispatcher = self._dispatcher
        cpu = dispatcher.cpu
        instruction = self.decode(cpu.rip)
        self.steps += 1
        dispatcher.ignore_breakpoint = False
        cpu.interrupt_shadow = False
        if dispatcher.counting is not None:
            self._counted = self._key(instruction)
        if self._sensitive(instruction):
            key = STEP_CALLOUT | instruction.mnemonic << DETAIL_SHIFT
            if not dispatcher.ledger.timed(key, dispatcher.callouts.execute, instruction):
                cpu.rip = instruction.next_ip & 0xFFFF_FFFF
            dispatcher.retire(1)
            if dispatcher.counting is not None:
                dispatcher.counting.stepped(self._counted)
            dispatcher.after_callout()
            return False
        if dispatcher.watching.active:
            dispatcher.watching.examine(instruction)
        self._start(self.code[: instruction.len])
        return True

    def _key(self, instruction: Instruction) -> CodeKey:
        """The instruction at cpu.rip, which was decoded last, as it is counted."""
        cpu = self._dispatcher.cpu
        linear, user = instruction.ip + cpu.segs[1].base & 0xFFFF_FFFF, cpu.cpl == 3
        frame, _ = self._dispatcher.mmu.resolve_code(linear, user)
        bits = 32 if cpu.segs[1].attributes & SegmentAttributes.DB else 16
        return CodeKey(linear, user, (frame,), self.code[: instruction.len], 1, bits)

    def _sensitive(self, instruction: Instruction) -> bool:
        kind = self._classifier.classes.get(instruction.code)
        if kind is None:
            kind = self._classifier.learn(instruction)
        if kind in _SENSITIVE or instruction.mnemonic in _SENSITIVE_HERE:
            return True
        return instruction.mnemonic == Mnemonic.POP and (
            instruction.op0_kind == OpKind.REGISTER and instruction.op0_register in _SEGMENT_POPS
        )

    def _start(self, code: bytes) -> None:
        dispatcher = self._dispatcher
        slot = self._slots.get(code)
        if slot is None:
            slot = dispatcher.cache.step_slot(len(self._slots), code, _SLOT)
            self._slots[code] = slot
        self.active = True
        sync, cpu, context = dispatcher.sync, dispatcher.cpu, dispatcher.engine.context
        sync.store_segments()
        sync.store_flags()
        context.q[context.segment_q(1) + 1] = slot - cpu.rip & MASK64
        context.q[context.eflags_q] |= RFLAGS.TF
        context.d[context.hflags_d] |= HFlags.TF
        context.q[context.rip_q] = cpu.rip
        dispatcher.load_root()

    def on_exit(self, vector: int) -> None:
        """The step ended (#DB), or the instruction faulted."""
        dispatcher = self._dispatcher
        context = dispatcher.engine.context
        dispatcher.ledger.exit_is(STEP if vector == Vector.DB else EXCEPTION | vector << DETAIL_SHIFT)
        if vector == Vector.PF and self._page_fault(context.q[context.cr_q + 2], context.s[context.error_code_d]):
            return
        self.active = False
        cpu = dispatcher.cpu
        dispatcher.sync.segments_dirty = True
        dispatcher.sync.load_flags()
        context.d[context.hflags_d] &= ~HFlags.TF & 0xFFFF_FFFF
        cpu.rip = context.q[context.rip_q] & 0xFFFF_FFFF
        if vector == Vector.DB:
            dispatcher.retire(1)
            if dispatcher.counting is not None:
                dispatcher.counting.stepped(self._counted)
            dispatcher.resume()
        elif vector == Vector.PF:
            dispatcher.deliver(GuestFault(vector, dispatcher.mmu.fault_error, context.q[context.cr_q + 2]))
        else:
            dispatcher.deliver_exception(vector)

    def _page_fault(self, address: int, error: int) -> bool:
        """Whether the step can go on: a shadow entry was filled, a page opened, the copy's window mapped."""
        dispatcher = self._dispatcher
        mmu = dispatcher.mmu
        if error & _FETCH and TC_VA <= address < TC_VA + TC_SIZE:
            dispatcher.ledger.exit_is(WINDOW_FAULT)
            dispatcher.faults.open_monitor_window(address)
            return True
        outcome = dispatcher.faults.find_cause(address, error)
        if outcome == TRACE:
            mmu.writers.fault(mmu.trace_gpa >> 12, dispatcher.cpu.rip)
            mmu.open_page(mmu.trace_gpa)
            dispatcher.open_pages.append(mmu.trace_gpa)
        return outcome != TRUE
