"""Interrupted code behind an entry stub: the frame that the CPU has pushed, found by what it must look like.

Entry stubs are written in assembly, push what they like, and seldom have call frame information. But what lies below their
own registers is exactly known (Intel SDM vol. 3A, 6.14.2): RIP, CS, RFLAGS, RSP, SS, the frame's end on a 16-byte
boundary below the old RSP. RFLAGS has fixed bits, and selectors are the kernel's or have RPL 3.
"""

from __future__ import annotations

from typing import Final

from dbgvmm.cpu.bits import MASK64, RFLAGS, SReg, is_canonical
from dbgvmm.cpu.state import VCpu
from dbgvmm.debug.unwind.call_site import words_below_frame
from dbgvmm.debug.unwind.frame_pointer import LONGEST_PROLOGUE, FindSymbol, frame_setup
from dbgvmm.debug.unwind.frames import Registers
from dbgvmm.debug.unwind.methods import SELECTOR_RPL, Base, Rule, RuleMethod
from dbgvmm.debug.unwind.stack import StackMemory, Unreadable

_WORDS: Final = 5
_ALIGNMENT: Final = 16
_RFLAGS_ZERO: Final = MASK64 & ~(
    RFLAGS.CF | RFLAGS.FIXED | RFLAGS.PF | RFLAGS.AF | RFLAGS.ZF | RFLAGS.SF | RFLAGS.TF | RFLAGS.IF | RFLAGS.DF
    | RFLAGS.OF | RFLAGS.IOPL | RFLAGS.NT | RFLAGS.RF | RFLAGS.AC | RFLAGS.ID
)  # fmt: skip
_SELECTOR_TI: Final = 4
_LARGEST_SELECTOR: Final = 0xFFFF


class InterruptFrameMethod(RuleMethod):
    """Knows kernel code that sets up no frame pointer of its own: looks up the stack for an interrupt's frame."""

    name = "interrupt frame"

    def __init__(self, cpu: VCpu, find: FindSymbol) -> None:
        self._cpu = cpu
        self._find = find

    def rule(self, frame: Registers, stack: StackMemory) -> Rule | None:
        """See UnwindMethod."""
        if frame.user or frame.sp & 7:
            return None
        found = self._find(frame.place)
        if found is None:
            return None
        if frame_setup(stack.code(found[0].address, LONGEST_PROLOGUE)) is not None:
            return None
        words: list[int] = []
        for index in range(words_below_frame(frame) + _WORDS):
            try:
                words.append(stack.word(frame.sp + 8 * index))
            except Unreadable:
                break
            if len(words) >= _WORDS and self._is_frame(words[-_WORDS:], frame.sp + 8 * index + 8, stack):
                return Rule(Base.IRET, 8 * (len(words) - _WORDS))
        return None

    def _is_frame(self, words: list[int], end: int, stack: StackMemory) -> bool:
        rip, cs, rflags, rsp, ss = words
        if not rflags & RFLAGS.FIXED or rflags & _RFLAGS_ZERO or not 0 < cs <= _LARGEST_SELECTOR or ss > _LARGEST_SELECTOR:
            return False
        if cs & SELECTOR_RPL == SELECTOR_RPL:
            plausible = ss & SELECTOR_RPL == SELECTOR_RPL
        else:
            kernel_cs = self._cpu.segs[SReg.CS].selector & ~SELECTOR_RPL
            same_stack = end <= rsp < end + _ALIGNMENT
            other_stack = not end % _ALIGNMENT  # by the IST: RSP is anywhere
            plausible = cs == kernel_cs and not ss & (SELECTOR_RPL | _SELECTOR_TI) and (same_stack or other_stack)
        return plausible and is_canonical(rsp) and is_canonical(rip) and stack.executable(rip)
