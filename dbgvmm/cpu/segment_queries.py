"""LAR, LSL, VERR and VERW: questions about a selector that answer with ZF rather than with a fault.

Source: Intel SDM vol. 2A LAR, LSL, vol. 2B VERR/VERW (operation).
"""

from __future__ import annotations

from .bits import EFER, SegmentAttributes, SystemType
from .descriptors import attributes_of, limit_of, locate
from .memory import LinearMemory
from .privilege import require_protected
from .state import VCpu

_LEGACY_LAR = frozenset(
    (
        SystemType.TSS16_AVAILABLE,
        SystemType.LDT,
        SystemType.TSS16_BUSY,
        SystemType.CALL_GATE16,
        SystemType.TASK_GATE,
        SystemType.TSS_AVAILABLE,
        SystemType.TSS_BUSY,
        SystemType.CALL_GATE,
    )
)
_LONG_LAR = frozenset((SystemType.LDT, SystemType.TSS_AVAILABLE, SystemType.TSS_BUSY, SystemType.CALL_GATE))
_LEGACY_LSL = _LEGACY_LAR - {SystemType.CALL_GATE16, SystemType.TASK_GATE, SystemType.CALL_GATE}
_LONG_LSL = _LONG_LAR - {SystemType.CALL_GATE}


def lar(cpu: VCpu, mem: LinearMemory, selector: int) -> int | None:
    """Return the access rights (descriptor's second dword & 00F0FF00H; & FF00H for a 16-bit operand), None for ZF=0.

    Raises #UD in real mode, #PF.
    """
    raw = _visible(cpu, mem, selector, _LONG_LAR if cpu.efer & EFER.LMA else _LEGACY_LAR)
    return None if raw is None else (raw >> 32) & 0x00F0_FF00


def lsl(cpu: VCpu, mem: LinearMemory, selector: int) -> int | None:
    """Return the segment's limit in bytes, None for ZF=0. Raises #UD in real mode, #PF."""
    raw = _visible(cpu, mem, selector, _LONG_LSL if cpu.efer & EFER.LMA else _LEGACY_LSL)
    return None if raw is None else limit_of(raw)


def verr(cpu: VCpu, mem: LinearMemory, selector: int) -> bool:
    """Return ZF: the segment can be read from here. Raises #UD in real mode, #PF."""
    raw = _visible(cpu, mem, selector, frozenset())
    if raw is None:
        return False
    attributes = attributes_of(raw)
    return not attributes & SegmentAttributes.CODE or bool(attributes & SegmentAttributes.readable)


def verw(cpu: VCpu, mem: LinearMemory, selector: int) -> bool:
    """Return ZF: the segment can be written from here. Raises #UD in real mode, #PF."""
    raw = _visible(cpu, mem, selector, frozenset())
    if raw is None:
        return False
    attributes = attributes_of(raw)
    return not attributes & SegmentAttributes.CODE and bool(attributes & SegmentAttributes.WRITABLE)


def _visible(cpu: VCpu, mem: LinearMemory, selector: int, system_types: frozenset[int]) -> int | None:
    """Return the raw descriptor if it exists, is of a kind asked for, and CPL and RPL may see it."""
    require_protected(cpu)
    if not selector & 0xFFFC:
        return None
    address = locate(cpu, selector)
    if address < 0:
        return None
    raw = mem.read_u64(address, False)
    attributes = attributes_of(raw)
    if not attributes & SegmentAttributes.S:
        if attributes & SegmentAttributes.type_mask not in system_types:
            return None
    elif attributes & SegmentAttributes.CODE and attributes & SegmentAttributes.conforming:
        return raw
    dpl = (attributes >> 5) & 3
    return None if cpu.cpl > dpl or selector & 3 > dpl else raw
