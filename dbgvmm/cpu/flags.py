"""Instructions on IF, IOPL and the other flags that privilege guards: CLI, STI, POPF, PUSHF, HLT.

The translator emulates the common cases in place; these are the complete rules, for callouts.
Source: Intel SDM vol. 2A CLI, HLT, vol. 2B POPF, PUSHF, STI (operation); vol. 3A 6.8.1.
"""

from __future__ import annotations

from .bits import CR0, MASK16, RFLAGS
from .faults import general_protection
from .privilege import require_cpl0
from .state import VCpu

_USER = (
    RFLAGS.CF | RFLAGS.PF | RFLAGS.AF | RFLAGS.ZF | RFLAGS.SF | RFLAGS.TF | RFLAGS.DF | RFLAGS.OF | RFLAGS.NT
)


def cli(cpu: VCpu) -> None:
    """CLI. Raises #GP(0) if CPL is above IOPL."""
    _require_iopl(cpu)
    cpu.rflags &= ~RFLAGS.IF


def sti(cpu: VCpu) -> None:
    """STI: interrupts come after the next instruction if IF was clear. Raises #GP(0) if CPL is above IOPL."""
    _require_iopl(cpu)
    if not cpu.rflags & RFLAGS.IF:
        cpu.rflags |= RFLAGS.IF
        cpu.interrupt_shadow = True


def popf(cpu: VCpu, value: int, operand_size: int) -> None:
    """POPF with the `value` popped: flags that CPL and IOPL do not let it change stay, RF is cleared. No faults."""
    changed = _USER
    if operand_size != 2:
        changed |= RFLAGS.AC | RFLAGS.ID
    if cpu.cpl <= cpu.rflags >> 12 & 3:
        changed |= RFLAGS.IF
    if cpu.cpl == 0:
        changed |= RFLAGS.IOPL
    cpu.rflags = cpu.rflags & ~(changed | RFLAGS.RF) | value & changed


def pushf(cpu: VCpu, operand_size: int) -> int:
    """Return what PUSHF pushes: RF and VM read as zero."""
    if operand_size == 2:
        return cpu.rflags & MASK16
    return cpu.rflags & ~(RFLAGS.RF | RFLAGS.VM)


def hlt(cpu: VCpu) -> None:
    """HLT: sets cpu.halted; the caller advances RIP past it. Raises #GP(0) above CPL 0."""
    require_cpl0(cpu)
    cpu.halted = True


def _require_iopl(cpu: VCpu) -> None:
    if cpu.cr0 & CR0.PE and cpu.cpl > cpu.rflags >> 12 & 3:
        raise general_protection(0, "CPL is above IOPL")
