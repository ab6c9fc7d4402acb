"""Simple stores to traced pages, carried out by the monitor: the page-table writes that kernels do all the time.

Anything else is stepped with the page open, which is slower and always right.
"""

from __future__ import annotations

from typing import Final

from iced_x86 import Code, Decoder, Instruction, RegisterExt

from dbgvmm.bt.units import Mark, TranslationUnit
from dbgvmm.cpu.state import VCpu
from dbgvmm.hardware.layout import PAGE_SIZE
from dbgvmm.mmu.mmu import ShadowMmu

_FROM_REGISTER: Final = {Code.MOV_RM64_R64: 8, Code.MOV_RM32_R32: 4, Code.MOV_RM16_R16: 2}
_IMMEDIATE: Final = {Code.MOV_RM64_IMM32: 8, Code.MOV_RM32_IMM32: 4, Code.MOV_RM16_IMM16: 2}
_EXCHANGE: Final = {Code.XCHG_RM64_R64: 8}
PLAIN_STORES: Final = frozenset((*_FROM_REGISTER, *_IMMEDIATE))
"""Opcodes of plain stores: `mov [memory], register or immediate`."""


def _decode(unit: TranslationUnit, mark: Mark) -> Instruction:
    raw = unit.guest_bytes[mark.guest_offset : mark.guest_offset + 15]
    return Decoder(64, raw, ip=unit.guest_rip + mark.guest_offset).decode()


def emulate_store(unit: TranslationUnit, mark: Mark, gpa: int, cpu: VCpu, mmu: ShadowMmu) -> bool:
    """Carry out the store at `mark` to guest-physical `gpa`, if it is a plain one. False: nothing was done."""
    instruction = _decode(unit, mark)
    code = instruction.code
    size = _FROM_REGISTER.get(code)
    if size is not None:
        value = cpu.gpr[RegisterExt.number(instruction.op1_register)] & ((1 << 8 * size) - 1)
    elif code in _IMMEDIATE:
        size = _IMMEDIATE[code]
        value = instruction.immediate(1) & ((1 << 8 * size) - 1)
    elif code in _EXCHANGE and gpa % 8 == 0 and gpa < mmu.ram.size:
        register = RegisterExt.number(instruction.op1_register)
        old = mmu.ram.u64[gpa >> 3]
        mmu.guest_write_int(gpa, cpu.gpr[register], 8)
        cpu.gpr[register] = old
        return True
    else:
        return False
    if (gpa & PAGE_SIZE - 1) + size > PAGE_SIZE:
        return False
    mmu.guest_write_int(gpa, value, size)
    return True
