"""MOV to and from the debug registers. Source: Intel SDM vol. 2B MOV (debug registers), vol. 3B 17.2."""

from __future__ import annotations

from .bits import CR4, DR6, DR7, MASK32, MASK64, Vector
from .faults import GuestFault, general_protection, invalid_opcode
from .privilege import require_cpl0
from .state import VCpu


def mov_from_dr(cpu: VCpu, number: int) -> int:
    """MOV r, DRn: return its value. Raises #UD (DR4/5 with CR4.DE, DR8 and up), #GP(0) above CPL 0, #DB (DR7.GD)."""
    value = cpu.dr[_check(cpu, number)]
    return value if cpu.in_64bit_code else value & MASK32


def mov_to_dr(cpu: VCpu, number: int, value: int) -> None:
    """MOV DRn, r. Raises as mov_from_dr, and #GP(0) for bits 63:32 of DR6 or DR7."""
    write_dr(cpu, _check(cpu, number), value & (MASK64 if cpu.in_64bit_code else MASK32))


def write_dr(cpu: VCpu, number: int, value: int) -> None:
    """Set DR0 to DR3, DR6 or DR7 with the checks of its value only. Raises #GP(0) for bits 63:32 of DR6 or DR7."""
    if number >= 6:
        if value >> 32:
            raise general_protection(0, "bits 63:32 of DR6 and DR7 are reserved")
        register = DR6 if number == 6 else DR7
        value = value & register.writable | register.fixed_ones
    cpu.dr[number] = value
    cpu.on_debug_registers_changed(cpu)


def _check(cpu: VCpu, number: int) -> int:
    """Return the register meant, DR4 and DR5 being aliases of DR6 and DR7."""
    if number in (4, 5):
        if cpu.cr4 & CR4.DE:
            raise invalid_opcode("DR4 and DR5 do not exist with CR4.DE set")
        number += 2
    if not 0 <= number <= 7:
        raise invalid_opcode("no such debug register")
    require_cpl0(cpu)
    if cpu.dr[7] & DR7.GD:
        # General detect: reported before the access. BD is the one register change that goes with the fault.
        cpu.dr[6] |= DR6.BD
        raise GuestFault(Vector.DB, reason="debug register access with DR7.GD set")
    return number
