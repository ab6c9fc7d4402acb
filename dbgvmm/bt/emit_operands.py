"""Emitters for instructions that are copied with another operand, or with company."""

from __future__ import annotations

from iced_x86 import (
    Code,
    Decoder,
    Encoder,
    Instruction,
    InstructionInfoFactory,
    MemoryOperand,
    MemorySizeExt,
    Mnemonic,
    OpKind,
    Register,
    RegisterInfo,
)

from dbgvmm.bt import tcdata, units
from dbgvmm.bt.emission import LOAD_RAX, STORE_RAX, U32, U64, Emission, fits_signed32

_LEGACY_PREFIXES = frozenset((0x66, 0x67, 0xF0, 0xF2, 0xF3, 0x2E, 0x36, 0x3E, 0x26, 0x64, 0x65))
_SPILLABLE = {Register.RAX: 0, Register.RCX: 1, Register.RDX: 2, Register.RBX: 3, Register.RSI: 6, Register.RDI: 7}
_NAMES = {
    1: (Register.AL, Register.CL, Register.DL, Register.BL, Register.SIL, Register.DIL),
    2: (Register.AX, Register.CX, Register.DX, Register.BX, Register.SI, Register.DI),
    4: (Register.EAX, Register.ECX, Register.EDX, Register.EBX, Register.ESI, Register.EDI),
    8: tuple(_SPILLABLE),
}
_MOVES = {
    size: (load, store, dict(zip(_SPILLABLE.values(), _NAMES[size], strict=True)))
    for size, load, store in (
        (1, Code.MOV_R8_RM8, Code.MOV_RM8_R8), (2, Code.MOV_R16_RM16, Code.MOV_RM16_R16),
        (4, Code.MOV_R32_RM32, Code.MOV_RM32_R32), (8, Code.MOV_R64_RM64, Code.MOV_RM64_R64),
    )
}  # fmt: skip
"""By the operand's bytes: how to load and store it, and the spillable registers of that size."""
ROTATES_THROUGH_CARRY = frozenset((Mnemonic.RCL, Mnemonic.RCR))
_NEEDS_RAX = frozenset((Register.RAX, Register.EAX, Register.RIP, Register.EIP))


def rip_relative(out: Emission, instruction: Instruction, raw: bytes, guest: int, number: int) -> None:
    """An instruction with a RIP-relative operand, copied with the same address given absolutely."""
    address = instruction.ip_rel_memory_address
    displacement = _displacement_offset(instruction, raw)
    modrm = raw[displacement - 1]
    if fits_signed32(address):
        opcode = _without_rex_xb(raw[: displacement - 1])
        out.code += opcode + bytes((modrm & 0x38 | 4, 0x25)) + U32.pack(address & 0xFFFF_FFFF)
        out.code += raw[displacement + 4 :]
        return
    register = _spill_register(out.info, instruction)
    fix = units.FIX_SPILL + register
    out.data_ref(bytes((0x48, 0x89, register << 3 | 5)), tcdata.SPILL_ANY)
    out.code += bytes((0x48, 0xB8 + register)) + U64.pack(address)
    out.mark(guest, number, fix)
    out.code += _without_rex_xb(raw[: displacement - 1]) + bytes((modrm & 0x38 | register,))
    out.code += raw[displacement + 4 :]
    out.mark(guest + len(raw), number + 1, fix)
    out.data_ref(bytes((0x48, 0x8B, register << 3 | 5)), tcdata.SPILL_ANY)


