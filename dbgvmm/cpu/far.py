"""Far JMP, CALL and RET: changing CS, directly or through a call gate.

Tasks are not emulated: a far transfer to a TSS or task gate raises #GP(selector), which says so in its reason.
Source: Intel SDM vol. 2A CALL, JMP, vol. 2B RET (operation); vol. 3A 5.8 (privilege checks, call gates).
"""

from __future__ import annotations

from .bits import CR0, EFER, GPR, MASK16, MASK32, MASK64, SegmentAttributes, SReg, SystemType
from .descriptors import attributes_of, fetch, load_from, locate, mark_accessed
from .faults import general_protection, invalid_tss, not_present
from .gates_legacy import read_inner_stack
from .memory import LinearMemory
from .privilege import (
    check_code_target,
    check_return_code,
    check_return_stack,
    drop_inner_segments,
    null_stack_attributes,
)
from .stack import Stack, merge_sp, stack_mask
from .state import Segment, VCpu

_CODE_SEGMENT = SegmentAttributes.S | SegmentAttributes.CODE


class _Target:
    """A checked destination. size: of what a CALL pushes. params: stack words that a legacy gate copies."""

    __slots__ = ("selector", "address", "raw", "rip", "cpl", "size", "params", "via_long_gate")

    def __init__(self, selector: int, address: int, raw: int, rip: int, cpl: int, size: int) -> None:
        self.selector = selector
        self.address = address
        self.raw = raw
        self.rip = rip
        self.cpl = cpl
        self.size = size
        self.params = 0
        self.via_long_gate = False


def far_jmp(cpu: VCpu, mem: LinearMemory, selector: int, offset: int, operand_size: int) -> None:
    """JMP ptr16:16/32 or m16:16/32/64. Raises #GP(0), #GP(sel), #NP(sel), #PF with the registers unchanged."""
    offset = _cut(offset, operand_size)
    if not cpu.cr0 & CR0.PE:
        _set_real_cs(cpu, selector, offset)
    else:
        target = _resolve(cpu, mem, selector & MASK16, offset, operand_size, is_call=False)
        _commit_code(cpu, mem, target)
    cpu.on_segments_changed(cpu)


def far_call(
    cpu: VCpu, mem: LinearMemory, selector: int, offset: int, operand_size: int, next_rip: int
) -> None:
    """CALL ptr16:16/32 or m16:16/32/64, pushing CS and `next_rip`.

    Raises #GP(0), #GP(sel), #NP(sel), #SS, #TS, #PF with the registers unchanged.
    """
    offset = _cut(offset, operand_size)
    cs = cpu.segs[SReg.CS]
    if not cpu.cr0 & CR0.PE:
        stack = Stack.current(cpu, mem)
        stack.push(cs.selector, operand_size)
        stack.push(next_rip, operand_size)
        _set_real_cs(cpu, selector, offset)
        cpu.gpr[GPR.RSP] = stack.merged()
        cpu.on_segments_changed(cpu)
        return
    target = _resolve(cpu, mem, selector & MASK16, offset, operand_size, is_call=True)
    new_ss: Segment | None = None
    if target.cpl < cpu.cpl:
        new_ss, stack = _inner_stack(cpu, mem, target)
    elif target.via_long_gate:
        stack = Stack(mem, cpu.segs[SReg.SS], cpu.gpr[GPR.RSP], user=cpu.cpl == 3, long64=True)
    else:
        stack = Stack.current(cpu, mem)
    stack.push(cs.selector, target.size)
    stack.push(next_rip, target.size)
    _commit_code(cpu, mem, target)
    cpu.gpr[GPR.RSP] = stack.merged()
    if new_ss is not None:
        cpu.segs[SReg.SS] = new_ss
    cpu.on_segments_changed(cpu)


