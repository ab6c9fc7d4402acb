"""IRET in all modes: the return from a handler.

Source: Intel SDM vol. 2A IRET/IRETD/IRETQ (operation), vol. 3A 6.14.3 (IRET in IA-32e mode).
"""

from __future__ import annotations

from struct import Struct

from .bits import CR0, EFER, GPR, MASK16, MASK32, MASK64, RFLAGS, SegmentAttributes, SReg, is_canonical
from .descriptors import load_from, mark_accessed
from .faults import UnsupportedState, general_protection, invalid_tss, stack_fault
from .memory import LinearMemory
from .privilege import check_return_code, check_return_stack, drop_inner_segments, null_stack_attributes
from .stack import Stack, merge_sp, stack_mask
from .state import VCpu

_ALWAYS = (
    RFLAGS.CF | RFLAGS.PF | RFLAGS.AF | RFLAGS.ZF | RFLAGS.SF | RFLAGS.TF | RFLAGS.DF | RFLAGS.OF | RFLAGS.NT
)
_NT = RFLAGS.NT
_IF = RFLAGS.IF
_CHANGED_BY_IRETQ = _ALWAYS | RFLAGS.RF | RFLAGS.AC | RFLAGS.ID
_CHANGED_BY_KERNEL_IRETQ = _CHANGED_BY_IRETQ | RFLAGS.IF | RFLAGS.IOPL | RFLAGS.VIF | RFLAGS.VIP
_FRAME = Struct("<5Q")
_WIDE = RFLAGS.RF | RFLAGS.AC | RFLAGS.ID


def iret(cpu: VCpu, mem: LinearMemory, operand_size: int) -> None:
    """IRET (operand_size 2), IRETD (4) or IRETQ (8). Ends NMI blocking.

    Raises #GP(0), #GP(sel), #NP(sel), #SS(sel), #SS(0), #TS, #PF with the registers unchanged; UnsupportedState for
    a return to virtual-8086 mode.
    """
    if operand_size == 8 and cpu.rflags & _NT == 0:
        _iretq(cpu, mem)
    elif cpu.cr0 & CR0.PE:
        _iret_protected(cpu, mem, operand_size)
    else:
        _iret_real(cpu, mem, operand_size)
    cpu.nmi_blocked = False
    cpu.interrupt_shadow = False
    cpu.on_segments_changed(cpu)


def _iretq(cpu: VCpu, mem: LinearMemory) -> None:
    """IRETQ with NT clear, which only 64-bit code has: the whole frame in one read, for it ends every interrupt."""
    gpr = cpu.gpr
    cpl = cpu.cpl
    rsp = gpr[4]
    if not is_canonical(rsp) or not is_canonical((rsp + 39) & MASK64):
        raise stack_fault(0, "stack address is not canonical")
    rip, selector, flags, sp, ss_selector = _FRAME.unpack(mem.read(rsp, 40, cpl == 3))
    selector &= MASK16
    ss_selector &= MASK16
    code_address, code = check_return_code(cpu, mem, selector, rip)
    rpl = selector & 3
    to_64bit = code >> 53 & 1
    stack = check_return_stack(cpu, mem, ss_selector, rpl, bool(to_64bit))
    segs = cpu.segs
    ss = segs[2]
    if stack is None:
        code = mark_accessed(mem, code_address, code)
        ss.set(ss_selector, 0, 0, rpl << 5)
    else:
        raw = mark_accessed(mem, stack[0], stack[1])
        code = mark_accessed(mem, code_address, code)
        load_from(ss, ss_selector, raw)
    load_from(segs[1], selector, code)
    changed = _CHANGED_BY_IRETQ if cpl else _CHANGED_BY_KERNEL_IRETQ
    if cpl and cpl <= cpu.rflags >> 12 & 3:
        changed |= _IF
    cpu.rflags = cpu.rflags & ~changed | flags & changed
    cpu.rip = rip
    cpu.cpl = rpl
    if to_64bit:
        gpr[4] = sp
    else:
        mask = stack_mask(False, ss.attributes)
        gpr[4] = merge_sp(rsp & MASK32, sp, mask)
    if rpl > cpl:
        drop_inner_segments(cpu)


def _iret_real(cpu: VCpu, mem: LinearMemory, size: int) -> None:
    stack = Stack.current(cpu, mem)
    rip = stack.pop(size)
    selector = stack.pop(size) & MASK16
    flags = stack.pop(size)
    cs = cpu.segs[SReg.CS]
    if rip > cs.limit:
        raise general_protection(0, "target IP is beyond the code segment's limit")
    cpu.gpr[GPR.RSP] = stack.merged()
    cpu.rip = rip
    cs.selector, cs.base = selector, selector << 4
    changed = _ALWAYS | RFLAGS.IF | RFLAGS.IOPL | (_WIDE if size == 4 else 0)
    cpu.rflags = cpu.rflags & ~changed | flags & changed


def _iret_protected(cpu: VCpu, mem: LinearMemory, size: int) -> None:
    long_mode = cpu.efer & EFER.LMA
    from_64bit = bool(long_mode and cpu.segs[SReg.CS].attributes & SegmentAttributes.L)
    if cpu.rflags & RFLAGS.NT:
        if long_mode:
            raise general_protection(0, "IRET with NT set in long mode")
        raise invalid_tss(cpu.tr.selector & 0xFFFC, "IRET with NT set returns to a task, which this CPU does not have")
    stack = Stack.current(cpu, mem)
    rip = stack.pop(size)
    selector = stack.pop(size) & MASK16
    flags = stack.pop(size)
    cpl = cpu.cpl
    if flags & RFLAGS.VM and size == 4 and not long_mode and cpl == 0:
        raise UnsupportedState(
            f"IRET at {cpu.rip:#x} returns to virtual-8086 mode, which dbgvmm does not emulate: "
            "use a guest that stays in protected or long mode"
        )
    code_address, code = check_return_code(cpu, mem, selector, rip)
    rpl = selector & 3
    to_64bit = bool(long_mode and code >> 53 & 1)
    new_ss: tuple[int, int] | None = None
    pops_stack = from_64bit or rpl > cpl
    sp = ss_selector = 0
    if pops_stack:
        sp = stack.pop(size)
        ss_selector = stack.pop(size) & MASK16
        new_ss = check_return_stack(cpu, mem, ss_selector, rpl, to_64bit)
        if new_ss is not None:
            new_ss = new_ss[0], mark_accessed(mem, *new_ss)
    code = mark_accessed(mem, code_address, code)

    changed = _ALWAYS
    if size != 2:
        changed |= _WIDE
    if cpl <= cpu.rflags >> 12 & 3:
        changed |= RFLAGS.IF
    if cpl == 0:
        changed |= RFLAGS.IOPL
        if size != 2:
            changed |= RFLAGS.VIF | RFLAGS.VIP
    cpu.rflags = cpu.rflags & ~changed | flags & changed
    cpu.rip = rip
    load_from(cpu.segs[SReg.CS], selector, code)
    cpu.cpl = rpl
    if not pops_stack:
        cpu.gpr[GPR.RSP] = stack.merged()
        return
    ss = cpu.segs[SReg.SS]
    if new_ss is None:
        ss.set(ss_selector, 0, 0, null_stack_attributes(rpl))
    else:
        load_from(ss, ss_selector, new_ss[1])
    mask = stack_mask(to_64bit, ss.attributes)
    cpu.gpr[GPR.RSP] = merge_sp(cpu.gpr[GPR.RSP] & MASK32, sp, mask)
    if rpl > cpl:
        drop_inner_segments(cpu)
