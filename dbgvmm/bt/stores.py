"""Simple stores to traced pages, carried out by the monitor: the page-table writes that kernels do all the time.

Anything else is stepped with the page open, which is slower and always right.
"""

from __future__ import annotations

from typing import Final

from iced_x86 import Code, Decoder, Instruction, Register, Register_, RegisterExt

from dbgvmm.bt.operands import Operands
from dbgvmm.bt.units import STORE, Mark, Site, TranslationUnit
from dbgvmm.cpu.state import VCpu
from dbgvmm.hardware.layout import MASK64, PAGE_SIZE, is_canonical
from dbgvmm.mmu.mmu import ShadowMmu

_FROM_REGISTER: Final = {Code.MOV_RM64_R64: 8, Code.MOV_RM32_R32: 4, Code.MOV_RM16_R16: 2}
_IMMEDIATE: Final = {Code.MOV_RM64_IMM32: 8, Code.MOV_RM32_IMM32: 4, Code.MOV_RM16_IMM16: 2}
_EXCHANGE: Final = {Code.XCHG_RM64_R64: 8}
_NONE: Final = -1
_NARROW: Final = -2
PLAIN_STORES: Final = frozenset((*_FROM_REGISTER, *_IMMEDIATE))
"""Opcodes of plain stores: `mov [memory], register or immediate`."""


class StoreSite(Site):
    """The exit of a plain store in 64-bit code, its operands taken apart: it is carried out again and again."""

    __slots__ = ("_base", "_displacement", "_immediate", "_index", "_scale", "_segment", "_source", "size")

    def __init__(self, unit: TranslationUnit, rip: int, instruction: Instruction, retired: int) -> None:
        super().__init__(STORE, unit, rip, instruction.next_ip, instruction, retired)
        code = instruction.code
        self.size = _FROM_REGISTER.get(code) or _IMMEDIATE[code]
        mask = (1 << 8 * self.size) - 1
        self._source = RegisterExt.number(instruction.op1_register) if code in _FROM_REGISTER else -1
        self._immediate = 0 if code in _FROM_REGISTER else instruction.immediate(1) & mask
        self._base = _wide(instruction.memory_base)
        self._index = _wide(instruction.memory_index)
        self._scale = instruction.memory_index_scale
        self._displacement = instruction.memory_displacement
        self._segment = Operands.segment_index(instruction.memory_segment)

    def address(self, operands: Operands) -> int:
        """The linear address, as `Operands.linear` finds it. Raises #GP(0) or #SS(0) if it is not canonical."""
        base, index, segment = self._base, self._index, self._segment
        address = self._displacement
        gpr = operands.cpu.gpr
        if base >= 0:
            address += gpr[base]
        if index >= 0:
            address += gpr[index] * self._scale
        if segment >= 4:
            address += operands.cpu.segs[segment].base
        address &= MASK64
        if base == _NARROW or index == _NARROW or not is_canonical(address):
            assert self.instruction is not None
            return operands.linear(self.instruction)
        return address

    def value(self, operands: Operands) -> int:
        """What is stored."""
        if self._source < 0:
            return self._immediate
        return operands.cpu.gpr[self._source] & (1 << 8 * self.size) - 1


def _wide(register: Register_) -> int:
    """The number of a 64-bit register of an address, _NONE, or _NARROW for one of 32 bits."""
    if register in (Register.NONE, Register.RIP):
        return _NONE
    return RegisterExt.number(register) if RegisterExt.size(register) == 8 and register != Register.EIP else _NARROW


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
