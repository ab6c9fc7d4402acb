"""External interrupts and NMI: when the CPU takes one, and its delivery.

Source: Intel SDM vol. 3A 6.3.1, 6.7.1 (NMI blocking), 6.8.1 and 6.8.3 (masking).
"""

from __future__ import annotations

from .bits import RFLAGS, Vector
from .exceptions import deliver
from .memory import LinearMemory
from .state import VCpu


def can_take_interrupt(cpu: VCpu) -> bool:
    """True if a maskable interrupt can be delivered before the next instruction: IF set, no STI or MOV SS shadow."""
    return bool(cpu.rflags & RFLAGS.IF) and not cpu.interrupt_shadow


def can_take_nmi(cpu: VCpu) -> bool:
    """True if an NMI can be delivered: none in progress, no shadow."""
    return not cpu.nmi_blocked and not cpu.interrupt_shadow


def deliver_external(cpu: VCpu, mem: LinearMemory, vector: int) -> int:
    """Deliver a maskable interrupt, waking a halted CPU: cpu.rip is the next instruction's (after HLT, the one behind).

    The caller has asked can_take_interrupt(). Returns and raises as exceptions.deliver().
    """
    return deliver(cpu, mem, vector, ext=True)


def deliver_nmi(cpu: VCpu, mem: LinearMemory) -> int:
    """Deliver an NMI and block further ones until IRET. Returns and raises as exceptions.deliver()."""
    cpu.nmi_blocked = True
    return deliver(cpu, mem, Vector.NMI, ext=True)
