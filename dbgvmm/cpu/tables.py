"""The registers that point at tables: GDTR, IDTR, LDTR and TR.

Source: Intel SDM vol. 2A LGDT/LIDT, LLDT, vol. 2B SGDT, SIDT, SLDT, STR, LTR; vol. 3A 7.2.3 (64-bit descriptors).
"""

from __future__ import annotations

from .bits import EFER, MASK64, SegmentAttributes, SystemType, is_canonical
from .descriptors import attributes_of, base_of, limit_of, load_from, locate
from .faults import general_protection, not_present
from .memory import LinearMemory
from .privilege import require_cpl0, require_protected
from .state import Segment, TableRegister, VCpu

_BUSY = 1 << 41


def lgdt(cpu: VCpu, mem: LinearMemory, address: int, operand_size: int) -> None:
    """LGDT: load GDTR from the 6 or 10 bytes at linear `address`. Raises #GP(0) (CPL, base not canonical), #PF."""
    _load_table(cpu, mem, cpu.gdtr, address, operand_size)


def lidt(cpu: VCpu, mem: LinearMemory, address: int, operand_size: int) -> None:
    """LIDT: load IDTR from the 6 or 10 bytes at linear `address`. Raises #GP(0) (CPL, base not canonical), #PF."""
    _load_table(cpu, mem, cpu.idtr, address, operand_size)


def sgdt(cpu: VCpu, mem: LinearMemory, address: int) -> None:
    """SGDT: store GDTR in 6 bytes (10 in 64-bit mode) at linear `address`. Allowed at any CPL. Raises #PF."""
    _store_table(cpu, mem, cpu.gdtr, address)


def sidt(cpu: VCpu, mem: LinearMemory, address: int) -> None:
    """SIDT: store IDTR in 6 bytes (10 in 64-bit mode) at linear `address`. Allowed at any CPL. Raises #PF."""
    _store_table(cpu, mem, cpu.idtr, address)


def lldt(cpu: VCpu, mem: LinearMemory, selector: int) -> None:
    """LLDT. Raises #UD in real mode, #GP(0), #GP(sel), #NP(sel), #PF."""
    require_protected(cpu)
    require_cpl0(cpu)
    selector &= 0xFFFF
    if not selector & 0xFFFC:
        cpu.ldtr.set(selector, 0, 0, 0)
        return
    _, raw, base = _system_descriptor(cpu, mem, selector)
    if raw >> 40 & 0x1F != SystemType.LDT:
        raise general_protection(selector & 0xFFFC, "LLDT of a descriptor that is not an LDT")
    if not attributes_of(raw) & SegmentAttributes.P:
        raise not_present(selector & 0xFFFC, "LLDT of an LDT that is not present")
    _fill(cpu.ldtr, selector, raw, base)


def ltr(cpu: VCpu, mem: LinearMemory, selector: int) -> None:
    """LTR: load TR and mark the TSS busy in the GDT. Raises #UD in real mode, #GP(0), #GP(sel), #NP(sel), #PF."""
    require_protected(cpu)
    require_cpl0(cpu)
    selector &= 0xFFFF
    if not selector & 0xFFFC:
        raise general_protection(0, "LTR of a null selector")
    address, raw, base = _system_descriptor(cpu, mem, selector)
    kind = raw >> 40 & 0x1F
    if kind != SystemType.TSS_AVAILABLE and (cpu.efer & EFER.LMA or kind != SystemType.TSS16_AVAILABLE):
        raise general_protection(selector & 0xFFFC, "LTR of a descriptor that is not an available TSS")
    if not attributes_of(raw) & SegmentAttributes.P:
        raise not_present(selector & 0xFFFC, "LTR of a TSS that is not present")
    raw |= _BUSY
    mem.write_u32(address + 4, raw >> 32, False)
    _fill(cpu.tr, selector, raw, base)


def sldt(cpu: VCpu) -> int:
    """SLDT: return LDTR's selector. Allowed at any CPL. Raises #UD in real mode."""
    require_protected(cpu)
    return cpu.ldtr.selector


def store_tr(cpu: VCpu) -> int:
    """STR: return TR's selector. Allowed at any CPL. Raises #UD in real mode."""
    require_protected(cpu)
    return cpu.tr.selector


def _load_table(cpu: VCpu, mem: LinearMemory, table: TableRegister, address: int, operand_size: int) -> None:
    require_cpl0(cpu)
    limit = mem.read_u16(address, False)
    if cpu.in_64bit_code:
        base = mem.read_u64((address + 2) & MASK64, False)
        if not is_canonical(base):
            raise general_protection(0, "descriptor table base is not canonical")
    else:
        base = mem.read_u32(address + 2, False)
        if operand_size == 2:
            base &= 0xFF_FFFF
    table.base, table.limit = base, limit


def _store_table(cpu: VCpu, mem: LinearMemory, table: TableRegister, address: int) -> None:
    user = cpu.cpl == 3
    mem.write_u16(address, table.limit, user)
    if cpu.in_64bit_code:
        mem.write_u64((address + 2) & MASK64, table.base, user)
    else:
        mem.write_u32(address + 2, table.base & 0xFFFF_FFFF, user)


def _system_descriptor(cpu: VCpu, mem: LinearMemory, selector: int) -> tuple[int, int, int]:
    """Return (address, raw, base) of an LDT or TSS descriptor in the GDT: 16 bytes in long mode, 8 elsewhere."""
    error_code = selector & 0xFFFC
    long_mode = cpu.efer & EFER.LMA
    address = -1 if selector & 4 else locate(cpu, selector, 16 if long_mode else 8)
    if address < 0:
        raise general_protection(error_code, "selector is in the LDT or beyond the GDT's limit")
    raw = mem.read_u64(address, False)
    base = base_of(raw)
    if long_mode:
        high = mem.read_u64((address + 8) & MASK64, False)
        if high >> 40 & 0x1F:
            raise general_protection(error_code, "upper half of a 16-byte descriptor has a type")
        base |= (high & 0xFFFF_FFFF) << 32
        if not is_canonical(base):
            raise general_protection(error_code, "descriptor's base is not canonical")
    return address, raw, base


def _fill(register: Segment, selector: int, raw: int, base: int) -> None:
    load_from(register, selector, raw)
    register.base = base
    register.limit = limit_of(raw)
