"""First CPU states of boot protocols: real mode, flat 32-bit protected mode, flat 64-bit mode.

Boot code sets the registers that its protocol names on top of these. Each calls the hooks once the state is complete.
Source: Linux Documentation/arch/x86/boot.rst (32-bit and 64-bit protocols), Multiboot specification 3.2.
"""

from __future__ import annotations

from .bits import CR0, CR4, EFER, MASK32, RFLAGS, SegmentAttributes, SReg
from .descriptors import FLAT_CODE32, FLAT_CODE64, FLAT_DATA
from .state import VCpu


def enter_real_mode(cpu: VCpu, cs: int, ip: int) -> None:
    """Real mode at CS:IP, other segments 0, interrupt table at 0 (limit 3FFH), caches on."""
    cpu.reset()
    cpu.cr0 = CR0.ET
    cpu.segs[SReg.CS].selector = cs
    cpu.segs[SReg.CS].base = cs << 4
    cpu.idtr.base, cpu.idtr.limit = 0, 0x3FF
    cpu.rip = ip
    _announce(cpu)


def enter_flat_protected(cpu: VCpu, eip: int, *, code_selector: int = 0x10, data_selector: int = 0x18) -> None:
    """32-bit protected mode, paging off, all segments flat, interrupts off; GDTR and IDTR empty (limit 0)."""
    cpu.reset()
    cpu.cr0 = CR0.PE | CR0.ET
    _flat(cpu, code_selector, data_selector, FLAT_CODE32)
    cpu.rip = eip & MASK32
    _announce(cpu)


def enter_flat_long(
    cpu: VCpu, rip: int, cr3: int, *, code_selector: int = 0x10, data_selector: int = 0x18
) -> None:
    """64-bit mode with paging through the tables at `cr3`, interrupts off; GDTR and IDTR empty (limit 0)."""
    cpu.reset()
    cpu.cr0 = CR0.PE | CR0.ET | CR0.PG
    cpu.cr3 = cr3
    cpu.cr4 = CR4.PAE
    cpu.efer = EFER.LME | EFER.LMA
    _flat(cpu, code_selector, data_selector, FLAT_CODE64)
    cpu.rip = rip
    _announce(cpu)


def _flat(cpu: VCpu, code_selector: int, data_selector: int, code_attributes: int) -> None:
    for index, segment in enumerate(cpu.segs):
        if index == SReg.CS:
            segment.set(code_selector, 0, MASK32, code_attributes)
        else:
            segment.set(data_selector, 0, MASK32, FLAT_DATA)
    cpu.ldtr.set(0, 0, 0, 0)
    cpu.tr.set(0, 0, 0x67, SegmentAttributes.P | 11)
    cpu.gdtr.base, cpu.gdtr.limit = 0, 0
    cpu.idtr.base, cpu.idtr.limit = 0, 0
    cpu.rflags = RFLAGS.FIXED


def _announce(cpu: VCpu) -> None:
    cpu.on_paging_mode_changed(cpu)
    cpu.on_cr3(cpu, 0, cpu.cr3)
    cpu.on_segments_changed(cpu)
    cpu.on_debug_registers_changed(cpu)
