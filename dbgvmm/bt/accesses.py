"""What memory an instruction is about to access: for the guest's debug registers and for our watchpoints."""

from __future__ import annotations

from typing import Final, NamedTuple

from iced_x86 import (
    Instruction,
    InstructionInfoFactory,
    MemorySizeExt,
    Mnemonic,
    OpAccess,
    OpKind,
    Register,
    RegisterExt,
    UsedMemory,
)

from dbgvmm.bt.operands import Operands
from dbgvmm.cpu.bits import GPR, RFLAGS
from dbgvmm.cpu.faults import GuestFault
from dbgvmm.cpu.state import VCpu
from dbgvmm.hardware.layout import MASK64

_WRITES: Final = frozenset((OpAccess.WRITE, OpAccess.COND_WRITE, OpAccess.READ_WRITE, OpAccess.READ_COND_WRITE))
_READS: Final = frozenset((OpAccess.READ, OpAccess.COND_READ, OpAccess.READ_WRITE, OpAccess.READ_COND_WRITE))
_NO_ACCESS: Final = frozenset((OpAccess.NONE, OpAccess.NO_MEM_ACCESS))
BIT_TESTS: Final = frozenset((Mnemonic.BT, Mnemonic.BTS, Mnemonic.BTR, Mnemonic.BTC))


class Access(NamedTuple):
    """`size` bytes at a linear address."""

    address: int
    size: int
    reads: bool
    writes: bool


class MemoryAccesses:
    """Computes accesses from the CPU's registers."""

    def __init__(self, cpu: VCpu, operands: Operands) -> None:
        self._cpu = cpu
        self._operands = operands
        self._info = InstructionInfoFactory()

    def of(self, instruction: Instruction, *, all_rounds: bool = False) -> list[Access]:
        """What the instruction at RIP accesses; of a repeated one the next round, or all that are left."""
        found = []
        repeated = instruction.is_string_instruction and (instruction.has_rep_prefix or instruction.has_repne_prefix)
        rounds = 1
        if repeated:
            rounds = self._cpu.gpr[GPR.RCX] & (MASK64 if self._cpu.in_64bit_code else 0xFFFF_FFFF)
            if not rounds:
                return []
        for use in self._info.info(instruction).used_memory():
            if use.access in _NO_ACCESS:
                continue
            address = self._address(use)
            size = MemorySizeExt.size(use.memory_size) or 1
            if instruction.mnemonic in BIT_TESTS and instruction.op1_kind == OpKind.REGISTER:
                address = address + self._bit_offset(instruction, size) & MASK64
            if all_rounds and rounds > 1:
                if self._cpu.rflags & RFLAGS.DF:
                    address = address - (rounds - 1) * size & MASK64
                size *= rounds
            found.append(Access(address, size, use.access in _READS, use.access in _WRITES))
        return found

    def _bit_offset(self, instruction: Instruction, size: int) -> int:
        """Bytes by which a bit number in a register moves the operand (SDM vol. 2A, "Bit(BitBase, BitOffset)")."""
        register = instruction.op1_register
        bits = 8 * RegisterExt.size(register)
        number = self._operands.register(register)
        if number >> bits - 1:
            number -= 1 << bits
        return (number // (8 * size)) * size

    def _address(self, use: UsedMemory) -> int:
        base, index = use.base, use.index
        address = use.displacement
        try:
            if base != Register.NONE:
                address += self._operands.register(base)
            if index != Register.NONE:
                address += self._operands.register(index) * use.scale
        except GuestFault:
            return 0
        segment = use.segment
        in_64bit_code = self._cpu.in_64bit_code
        if segment in (Register.FS, Register.GS) or not in_64bit_code and segment != Register.NONE:
            address += self._cpu.segs[self._operands.segment_index(segment)].base
        return int(address) & (MASK64 if in_64bit_code else 0xFFFF_FFFF)
