"""Delivery outside long mode: 16/32-bit gates of protected mode, and the real-mode vector table.

Tasks are not emulated: a task gate raises #GP of the vector, which says so in its reason.
Source: Intel SDM vol. 3A 6.11, 6.12, 7.2.1 (TSS), 20.1.4 (real-mode IVT); vol. 2A INT (operation).
"""

from __future__ import annotations

from .bits import GPR, MASK16, MASK32, RFLAGS, SegmentAttributes, SReg, SystemType, Vector
from .descriptors import attributes_of, fetch, limit_of, load_from, mark_accessed
from .faults import general_protection, invalid_tss, not_present, stack_fault
from .memory import LinearMemory
from .privilege import is_writable_data
from .stack import Stack
from .state import Segment, VCpu

_PRESENT = 1 << 47
_CODE_SEGMENT = SegmentAttributes.S | SegmentAttributes.CODE
_CLEARED_BY_GATE = RFLAGS.TF | RFLAGS.NT | RFLAGS.RF | RFLAGS.VM
_GATES = frozenset(
    (
        SystemType.INTERRUPT_GATE16,
        SystemType.TRAP_GATE16,
        SystemType.INTERRUPT_GATE,
        SystemType.TRAP_GATE,
    )
)


def deliver_protected(
    cpu: VCpu,
    mem: LinearMemory,
    vector: int,
    error_code: int | None,
    software: bool,
    ext: int,
    saved_rip: int,
    saved_rflags: int,
) -> None:
    """Enter the handler of `vector` through a gate of 8 bytes. ext: the EXT bit of the faults that this may raise.

    Raises GuestFault with the registers unchanged.
    """
    gate_error = vector << 3 | 2 | ext
    offset = vector << 3
    if offset + 7 > cpu.idtr.limit:
        raise general_protection(gate_error, "vector beyond the IDT's limit")
    gate = mem.read_u64((cpu.idtr.base + offset) & MASK32, False)
    kind = gate >> 40 & 0x1F
    if kind == SystemType.TASK_GATE:
        raise general_protection(gate_error, "IDT entry is a task gate, which this CPU does not have")
    if kind not in _GATES:
        raise general_protection(gate_error, "IDT entry is not an interrupt or trap gate")
    cpl = cpu.cpl
    if software and gate >> 45 & 3 < cpl:
        raise general_protection(gate_error, "software interrupt through a gate with DPL below CPL")
    if not gate & _PRESENT:
        raise not_present(gate_error, "IDT entry is not present")

    selector = gate >> 16 & 0xFFFF
    code_error = selector & 0xFFFC | ext
    if not selector & 0xFFFC:
        raise general_protection(ext, "IDT entry has a null code selector")
    code_address, code = fetch(cpu, mem, selector, ext)
    attributes = attributes_of(code)
    dpl = attributes >> 5 & 3
    if attributes & _CODE_SEGMENT != _CODE_SEGMENT or dpl > cpl:
        raise general_protection(code_error, "IDT entry's selector is not code at or inside CPL")
    if not attributes & SegmentAttributes.P:
        raise not_present(code_error, "IDT entry's code segment is not present")
    new_cpl = cpl if attributes & SegmentAttributes.conforming else dpl

    wide = kind >= SystemType.INTERRUPT_GATE
    size = 4 if wide else 2
    rip = gate & 0xFFFF | (gate >> 32 & 0xFFFF_0000 if wide else 0)
    new_ss: Segment | None = None
    if new_cpl != cpl:
        new_ss, esp = read_inner_stack(cpu, mem, new_cpl, ext)
        ss_error = new_ss.selector & 0xFFFC | ext
        stack = Stack(mem, new_ss, esp, user=False, long64=False, error_code=ss_error)
    else:
        stack = Stack.current(cpu, mem, ext)
    if rip > limit_of(code):
        raise general_protection(ext, "IDT entry's offset is beyond the code segment's limit")
    if new_ss is not None:
        stack.push(cpu.segs[SReg.SS].selector, size)
        stack.push(cpu.gpr[GPR.RSP], size)
    stack.push(saved_rflags, size)
    stack.push(cpu.segs[SReg.CS].selector, size)
    stack.push(saved_rip, size)
    if error_code is not None:
        stack.push(error_code, size)
    code = mark_accessed(mem, code_address, code)

    cpu.gpr[GPR.RSP] = stack.merged()
    cpu.rip = rip
    cpu.rflags &= ~_CLEARED_BY_GATE
    if kind in (SystemType.INTERRUPT_GATE, SystemType.INTERRUPT_GATE16):
        cpu.rflags &= ~RFLAGS.IF
    load_from(cpu.segs[SReg.CS], selector & 0xFFFC | new_cpl, code)
    if new_ss is not None:
        cpu.segs[SReg.SS] = new_ss
        cpu.cpl = new_cpl


def read_inner_stack(cpu: VCpu, mem: LinearMemory, level: int, ext: int) -> tuple[Segment, int]:
    """Return (SS, ESP) that the TSS holds for privilege `level` (0..2), checked and marked accessed.

    Raises #TS(TR) if the TSS is too short, #TS(SS), #SS(SS), #PF.
    """
    tr = cpu.tr
    wide = tr.attributes & 8
    offset = 4 + level * 8 if wide else 2 + level * 4
    if offset + (5 if wide else 3) > tr.limit:
        raise invalid_tss(tr.selector & 0xFFFC | ext, "stack pointer beyond the TSS's limit")
    address = (tr.base + offset) & MASK32
    if wide:
        esp = mem.read_u32(address, False)
        selector = mem.read_u16(address + 4, False)
    else:
        esp = mem.read_u16(address, False)
        selector = mem.read_u16(address + 2, False)
    error_code = selector & 0xFFFC | ext
    if not selector & 0xFFFC:
        raise invalid_tss(ext, "TSS holds a null stack selector")
    descriptor_address, raw = fetch(cpu, mem, selector, ext, Vector.TS)
    attributes = attributes_of(raw)
    if selector & 3 != level or attributes >> 5 & 3 != level or not is_writable_data(attributes):
        raise invalid_tss(error_code, "TSS's stack selector does not fit its privilege level")
    if not attributes & SegmentAttributes.P:
        raise stack_fault(error_code, "TSS's stack segment is not present")
    segment = Segment()
    load_from(segment, selector, mark_accessed(mem, descriptor_address, raw))
    return segment, esp


def deliver_real(cpu: VCpu, mem: LinearMemory, vector: int, saved_rip: int) -> None:
    """Enter the handler of `vector` through the real-mode vector table: pushes FLAGS, CS, IP, no error code.

    Raises GuestFault with the registers unchanged.
    """
    offset = vector << 2
    if offset + 3 > cpu.idtr.limit:
        raise general_protection(0, "vector beyond the limit of the real-mode vector table")
    entry = mem.read_u32((cpu.idtr.base + offset) & MASK32, False)
    stack = Stack.current(cpu, mem)
    stack.push(cpu.rflags & MASK16, 2)
    stack.push(cpu.segs[SReg.CS].selector, 2)
    stack.push(saved_rip, 2)
    cpu.gpr[GPR.RSP] = stack.merged()
    cpu.rflags &= ~(RFLAGS.IF | RFLAGS.TF | RFLAGS.AC | RFLAGS.RF)
    cs = cpu.segs[SReg.CS]
    cs.selector = entry >> 16
    cs.base = cs.selector << 4
    cpu.rip = entry & MASK16
