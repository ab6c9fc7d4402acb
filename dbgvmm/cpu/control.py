"""Control registers: MOV to and from CR0, CR2, CR3, CR4, CR8; LMSW, SMSW, CLTS; XGETBV and XSETBV.

Entering and leaving long mode happens here. Source: Intel SDM vol. 2B MOV (control registers), vol. 3A 2.5, 4.1.1,
4.1.2 (paging modes and their #GPs), 9.8.5 (initialising IA-32e mode).
"""

from __future__ import annotations

from .bits import CR0, CR3, CR4, EFER, MASK32, MASK64, SegmentAttributes, SReg
from .faults import GuestFault, general_protection, invalid_opcode
from .privilege import require_cpl0
from .state import VCpu

_CR0_DEFINED = (
    CR0.PE | CR0.MP | CR0.EM | CR0.TS | CR0.ET | CR0.NE | CR0.WP | CR0.AM | CR0.NW | CR0.CD | CR0.PG
)
_CR0_PAGING = CR0.PG | CR0.WP
_CR4_PAGING = CR4.PSE | CR4.PAE | CR4.PGE | CR4.PCIDE | CR4.SMEP | CR4.SMAP
_LMSW = CR0.PE | CR0.MP | CR0.EM | CR0.TS


def mov_from_cr(cpu: VCpu, number: int) -> int:
    """MOV r, CRn: return its value. Raises #UD for a register that does not exist, #GP(0) above CPL 0."""
    if number == 0:
        value = cpu.cr0
    elif number == 2:
        value = cpu.cr2
    elif number == 3:
        value = cpu.cr3
    elif number == 4:
        value = cpu.cr4
    elif number == 8:
        value = cpu.cr8
    else:
        raise invalid_opcode("no such control register")
    require_cpl0(cpu)
    return value if cpu.efer & EFER.LMA else value & MASK32


def mov_to_cr(cpu: VCpu, number: int, value: int) -> None:
    """MOV CRn, r. Raises #UD for a register that does not exist, #GP(0) for CPL, reserved or inconsistent bits."""
    write = _WRITERS.get(number)
    if write is None:
        raise invalid_opcode("no such control register")
    require_cpl0(cpu)
    write(cpu, value & (MASK64 if cpu.in_64bit_code else MASK32))


def write_cr0(cpu: VCpu, value: int) -> None:
    """Set CR0 with all its checks but CPL's. Raises #GP(0)."""
    if value >> 32:
        raise general_protection(0, "CR0 bits 63:32 are reserved")
    value = value & _CR0_DEFINED | CR0.ET
    if value & CR0.PG and not value & CR0.PE:
        raise general_protection(0, "CR0.PG needs CR0.PE")
    if value & CR0.NW and not value & CR0.CD:
        raise general_protection(0, "CR0.NW needs CR0.CD")
    old = cpu.cr0
    old_efer = efer = cpu.efer
    code_is_64bit = cpu.segs[SReg.CS].attributes & SegmentAttributes.L
    if value & CR0.PG and not old & CR0.PG:
        if efer & EFER.LME:
            if not cpu.cr4 & CR4.PAE:
                raise general_protection(0, "long mode paging needs CR4.PAE")
            if code_is_64bit:
                raise general_protection(0, "long mode entered with CS.L set")
            efer |= EFER.LMA
    elif old & CR0.PG and not value & CR0.PG:
        if efer & EFER.LMA and code_is_64bit:
            raise general_protection(0, "paging turned off in 64-bit mode")
        if cpu.cr4 & CR4.PCIDE:
            raise general_protection(0, "paging turned off with CR4.PCIDE set")
        efer &= ~EFER.LMA
    cpu.cr0, cpu.efer = value, efer
    changed = old ^ value
    if changed & _CR0_PAGING:
        try:
            cpu.on_paging_mode_changed(cpu)
        except GuestFault:
            cpu.cr0, cpu.efer = old, old_efer
            raise
    if changed & CR0.PE or efer != old_efer:
        if not value & CR0.PE:
            cpu.cpl = 0
        cpu.on_segments_changed(cpu)


def write_cr2(cpu: VCpu, value: int) -> None:
    """Set CR2: any value."""
    cpu.cr2 = value


def write_cr3(cpu: VCpu, value: int) -> None:
    """Set CR3 and call on_cr3, also if the value stays: the TLB is flushed.

    With CR4.PCIDE, bit 63 asks to keep the TLB: it is not stored, and no one need honour it (SDM vol. 3A 4.10.4.1).
    on_cr3 may raise GuestFault #GP(0) (PAE PDPTEs with reserved bits): CR3 is then as before. Raises #GP(0).
    """
    if cpu.cr4 & CR4.PCIDE:
        value &= ~CR3.NOFLUSH
    if value >> cpu.limits.physical_bits:
        raise general_protection(0, "CR3 bits above the physical address width are reserved")
    old = cpu.cr3
    cpu.cr3 = value
    try:
        cpu.on_cr3(cpu, old, value)
    except GuestFault:
        cpu.cr3 = old
        raise


def write_cr4(cpu: VCpu, value: int) -> None:
    """Set CR4 with all its checks but CPL's. Raises #GP(0)."""
    if value & ~cpu.limits.cr4_allowed:
        raise general_protection(0, "CR4 bit that this CPU does not have")
    old = cpu.cr4
    changed = old ^ value
    if cpu.efer & EFER.LMA:
        if not value & CR4.PAE:
            raise general_protection(0, "CR4.PAE cleared in long mode")
        if changed & value & CR4.PCIDE and cpu.cr3 & 0xFFF:
            raise general_protection(0, "CR4.PCIDE set with bits 11:0 of CR3 in use")
    elif value & CR4.PCIDE:
        raise general_protection(0, "CR4.PCIDE set outside long mode")
    cpu.cr4 = value
    if changed & _CR4_PAGING:
        try:
            cpu.on_paging_mode_changed(cpu)
        except GuestFault:
            cpu.cr4 = old
            raise


def write_cr8(cpu: VCpu, value: int) -> None:
    """Set the task priority (0..15). Raises #GP(0) for anything larger."""
    if value >> 4:
        raise general_protection(0, "CR8 bits 63:4 are reserved")
    cpu.cr8 = value


_WRITERS = {0: write_cr0, 2: write_cr2, 3: write_cr3, 4: write_cr4, 8: write_cr8}


def lmsw(cpu: VCpu, value: int) -> None:
    """LMSW: set PE, MP, EM, TS from the low bits of `value`; PE cannot be cleared. Raises #GP(0) above CPL 0."""
    require_cpl0(cpu)
    write_cr0(cpu, cpu.cr0 & ~(_LMSW & ~CR0.PE) | value & _LMSW)


def smsw(cpu: VCpu) -> int:
    """SMSW: return CR0 (the caller cuts it to the operand's size). Allowed at any CPL."""
    return cpu.cr0


def clts(cpu: VCpu) -> None:
    """CLTS: clear CR0.TS. Raises #GP(0) above CPL 0."""
    require_cpl0(cpu)
    cpu.cr0 &= ~CR0.TS


def xgetbv(cpu: VCpu) -> None:
    """XGETBV raises #UD: this CPU has no XSAVE, so CR4.OSXSAVE is never set."""
    raise invalid_opcode("XGETBV without CR4.OSXSAVE")


def xsetbv(cpu: VCpu) -> None:
    """XSETBV raises #UD: this CPU has no XSAVE, so CR4.OSXSAVE is never set."""
    raise invalid_opcode("XSETBV without CR4.OSXSAVE")
