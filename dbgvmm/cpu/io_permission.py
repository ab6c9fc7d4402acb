"""May this code use this port? IOPL and the I/O permission bitmap of the TSS.

Source: Intel SDM vol. 1 18.5.1 and 18.5.2; vol. 2A IN, INS, OUT, OUTS (operation).
"""

from __future__ import annotations

from .bits import CR0, MASK64
from .faults import general_protection
from .memory import LinearMemory
from .state import VCpu

_MAP_BASE_IN_TSS = 0x66
_SHORTEST_TSS = 0x67


def check_port(cpu: VCpu, mem: LinearMemory, port: int, size: int) -> None:
    """Return if an access of `size` bytes (1, 2, 4) at `port` is allowed here. Raises #GP(0), #PF."""
    if not cpu.cr0 & CR0.PE or cpu.cpl <= cpu.rflags >> 12 & 3:
        return
    tr = cpu.tr
    # Only a 32/64-bit TSS has a bitmap: types 9 and 11.
    if not tr.attributes & 8 or tr.limit < _SHORTEST_TSS:
        raise general_protection(0, "port access above IOPL with no I/O permission bitmap")
    offset = mem.read_u16((tr.base + _MAP_BASE_IN_TSS) & MASK64, False) + (port >> 3)
    # The processor always reads two bytes, so an access may straddle them.
    if offset + 1 > tr.limit:
        raise general_protection(0, "port beyond the I/O permission bitmap")
    bits = mem.read_u16((tr.base + offset) & MASK64, False)
    if bits >> (port & 7) & ((1 << size) - 1):
        raise general_protection(0, "port access denied by the I/O permission bitmap")