def far_ret(cpu: VCpu, mem: LinearMemory, operand_size: int, pop_bytes: int = 0) -> None:
    """RETF, with the `pop_bytes` of its immediate. Raises #GP(0), #GP(sel), #NP(sel), #SS, #PF, registers unchanged."""
    stack = Stack.current(cpu, mem)
    rip = stack.pop(operand_size)
    selector = stack.pop(operand_size) & MASK16
    if not cpu.cr0 & CR0.PE:
        stack.skip(pop_bytes)
        _set_real_cs(cpu, selector, rip)
        cpu.gpr[GPR.RSP] = stack.merged()
        cpu.on_segments_changed(cpu)
        return
    address, raw = check_return_code(cpu, mem, selector, rip)
    stack.skip(pop_bytes)
    rpl = selector & 3
    if rpl == cpu.cpl:
        load_from(cpu.segs[SReg.CS], selector, mark_accessed(mem, address, raw))
        cpu.rip = rip
        cpu.gpr[GPR.RSP] = stack.merged()
        cpu.on_segments_changed(cpu)
        return
    sp = stack.pop(operand_size)
    ss_selector = stack.pop(operand_size) & MASK16
    to_64bit = bool(cpu.efer & EFER.LMA and raw >> 53 & 1)
    new_ss = check_return_stack(cpu, mem, ss_selector, rpl, to_64bit)
    raw = mark_accessed(mem, address, raw)
    ss = cpu.segs[SReg.SS]
    if new_ss is None:
        ss.set(ss_selector, 0, 0, null_stack_attributes(rpl))
    else:
        load_from(ss, ss_selector, mark_accessed(mem, *new_ss))
    load_from(cpu.segs[SReg.CS], selector, raw)
    cpu.cpl = rpl
    cpu.rip = rip
    mask = stack_mask(to_64bit, ss.attributes)
    cpu.gpr[GPR.RSP] = merge_sp(cpu.gpr[GPR.RSP] & MASK32, (sp + pop_bytes) & mask, mask)
    drop_inner_segments(cpu)
    cpu.on_segments_changed(cpu)


def _cut(offset: int, operand_size: int) -> int:
    return offset & ((1 << operand_size * 8) - 1)


def _set_real_cs(cpu: VCpu, selector: int, offset: int) -> None:
    cs = cpu.segs[SReg.CS]
    if offset > cs.limit:
        raise general_protection(0, "target IP is beyond the code segment's limit")
    cs.selector = selector & MASK16
    cs.base = cs.selector << 4
    cpu.rip = offset


def _commit_code(cpu: VCpu, mem: LinearMemory, target: _Target) -> None:
    raw = mark_accessed(mem, target.address, target.raw)
    load_from(cpu.segs[SReg.CS], target.selector & 0xFFFC | target.cpl, raw)
    cpu.cpl = target.cpl
    cpu.rip = target.rip


def _resolve(
    cpu: VCpu, mem: LinearMemory, selector: int, offset: int, operand_size: int, *, is_call: bool
) -> _Target:
    """Check a far transfer to `selector`:`offset`, following a call gate."""
    error_code = selector & 0xFFFC
    if not error_code:
        raise general_protection(0, "far transfer to a null selector")
    address, raw = fetch(cpu, mem, selector)
    attributes = attributes_of(raw)
    if not attributes & SegmentAttributes.S:
        return _resolve_gate(cpu, mem, selector, address, raw, is_call)
    if not attributes & SegmentAttributes.CODE:
        raise general_protection(error_code, "far transfer to a data segment")
    cpl = cpu.cpl
    dpl = attributes >> 5 & 3
    if attributes & SegmentAttributes.conforming:
        if dpl > cpl:
            raise general_protection(error_code, "far transfer to conforming code outside CPL")
    elif selector & 3 > cpl or dpl != cpl:
        raise general_protection(error_code, "far transfer to code of another privilege level")
    if not attributes & SegmentAttributes.P:
        raise not_present(error_code, "far transfer to a code segment that is not present")
    check_code_target(cpu, raw, attributes, offset, error_code)
    return _Target(selector, address, raw, offset, cpl, operand_size)


