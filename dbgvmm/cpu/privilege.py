"""Checks that IRET and far RET share: the code and stack segments returned to, and what an outer return takes away.

Source: Intel SDM vol. 2A IRET and vol. 2B RET (operation), vol. 3A 5.8.6.
"""

from __future__ import annotations

from .bits import EFER, SegmentAttributes, SReg, is_canonical
from .descriptors import fetch, limit_of
from .faults import general_protection, invalid_opcode, not_present, stack_fault
from .memory import LinearMemory
from .state import VCpu

# IRETQ comes here each time, and a module's constant is read several times faster than a class's.
_P, _LMA, _L, _DB = SegmentAttributes.P, EFER.LMA, SegmentAttributes.L, SegmentAttributes.DB
_CONFORMING_BIT = SegmentAttributes.conforming
_DATA_SEGMENTS = (SReg.ES, SReg.DS, SReg.FS, SReg.GS)
_CODE_SEGMENT = SegmentAttributes.S | SegmentAttributes.CODE
_DATA_KIND = SegmentAttributes.S | SegmentAttributes.CODE | SegmentAttributes.WRITABLE
_WRITABLE_DATA = SegmentAttributes.S | SegmentAttributes.WRITABLE
_CONFORMING = SegmentAttributes.S | SegmentAttributes.CODE | SegmentAttributes.conforming


def require_cpl0(cpu: VCpu) -> None:
    """Raise #GP(0) unless CPL is 0: the check of every privileged instruction."""
    if cpu.cpl:
        raise general_protection(0, "privileged instruction at CPL above 0")


def require_protected(cpu: VCpu) -> None:
    """Raise #UD in real mode, where some protected-mode instructions are not recognised."""
    if not cpu.cr0 & 1:
        raise invalid_opcode("instruction not recognised in real mode")


def is_writable_data(attributes: int) -> bool:
    """True for a data segment that may be written, which is what a stack must be."""
    return attributes & _DATA_KIND == _WRITABLE_DATA


def check_return_code(cpu: VCpu, mem: LinearMemory, selector: int, rip: int) -> tuple[int, int]:
    """Return (address, raw) of the code descriptor that IRET or RET goes to, with `rip` checked against it.

    Raises #GP(0) for a null selector or a bad `rip`, #GP(selector), #NP(selector), #PF.
    """
    error_code = selector & 0xFFFC
    if not error_code:
        raise general_protection(0, "return to a null code selector")
    address, raw = fetch(cpu, mem, selector)
    attributes = raw >> 40 & 0xF0FF
    rpl = selector & 3
    if attributes & _CODE_SEGMENT != _CODE_SEGMENT:
        raise general_protection(error_code, "return to a segment that is not code")
    if rpl < cpu.cpl:
        raise general_protection(error_code, "return to a more privileged level")
    dpl = (attributes >> 5) & 3
    if dpl > rpl if attributes & _CONFORMING_BIT else dpl != rpl:
        raise general_protection(error_code, "return selector's RPL does not fit the code segment's DPL")
    if not attributes & _P:
        raise not_present(error_code, "return to a code segment that is not present")
    check_code_target(cpu, raw, attributes, rip, error_code)
    return address, raw


def check_code_target(cpu: VCpu, raw: int, attributes: int, rip: int, error_code: int) -> None:
    """Raise #GP(error_code) for a code segment with L and D both set in long mode, #GP(0) for `rip` outside it."""
    if cpu.efer & _LMA and attributes & _L:
        if attributes & _DB:
            raise general_protection(error_code, "code segment has both L and D set")
        if not is_canonical(rip):
            raise general_protection(0, "target RIP is not canonical")
    elif rip > limit_of(raw):
        raise general_protection(0, "target RIP is beyond the code segment's limit")


def check_return_stack(cpu: VCpu, mem: LinearMemory, selector: int, rpl: int, to_64bit: bool) -> tuple[int, int] | None:
    """Return (address, raw) of the stack descriptor to return to, None for an allowed null selector.

    rpl: the new CPL. to_64bit: the new code is 64-bit, where CPL 0..2 may have a null SS.
    Raises #GP(0), #GP(selector), #SS(selector), #PF.
    """
    error_code = selector & 0xFFFC
    if not error_code:
        if to_64bit and rpl != 3:
            return None
        raise general_protection(0, "return to a null stack selector")
    address, raw = fetch(cpu, mem, selector)
    attributes = raw >> 40 & 0xF0FF
    if selector & 3 != rpl or (attributes >> 5) & 3 != rpl or not is_writable_data(attributes):
        raise general_protection(error_code, "stack segment returned to does not fit the new privilege level")
    if not attributes & _P:
        raise stack_fault(error_code, "stack segment returned to is not present")
    return address, raw


def null_stack_attributes(cpl: int) -> int:
    """Attributes of a null SS: unusable, but SS.DPL is the CPL always."""
    return cpl << SegmentAttributes.dpl_shift


def drop_inner_segments(cpu: VCpu) -> None:
    """After a return to an outer level, make ES, DS, FS and GS null where the new CPL may not use them.

    Bases stay: FS and GS of a 64-bit guest survive with the selector nulled.
    """
    cpl = cpu.cpl
    for index in _DATA_SEGMENTS:
        segment = cpu.segs[index]
        attributes = segment.attributes
        if attributes & _P and (attributes >> 5) & 3 < cpl and attributes & _CONFORMING != _CONFORMING:
            segment.selector = 0
            segment.limit = 0
            segment.attributes = 0
