"""RDFSBASE, RDGSBASE, WRFSBASE, WRGSBASE. Source: Intel SDM vol. 2B (operation)."""

from __future__ import annotations

from .bits import CR4, MASK32, is_canonical
from .faults import general_protection, invalid_opcode
from .state import VCpu


def read_segment_base(cpu: VCpu, index: int, operand_size: int) -> int:
    """Return the base of FS or GS (SReg), cut to 4 or 8 bytes. Raises #UD if not in 64-bit mode or not enabled."""
    _require_enabled(cpu)
    base = cpu.segs[index].base
    return base & MASK32 if operand_size == 4 else base


def write_segment_base(cpu: VCpu, index: int, value: int, operand_size: int) -> None:
    """Set the base of FS or GS. Raises #UD as above, #GP(0) for a value that is not canonical."""
    _require_enabled(cpu)
    if operand_size == 4:
        value &= MASK32
    if not is_canonical(value):
        raise general_protection(0, "segment base is not canonical")
    cpu.segs[index].base = value
    cpu.on_segments_changed(cpu)


def _require_enabled(cpu: VCpu) -> None:
    if not cpu.cr4 & CR4.FSGSBASE or not cpu.in_64bit_code:
        raise invalid_opcode("FSGSBASE instruction outside 64-bit mode or with CR4.FSGSBASE clear")