def _resolve_gate(cpu: VCpu, mem: LinearMemory, selector: int, address: int, gate: int, is_call: bool) -> _Target:
    error_code = selector & 0xFFFC
    kind = gate >> 40 & 0xF
    long_mode = cpu.efer & EFER.LMA
    if kind != SystemType.CALL_GATE and (long_mode or kind != SystemType.CALL_GATE16):
        raise general_protection(error_code, "far transfer to a system descriptor other than a call gate (no tasks)")
    cpl = cpu.cpl
    gate_dpl = gate >> 45 & 3
    if gate_dpl < cpl or selector & 3 > gate_dpl:
        raise general_protection(error_code, "call gate is more privileged than CPL or RPL")
    rip = gate & 0xFFFF
    if kind == SystemType.CALL_GATE:
        rip |= gate >> 32 & 0xFFFF_0000
    if long_mode:
        if locate(cpu, selector, 16) < 0:
            raise general_protection(error_code, "64-bit call gate ends beyond its descriptor table's limit")
        high = mem.read_u64((address + 8) & MASK64, False)
        if high >> 40 & 0x1F:
            raise general_protection(error_code, "upper half of a 64-bit call gate has a type")
        rip |= (high & MASK32) << 32
    if not gate >> 47 & 1:
        raise not_present(error_code, "call gate is not present")

    code_selector = gate >> 16 & 0xFFFF
    code_error = code_selector & 0xFFFC
    if not code_error:
        raise general_protection(0, "call gate has a null code selector")
    code_address, code = fetch(cpu, mem, code_selector)
    attributes = attributes_of(code)
    dpl = attributes >> 5 & 3
    if attributes & _CODE_SEGMENT != _CODE_SEGMENT or dpl > cpl:
        raise general_protection(code_error, "call gate's selector is not code at or inside CPL")
    conforming = attributes & SegmentAttributes.conforming
    if not is_call and not conforming and dpl != cpl:
        raise general_protection(code_error, "JMP through a call gate cannot change privilege")
    if long_mode and attributes & (SegmentAttributes.L | SegmentAttributes.DB) != SegmentAttributes.L:
        raise general_protection(code_error, "call gate's code segment is not 64-bit")
    if not attributes & SegmentAttributes.P:
        raise not_present(code_error, "call gate's code segment is not present")
    check_code_target(cpu, code, attributes, rip, code_error)
    size = 8 if long_mode else 4 if kind == SystemType.CALL_GATE else 2
    target = _Target(code_selector, code_address, code, rip, cpl if conforming else dpl, size)
    target.via_long_gate = bool(long_mode)
    target.params = 0 if long_mode else gate >> 32 & 0x1F
    return target


def _inner_stack(cpu: VCpu, mem: LinearMemory, target: _Target) -> tuple[Segment, Stack]:
    """Return the inner level's SS and stack, with the caller's SS, RSP and parameters pushed."""
    level, size = target.cpl, target.size
    old_ss, old_rsp = cpu.segs[SReg.SS], cpu.gpr[GPR.RSP]
    params: list[int] = []
    if target.via_long_gate:
        tr = cpu.tr
        if 4 + level * 8 + 7 > tr.limit:
            raise invalid_tss(tr.selector & 0xFFFC, "stack pointer beyond the TSS's limit")
        rsp = mem.read_u64((tr.base + 4 + level * 8) & MASK64, False)
        new_ss = Segment(level, 0, 0, null_stack_attributes(level))
        stack = Stack(mem, new_ss, rsp, user=False, long64=True)
    else:
        new_ss, esp = read_inner_stack(cpu, mem, level, 0)
        old_stack = Stack.current(cpu, mem)
        params = [old_stack.pop(size) for _ in range(target.params)]
        stack = Stack(mem, new_ss, esp, user=False, long64=False, error_code=new_ss.selector & 0xFFFC)
    stack.push(old_ss.selector, size)
    stack.push(old_rsp, size)
    for value in reversed(params):
        stack.push(value, size)
    return new_ss, stack
