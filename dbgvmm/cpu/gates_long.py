"""Delivery through a 64-bit IDT gate: the only kind that exists while EFER.LMA is set.

Source: Intel SDM vol. 3A 6.14 (exception handling in 64-bit mode), 7.7 (64-bit TSS); vol. 2A INT (operation).
"""

from __future__ import annotations

from .bits import MASK64, RFLAGS, SegmentAttributes, SystemType, Vector
from .descriptors import fetch, load_from, mark_accessed
from .faults import GuestFault, general_protection, not_present, stack_fault
from .memory import LinearMemory
from .privilege import null_stack_attributes
from .state import VCpu

# This runs at every fault and interrupt of a 64-bit guest, and a module's constant is read several times faster than a
# class's: hence the names here, and the checks written out below.
_M64 = MASK64
_PRESENT = 1 << 47
_CLEARED_BY_TRAP_GATE = ~(RFLAGS.TF | RFLAGS.NT | RFLAGS.RF | RFLAGS.VM) & MASK64
_CLEARED_BY_INTERRUPT_GATE = _CLEARED_BY_TRAP_GATE & ~RFLAGS.IF
_INTERRUPT_GATE = SystemType.INTERRUPT_GATE
_TRAP_GATE = SystemType.TRAP_GATE
_P = SegmentAttributes.P
_CONFORMING = SegmentAttributes.conforming
_LONG_CODE = SegmentAttributes.L
_L_AND_DB = SegmentAttributes.L | SegmentAttributes.DB
_CODE_SEGMENT = SegmentAttributes.S | SegmentAttributes.CODE
_FIRST_RSP_IN_TSS = 4
_IST1_IN_TSS = 36
# An address is canonical if, with this added modulo 2**64, it is below 2**48.
_CANONICAL_SHIFT = 1 << 47
_CANONICAL_END = 1 << 48


def deliver_long(
    cpu: VCpu,
    mem: LinearMemory,
    vector: int,
    error_code: int | None,
    software: bool,
    ext: int,
    saved_rip: int,
    saved_rflags: int,
) -> None:
    """Enter the handler of `vector`. ext: the EXT bit (0 or 1) of the faults that this may raise.

    Raises GuestFault with the registers unchanged.
    """
    gate_error = vector << 3 | 2 | ext
    offset = vector << 4
    if offset + 15 > cpu.idtr.limit:
        raise general_protection(gate_error, "vector beyond the IDT's limit")
    address = (cpu.idtr.base + offset) & _M64
    gate = mem.read_u64(address, False)
    gate_high = mem.read_u64((address + 8) & _M64, False)
    kind = gate >> 40 & 0x1F
    if kind != _INTERRUPT_GATE and kind != _TRAP_GATE:
        raise general_protection(gate_error, "IDT entry is not a 64-bit interrupt or trap gate")
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
    attributes = code >> 40 & 0xF0FF
    dpl = attributes >> 5 & 3
    if attributes & _CODE_SEGMENT != _CODE_SEGMENT or dpl > cpl:
        raise general_protection(code_error, "IDT entry's selector is not code at or inside CPL")
    if not attributes & _P:
        raise not_present(code_error, "IDT entry's code segment is not present")
    if attributes & _L_AND_DB != _LONG_CODE:
        raise general_protection(code_error, "IDT entry's code segment is not 64-bit")
    new_cpl = cpl if attributes & _CONFORMING else dpl

    gpr = cpu.gpr
    old_rsp = gpr[4]
    ist = gate >> 32 & 7
    if ist:
        top = _read_tss_stack(cpu, mem, _IST1_IN_TSS + (ist - 1) * 8, ext)
    elif new_cpl != cpl:
        top = _read_tss_stack(cpu, mem, _FIRST_RSP_IN_TSS + new_cpl * 8, ext)
    else:
        top = old_rsp
    top &= 0xFFFF_FFFF_FFFF_FFF0
    rsp = (top - (40 if error_code is None else 48)) & _M64
    if (rsp + _CANONICAL_SHIFT) & _M64 >= _CANONICAL_END or (top - 8 + _CANONICAL_SHIFT) & _M64 >= _CANONICAL_END:
        raise stack_fault(ext, "handler's stack pointer is not canonical")
    rip = gate & 0xFFFF | gate >> 32 & 0xFFFF_0000 | (gate_high & 0xFFFF_FFFF) << 32
    if (rip + _CANONICAL_SHIFT) & _M64 >= _CANONICAL_END:
        raise general_protection(ext, "IDT entry's offset is not canonical")

    segs = cpu.segs
    user = new_cpl == 3
    mem.write_u64(top - 8 & _M64, segs[2].selector, user)
    mem.write_u64(top - 16 & _M64, old_rsp, user)
    mem.write_u64(top - 24 & _M64, saved_rflags, user)
    mem.write_u64(top - 32 & _M64, segs[1].selector, user)
    mem.write_u64(top - 40 & _M64, saved_rip, user)
    if error_code is not None:
        mem.write_u64(rsp, error_code, user)
    code = mark_accessed(mem, code_address, code)

    gpr[4] = rsp
    cpu.rip = rip
    cpu.rflags &= _CLEARED_BY_INTERRUPT_GATE if kind == _INTERRUPT_GATE else _CLEARED_BY_TRAP_GATE
    load_from(segs[1], selector & 0xFFFC | new_cpl, code)
    if new_cpl != cpl:
        segs[2].set(new_cpl, 0, 0, null_stack_attributes(new_cpl))
        cpu.cpl = new_cpl


def _read_tss_stack(cpu: VCpu, mem: LinearMemory, offset: int, ext: int) -> int:
    """Return the stack pointer at `offset` in the 64-bit TSS. Raises #TS(TR) if the TSS is too short."""
    tr = cpu.tr
    if offset + 7 > tr.limit:
        raise GuestFault(Vector.TS, tr.selector & 0xFFFC | ext, reason="stack pointer beyond the TSS's limit")
    return mem.read_u64((tr.base + offset) & MASK64, False)
