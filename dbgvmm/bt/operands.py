"""Operands of a guest instruction that the monitor carries out itself: addresses, reads, writes.

Intel SDM vol. 1, 3.7 "Operand addressing".
"""

from __future__ import annotations

from typing import Final

from iced_x86 import Instruction, MemorySizeExt, OpKind, Register, Register_, RegisterExt

from dbgvmm.cpu.bits import SReg
from dbgvmm.cpu.faults import general_protection, stack_fault
from dbgvmm.cpu.state import VCpu
from dbgvmm.hardware.layout import MASK64, is_canonical
from dbgvmm.mmu.linear import GuestMemory

_SEGMENTS: Final = {
    Register.ES: 0, Register.CS: 1, Register.SS: 2, Register.DS: 3, Register.FS: 4, Register.GS: 5,
}  # fmt: skip
_IMMEDIATE64: Final = frozenset(
    (OpKind.IMMEDIATE64, OpKind.IMMEDIATE8TO64, OpKind.IMMEDIATE32TO64)
)


class Operands:
    """Reads and writes operands for one CPU."""

    def __init__(self, cpu: VCpu, memory: GuestMemory) -> None:
        self.cpu = cpu
        self.memory = memory

    # -- registers

    def word(self, i: Instruction) -> int:
        """The first operand, 16 bits in memory or the low ones of a register."""
        if i.op0_kind == OpKind.MEMORY:
            return self.read_memory(self.linear(i), 2)
        return self.read(i, 0) & 0xFFFF

    def stack(self, rsp: int) -> int:
        """The linear address of a stack pointer."""
        if self.cpu.in_64bit_code:
            return rsp
        return self.cpu.segs[SReg.SS].base + rsp & 0xFFFF_FFFF

    def register(self, register: Register_) -> int:
        """A general or segment register's value, zero-extended."""
        if register in _SEGMENTS:
            return self.cpu.segs[_SEGMENTS[register]].selector
        number = RegisterExt.number(register)
        size = RegisterExt.size(register)
        if size == 1 and register in (Register.AH, Register.CH, Register.DH, Register.BH):
            return self.cpu.gpr[number - 4] >> 8 & 0xFF
        return self.cpu.gpr[number] & ((1 << 8 * size) - 1)

    def set_register(self, register: Register_, value: int) -> None:
        """Write a general register as an instruction would: 32-bit writes clear the upper half."""
        number = RegisterExt.number(register)
        size = RegisterExt.size(register)
        gpr = self.cpu.gpr
        if size == 8:
            gpr[number] = value & MASK64
        elif size == 4:
            gpr[number] = value & 0xFFFF_FFFF
        elif size == 2:
            gpr[number] = gpr[number] & ~0xFFFF & MASK64 | value & 0xFFFF
        elif register in (Register.AH, Register.CH, Register.DH, Register.BH):
            gpr[number - 4] = gpr[number - 4] & ~0xFF00 & MASK64 | (value & 0xFF) << 8
        else:
            gpr[number] = gpr[number] & ~0xFF & MASK64 | value & 0xFF

    @staticmethod
    def segment_index(register: Register_) -> int:
        """ES CS SS DS FS GS as 0 to 5."""
        return _SEGMENTS[register]

    # -- memory

    def offset(self, instruction: Instruction) -> int:
        """The effective address without the segment's base."""
        base = instruction.memory_base
        address = instruction.memory_displacement
        width = 8
        if base in (Register.RIP, Register.EIP):
            width = 4 if base == Register.EIP else 8
        elif base != Register.NONE:
            address += self.register(base)
            width = RegisterExt.size(base)
        index = instruction.memory_index
        if index != Register.NONE:
            address += self.register(index) * instruction.memory_index_scale
            width = RegisterExt.size(index)
        if base == Register.NONE and index == Register.NONE and not self.cpu.in_64bit_code:
            width = 4 if instruction.memory_displ_size != 2 else 2
        return address & ((1 << 8 * width) - 1)

    def linear(self, instruction: Instruction) -> int:
        """The linear address of the memory operand. Raises #GP(0) or #SS(0) if it is not canonical."""
        address = self.offset(instruction)
        segment = _SEGMENTS[instruction.memory_segment]
        if not self.cpu.in_64bit_code:
            return address + self.cpu.segs[segment].base & 0xFFFF_FFFF
        if segment >= 4:
            address = address + self.cpu.segs[segment].base & MASK64
        if not is_canonical(address):
            raise stack_fault(0) if segment == 2 else general_protection(0, "non-canonical address")
        return address

    def read_memory(self, address: int, size: int) -> int:
        """`size` bytes (1, 2, 4, 8) at a linear address with the guest's own privilege."""
        return int.from_bytes(self.memory.read(address, size, self.cpu.cpl == 3), "little")

    def write_memory(self, address: int, value: int, size: int) -> None:
        """Store `size` bytes at a linear address with the guest's own privilege."""
        value &= (1 << 8 * size) - 1
        self.memory.write(address, value.to_bytes(size, "little"), self.cpu.cpl == 3)

    # -- any operand

    def size(self, instruction: Instruction, operand: int) -> int:
        """Bytes of a register or memory operand."""
        if instruction.op_kind(operand) == OpKind.MEMORY:
            return MemorySizeExt.size(instruction.memory_size)
        return RegisterExt.size(instruction.op_register(operand))

    def read(self, instruction: Instruction, operand: int) -> int:
        """The value of an operand, zero-extended (immediates sign-extended to the operand as encoded)."""
        kind = instruction.op_kind(operand)
        if kind == OpKind.REGISTER:
            return self.register(instruction.op_register(operand))
        if kind == OpKind.MEMORY:
            size = MemorySizeExt.size(instruction.memory_size)
            return self.read_memory(self.linear(instruction), size)
        return instruction.immediate(operand) & MASK64

    def write(self, instruction: Instruction, operand: int, value: int) -> None:
        """Assign to a register or memory operand."""
        if instruction.op_kind(operand) == OpKind.REGISTER:
            self.set_register(instruction.op_register(operand), value)
        else:
            size = MemorySizeExt.size(instruction.memory_size)
            self.write_memory(self.linear(instruction), value, size)