def setcc(out: Emission, instruction: Instruction, raw: bytes, guest: int, number: int) -> bool:
    """SETcc to memory as `setcc al` and a store: should its store fault, the engine has lost the flags otherwise.

    False, with nothing emitted, for a register, or an address that needs RAX or RIP: those are copied.
    """
    registers = (instruction.memory_base, instruction.memory_index)
    if instruction.op0_kind != OpKind.MEMORY or any(register in _NEEDS_RAX for register in registers):
        return False
    at = raw.index(0x0F)
    out.data_ref(STORE_RAX, tcdata.SPILL_RAX)
    out.code += b"\x0f" + raw[at + 1 : at + 2] + b"\xc0"
    out.mark(guest, number, units.FIX_RAX)
    out.code += raw[:at] + bytes((0x88, raw[at + 2] & 0xC7)) + raw[at + 3 :]
    out.mark(guest + len(raw), number + 1, units.FIX_RAX)
    out.data_ref(LOAD_RAX, tcdata.SPILL_RAX)
    return True


def touch_before_rotate(out: Emission, instruction: Instruction, raw: bytes, guest: int, number: int) -> None:
    """In front of RCL or RCR to memory: load and store the operand as it is.

    The engine has changed the carry flag already when the store of such a rotate faults, and it would rotate a wrong one in
    when it is tried again. (Not where a RIP-relative operand needs a register of its own.)
    """
    relative = instruction.is_ip_rel_memory_operand
    if instruction.op0_kind != OpKind.MEMORY or relative and not fits_signed32(instruction.ip_rel_memory_address):
        return
    register = _spill_register(out.info, instruction)
    load, store, names = _MOVES[MemorySizeExt.size(instruction.memory_size)]
    displacement = instruction.memory_displacement
    displacement -= displacement >> 63 << 64
    base, size = (Register.NONE, 4) if relative else (instruction.memory_base, instruction.memory_displ_size)
    operand = MemoryOperand(
        base, instruction.memory_index, instruction.memory_index_scale, displacement, size,
        seg=instruction.segment_prefix,
    )  # fmt: skip
    encoder = Encoder(64)
    encoder.encode(Instruction.create_reg_mem(load, names[register], operand), 0)
    encoder.encode(Instruction.create_mem_reg(store, operand, names[register]), 0)
    out.data_ref(bytes((0x48, 0x89, register << 3 | 5)), tcdata.SPILL_ANY)
    out.mark(guest, number, units.FIX_SPILL + register)
    out.code += encoder.take_buffer()
    out.data_ref(bytes((0x48, 0x8B, register << 3 | 5)), tcdata.SPILL_ANY)
    out.mark(guest, number)


def emit_wide_exchange(out: Emission, instruction: Instruction, raw: bytes, guest: int, number: int) -> None:
    """The engine's cmpxchg8b/16b keeps the other flags only if they were computed in an earlier block: end it."""
    out.code += b"\xeb\x00"
    if instruction.is_ip_rel_memory_operand:
        rip_relative(out, instruction, raw, guest, number)
    else:
        out.code += raw


def _displacement_offset(instruction: Instruction, raw: bytes) -> int:
    decoder = Decoder(64, raw, ip=instruction.ip)
    return decoder.get_constant_offsets(decoder.decode()).displacement_offset


def _without_rex_xb(opcode: bytes) -> bytes:
    """Clear X and B of REX or VEX: ignored with a RIP-relative operand, meaningful with a base register or a SIB."""
    at = 0
    while opcode[at] in _LEGACY_PREFIXES:
        at += 1
    while opcode[at] & 0xF0 == 0x40 and opcode[at + 1] & 0xF0 == 0x40:
        at += 1  # of several REX prefixes the last one counts
    if opcode[at] & 0xF0 == 0x40:
        return opcode[:at] + bytes((opcode[at] & 0xFC,)) + opcode[at + 1 :]
    if opcode[at] == 0xC4:
        return opcode[: at + 1] + bytes((opcode[at + 1] | 0x60,)) + opcode[at + 2 :]
    return opcode


def _spill_register(info: InstructionInfoFactory, instruction: Instruction) -> int:
    """A register that `instruction` does not touch, fit to be the base of its rewritten memory operand."""
    used = {use.register for use in info.info(instruction).used_registers()}
    full = {RegisterInfo(register).full_register for register in used}
    for register, number in _SPILLABLE.items():
        if register not in full:
            return number
    raise AssertionError("an instruction that uses six registers and RIP")
