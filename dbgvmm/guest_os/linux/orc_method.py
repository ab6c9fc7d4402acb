"""Callers by ORC, as a method of the unwinder (arch/x86/kernel/unwind_orc.c has the same rules).

An entry says all about most places, so the unwinder keeps its rule; the few that need other registers or an address out of
memory are worked out each time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from dbgvmm.cpu.bits import MASK64
from dbgvmm.debug.unwind import Base, Registers, Rule, StackMemory, UnwindEnd
from dbgvmm.debug.unwind.frames import CALLEE_SAVED, DwarfRegister
from dbgvmm.debug.unwind.methods import SELECTOR_RPL, apply_rule
from dbgvmm.guest_os.linux.orc import OrcBase, OrcRule, Shape

_SAVED: Final = (
    DwarfRegister.R15, DwarfRegister.R14, DwarfRegister.R13, DwarfRegister.R12, DwarfRegister.RBP, DwarfRegister.RBX,
    DwarfRegister.R11, DwarfRegister.R10, DwarfRegister.R9, DwarfRegister.R8, DwarfRegister.RAX, DwarfRegister.RCX,
    DwarfRegister.RDX, DwarfRegister.RSI, DwarfRegister.RDI,
)  # fmt: skip
"""struct pt_regs (arch/x86/include/asm/ptrace.h), a quadword each; then orig_rax and what the CPU pushes."""
_RBP_AT: Final = 8 * _SAVED.index(DwarfRegister.RBP)
_RIP_AT: Final = 8 * (len(_SAVED) + 1)
_REGISTER: Final = {
    OrcBase.DX: DwarfRegister.RDX, OrcBase.DI: DwarfRegister.RDI, OrcBase.R10: DwarfRegister.R10,
    OrcBase.R13: DwarfRegister.R13, OrcBase.SP: DwarfRegister.RSP, OrcBase.BP: DwarfRegister.RBP,
    OrcBase.SP_INDIRECT: DwarfRegister.RSP, OrcBase.BP_INDIRECT: DwarfRegister.RBP,
}  # fmt: skip
_SIMPLE: Final = {OrcBase.SP: Base.SP, OrcBase.BP: Base.BP}
_COMPLEX: Final = Rule(Base.COMPLEX)


class OrcMethod:
    """Implements `UnwindMethod`. find: the entry for an address; None where no table has one."""

    name = "ORC"

    def __init__(self, find: Callable[[int], OrcRule | None]) -> None:
        self._find = find

    def rule(self, frame: Registers, stack: StackMemory) -> Rule | None:
        """See UnwindMethod."""
        entry = self._find(frame.place)
        if entry is None or entry.shape is Shape.UNDEFINED:
            return None
        if entry.shape is Shape.END:
            return Rule(Base.OUTERMOST)
        if entry.shape is Shape.CALL:
            return _call_rule(entry)
        if entry.sp_base is not OrcBase.SP:
            return _COMPLEX
        if entry.shape is Shape.REGS:
            return Rule(Base.IRET, entry.sp_offset + _RIP_AT, _RBP_AT - _RIP_AT)
        if entry.bp_base is OrcBase.UNDEFINED:
            return Rule(Base.IRET, entry.sp_offset)
        return Rule(Base.IRET, entry.sp_offset, entry.bp_offset) if entry.bp_base is OrcBase.PREV_SP else _COMPLEX

    def caller(self, frame: Registers, stack: StackMemory) -> Registers | None:
        """See UnwindMethod."""
        rule = self.rule(frame, stack)
        if rule is None:
            return None
        entry = self._find(frame.place)
        assert entry is not None
        if rule.base is not Base.COMPLEX and entry.shape is not Shape.REGS:
            return apply_rule(rule, frame, stack)
        cfa = _frame_address(entry, frame, stack)
        if entry.shape is Shape.REGS:
            values = {register: stack.word(cfa + 8 * index) for index, register in enumerate(_SAVED)}
            return _interrupted(cfa + _RIP_AT, values, stack)
        values = {number: value for number, value in frame.values.items() if number in CALLEE_SAVED}
        bp = _frame_pointer(entry, cfa, frame, stack)
        if bp is not None:
            values[DwarfRegister.RBP] = bp
        if entry.shape is Shape.REGS_PARTIAL:
            return _interrupted(cfa, values, stack)
        values[DwarfRegister.RSP] = cfa
        return Registers(stack.word(cfa - 8), values, False, frame.user)


def _call_rule(entry: OrcRule) -> Rule:
    base = _SIMPLE.get(entry.sp_base)
    if base is None:
        return _COMPLEX
    if entry.bp_base is OrcBase.UNDEFINED:
        return Rule(base, entry.sp_offset)
    if entry.bp_base is OrcBase.PREV_SP:
        return Rule(base, entry.sp_offset, entry.bp_offset)
    if base is Base.BP and entry.bp_base is OrcBase.BP:
        return Rule(base, entry.sp_offset, entry.bp_offset - entry.sp_offset)
    return _COMPLEX


def _frame_address(entry: OrcRule, frame: Registers, stack: StackMemory) -> int:
    """The CFA: the caller's RSP, or where pushed registers begin. Raises UnwindEnd, Unreadable."""
    register = _REGISTER.get(entry.sp_base)
    value = None if register is None else frame.values.get(register)
    if value is None:
        raise UnwindEnd(f"the caller of {frame.pc:#x} follows from a register that is not known here")
    if entry.sp_base is OrcBase.BP_INDIRECT:
        return stack.word(value + entry.sp_offset)
    if entry.sp_base is OrcBase.SP_INDIRECT:
        return stack.word(value) + entry.sp_offset & MASK64
    return value + entry.sp_offset & MASK64


def _frame_pointer(entry: OrcRule, cfa: int, frame: Registers, stack: StackMemory) -> int | None:
    if entry.bp_base is OrcBase.PREV_SP:
        return stack.word(cfa + entry.bp_offset)
    if entry.bp_base is OrcBase.BP and frame.bp is not None:
        return stack.word(frame.bp + entry.bp_offset)
    return frame.bp


def _interrupted(at: int, values: dict[int, int], stack: StackMemory) -> Registers:
    """What the CPU pushed at `at`: RIP, CS, RFLAGS, RSP, SS (Intel SDM vol. 3A, 6.14.2)."""
    user = stack.word(at + 8) & SELECTOR_RPL == SELECTOR_RPL
    values[DwarfRegister.RSP] = stack.word(at + 24)
    return Registers(stack.word(at), values, True, user)
