"""Loads of segment registers: MOV to Sreg, POP Sreg, LDS and relatives. CS is loaded by far.py only.

Source: Intel SDM vol. 2B MOV (operation), vol. 3A 3.4.2, 3.4.4, 5.5 to 5.7.
"""

from __future__ import annotations

from .bits import CR0, EFER, SegmentAttributes, SReg
from .descriptors import attributes_of, fetch, load_from, mark_accessed
from .faults import general_protection, invalid_opcode, not_present, stack_fault
from .memory import LinearMemory
from .privilege import is_writable_data, null_stack_attributes
from .state import VCpu

_REAL_MODE_DATA = 0x3 | SegmentAttributes.S | SegmentAttributes.P
_EXECUTE_ONLY_MASK = SegmentAttributes.S | SegmentAttributes.CODE | SegmentAttributes.readable


def load_segment(cpu: VCpu, mem: LinearMemory, index: int, selector: int) -> None:
    """Load segment register `index` (SReg, not CS) with `selector`, as the current mode does it.

    Raises #UD for CS or an index above GS; #GP(0), #GP(sel), #NP(sel), #SS(sel), #PF.
    """
    if index == SReg.CS or index > SReg.GS:
        raise invalid_opcode("not a segment register that can be loaded")
    selector &= 0xFFFF
    if not cpu.cr0 & CR0.PE:
        _load_real(cpu, index, selector)
    elif index == SReg.SS:
        _load_ss(cpu, mem, selector)
    else:
        _load_data(cpu, mem, index, selector)
    cpu.on_segments_changed(cpu)


def mov_to_sreg(cpu: VCpu, mem: LinearMemory, index: int, selector: int) -> None:
    """MOV Sreg, r/m16 and POP Sreg: load_segment, and a load of SS holds off events for one instruction.

    LSS is load_segment alone. Raises as load_segment does.
    """
    load_segment(cpu, mem, index, selector)
    if index == SReg.SS:
        cpu.interrupt_shadow = True


def _load_real(cpu: VCpu, index: int, selector: int) -> None:
    # The limit and the B and G bits stay as protected mode left them ("unreal mode").
    segment = cpu.segs[index]
    segment.selector = selector
    segment.base = selector << 4
    segment.attributes = _REAL_MODE_DATA | segment.attributes & (SegmentAttributes.DB | SegmentAttributes.G)


def _load_ss(cpu: VCpu, mem: LinearMemory, selector: int) -> None:
    cpl = cpu.cpl
    error_code = selector & 0xFFFC
    if not error_code:
        long64 = cpu.efer & EFER.LMA and cpu.segs[SReg.CS].attributes & SegmentAttributes.L
        if not long64 or cpl == 3 or selector & 3 != cpl:
            raise general_protection(0, "null selector loaded into SS")
        cpu.segs[SReg.SS].set(selector, 0, 0, null_stack_attributes(cpl))
        return
    address, raw = fetch(cpu, mem, selector)
    attributes = attributes_of(raw)
    if selector & 3 != cpl or (attributes >> 5) & 3 != cpl or not is_writable_data(attributes):
        raise general_protection(error_code, "SS needs a writable data segment with RPL and DPL equal to CPL")
    if not attributes & SegmentAttributes.P:
        raise stack_fault(error_code, "segment loaded into SS is not present")
    load_from(cpu.segs[SReg.SS], selector, mark_accessed(mem, address, raw))


def _load_data(cpu: VCpu, mem: LinearMemory, index: int, selector: int) -> None:
    error_code = selector & 0xFFFC
    if not error_code:
        # As on Intel processors, a null selector clears the base of FS and GS too.
        cpu.segs[index].set(selector, 0, 0, 0)
        return
    address, raw = fetch(cpu, mem, selector)
    attributes = attributes_of(raw)
    if not attributes & SegmentAttributes.S:
        raise general_protection(error_code, "system descriptor loaded into a data segment register")
    if attributes & _EXECUTE_ONLY_MASK == SegmentAttributes.S | SegmentAttributes.CODE:
        raise general_protection(error_code, "execute-only code loaded into a data segment register")
    if not (attributes & SegmentAttributes.CODE and attributes & SegmentAttributes.conforming):
        dpl = (attributes >> 5) & 3
        if selector & 3 > dpl or cpu.cpl > dpl:
            raise general_protection(error_code, "segment is more privileged than CPL or RPL")
    if not attributes & SegmentAttributes.P:
        raise not_present(error_code, "segment is not present")
    load_from(cpu.segs[index], selector, mark_accessed(mem, address, raw))
