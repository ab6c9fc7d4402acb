"""Guards: an access that keeps hitting a watched page, but not what is watched there, compares for itself.

Watched pages are traced, so that each access to one faults; where the guest works next to a watched word all the time, that
costs a hundred thousand exits a second. A guarded instruction looks where it is about to access. In a gap between the watched
bytes of the page it goes through an *alias*, a mapping of the frame that is the monitor's own and is not traced.
Anywhere else it runs as it is, and faults if that is a watched byte: what happens then is always the same (watching.py).

An alias stands for a page only while the guest's own tables let this access through without a fault (aliases.py). While
they do not, its two words are equal, and the guarded instruction accesses the guest's address after all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from iced_x86 import (
    Code,
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

from dbgvmm.bt import classify as cls
from dbgvmm.bt import units
from dbgvmm.bt.accesses import BIT_TESTS
from dbgvmm.bt.emission import I32, LOAD_FLAGS, LOAD_RAX, SAVE_FLAGS, STORE_RAX, U64, Emission, fits_signed32
from dbgvmm.bt.tcdata import PROBE_FLAGS, SPILL_ANY, SPILL_RAX, alias_words
from dbgvmm.hardware.layout import MASK64

_SCRATCH: Final = {Register.RCX: 1, Register.RDX: 2, Register.RBX: 3, Register.RSI: 6, Register.RDI: 7}
_REGISTERS: Final = {number: register for register, number in _SCRATCH.items()}
_RETURN_SIZE: Final = 8
_LARGEST: Final = 64
_PUSH_IMMEDIATE: Final = frozenset((Code.PUSHQ_IMM8, Code.PUSHQ_IMM32))
_PUSHES: Final = _PUSH_IMMEDIATE | {Code.PUSH_R64}
_KINDS: Final = frozenset((cls.IDENT, cls.CALL))
_ABSOLUTE: Final = frozenset(
    (Code.MOV_AL_MOFFS8, Code.MOV_AX_MOFFS16, Code.MOV_EAX_MOFFS32, Code.MOV_RAX_MOFFS64,
     Code.MOV_MOFFS8_AL, Code.MOV_MOFFS16_AX, Code.MOV_MOFFS32_EAX, Code.MOV_MOFFS64_RAX)
)  # fmt: skip
"""These take no base register."""
_STACK_DOWN: Final = b"\x48\x8d\x64\x24\xf8"
"""lea rsp, [rsp - 8]"""
_SEGMENT_BASES: Final = {Register.FS: b"\xf3\x48\x0f\xae\xc0", Register.GS: b"\xf3\x48\x0f\xae\xc8"}
"""rdfsbase rax, rdgsbase rax"""


@dataclass(frozen=True, slots=True)
class Guard:
    """alias: the number of the page's alias. gaps: where on the page the access may be made, from and up to which offset;
    nothing is watched there."""

    alias: int
    gaps: tuple[tuple[int, int], ...]


def scratch_register(info: InstructionInfoFactory, instruction: Instruction, kind: int) -> int:
    """The register that a guard for this instruction can use, by its number; 0 if the instruction cannot be guarded."""
    if kind not in _KINDS or not _takes_one_access(info, instruction):
        return 0
    used = {RegisterInfo(use.register).full_register for use in info.info(instruction).used_registers()}
    return next((number for register, number in _SCRATCH.items() if register not in used), 0)


def _takes_one_access(info: InstructionInfoFactory, instruction: Instruction) -> bool:
    code = instruction.code
    if code == Code.CALL_REL32_64 or code in _PUSHES:
        return True
    kinds = [instruction.op_kind(operand) for operand in range(instruction.op_count)]
    if OpKind.MEMORY not in kinds or code in _ABSOLUTE or instruction.is_stack_instruction or instruction.is_string_instruction:
        return False
    if len(info.info(instruction).used_memory()) != 1 or not 0 < _size(instruction) <= _LARGEST:
        return False
    if instruction.mnemonic in BIT_TESTS:
        return kinds[1] != OpKind.REGISTER
    return instruction.mnemonic != Mnemonic.XLATB


def _size(instruction: Instruction) -> int:
    if instruction.code == Code.CALL_REL32_64 or instruction.code in _PUSHES:
        return _RETURN_SIZE
    return MemorySizeExt.size(instruction.memory_size)


def emit_guarded(
    out: Emission, guard: Guard, instruction: Instruction, raw: bytes, guest: int, number: int, kind: int
) -> int:
    """The guard and the access through the alias; the instruction as it is has to follow at once (of a call, the push).

    Returns the position of a jump behind that, for `end_guarded`; 0, with nothing emitted, if it cannot be guarded.
    """
    register = scratch_register(out.info, instruction, kind)
    if not register:
        return 0
    code = out.code
    size = _size(instruction)
    page, alias = alias_words(guard.alias, out.user)
    out.data_ref(bytes((0x48, 0x89, register << 3 | 5)), SPILL_ANY)
    _address(out, register, instruction)
    out.data_ref(STORE_RAX, SPILL_RAX)
    base = _SEGMENT_BASES.get(instruction.memory_segment) if _has_memory(instruction) else None
    if base is not None:
        code += base + bytes((0x48, 0x8D, register << 3 | 4, register))  # lea register, [register + rax]
    code += SAVE_FLAGS
    out.data_ref(bytes((0x48, 0x2B, register << 3 | 5)), page)  # sub register, [page]
    elsewhere = _choose(out, guard, register, size)
    out.data_ref(bytes((0x48, 0x03, register << 3 | 5)), alias)  # add register, [alias]
    code += LOAD_FLAGS
    out.data_ref(LOAD_RAX, SPILL_RAX)
    fix = units.FIX_SPILL + register
    out.mark(guest, number, fix)
    _access(out, register, instruction, guest + len(raw))
    out.mark(guest + len(raw), number + 1, fix)
    out.data_ref(bytes((0x48, 0x8B, register << 3 | 5)), SPILL_ANY)
    code += b"\xe9\0\0\0\0"
    behind = len(code)
    I32.pack_into(code, elsewhere - 4, len(code) - elsewhere)
    if len(guard.gaps) > 1:
        out.data_ref(LOAD_RAX, PROBE_FLAGS)
    code += LOAD_FLAGS
    out.data_ref(LOAD_RAX, SPILL_RAX)
    out.data_ref(bytes((0x48, 0x8B, register << 3 | 5)), SPILL_ANY)
    out.mark(guest, number)
    return behind


def _choose(out: Emission, guard: Guard, register: int, size: int) -> int:
    """Go on if `size` bytes from the offset in `register` lie in one of the gaps. Returns the position of a jump otherwise."""
    code = out.code
    if len(guard.gaps) == 1:
        ((low, high),) = guard.gaps
        code += bytes((0x48, 0x81, 0xE8 | register)) + I32.pack(low)  # sub
        code += bytes((0x48, 0x81, 0xF8 | register)) + I32.pack(max(high - low - size, 0))  # cmp
        code += b"\x0f\x87\0\0\0\0"  # ja
        elsewhere = len(code)
        code += bytes((0x48, 0x8D, 0x80 | register << 3 | register)) + I32.pack(low)  # lea: the offset again
        return elsewhere
    out.data_ref(STORE_RAX, PROBE_FLAGS)
    found = []
    for low, high in guard.gaps:
        if high - low >= size:
            code += bytes((0x48, 0x8D, 0x80 | register)) + I32.pack(-low)  # lea rax, [register - low]
            code += b"\x48\x3d" + I32.pack(high - low - size) + b"\x0f\x86\0\0\0\0"  # cmp rax; jbe
            found.append(len(code))
    code += b"\xe9\0\0\0\0"
    elsewhere = len(code)
    for position in found:
        I32.pack_into(code, position - 4, len(code) - position)
    out.data_ref(LOAD_RAX, PROBE_FLAGS)
    return elsewhere


def end_guarded(out: Emission, behind: int) -> None:
    """The instruction as it is has been emitted: here both ways meet."""
    I32.pack_into(out.code, behind - 4, len(out.code) - behind)


def _has_memory(instruction: Instruction) -> bool:
    return instruction.code not in _PUSHES and instruction.code != Code.CALL_REL32_64


def _address(out: Emission, register: int, instruction: Instruction) -> None:
    """The effective address into `register`."""
    if not _has_memory(instruction):
        out.code += bytes((0x48, 0x8D, 0x44 | register << 3, 0x24, 0xF8))  # lea register, [rsp - 8]
        return
    if instruction.is_ip_rel_memory_operand:
        out.code += bytes((0x48, 0xB8 | register)) + U64.pack(instruction.ip_rel_memory_address)
        return
    operand = MemoryOperand(
        instruction.memory_base, instruction.memory_index, instruction.memory_index_scale,
        _signed(instruction.memory_displacement), instruction.memory_displ_size,
    )  # fmt: skip
    out.code += _encode(Instruction.create_reg_mem(Code.LEA_R64_M, _REGISTERS[register], operand))


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _access(out: Emission, register: int, instruction: Instruction, behind: int) -> None:
    """What the instruction does, at [register]."""
    base = _REGISTERS[register]
    place = MemoryOperand(base)
    code = instruction.code
    if code == Code.CALL_REL32_64:
        address = out.unit.guest_rip + behind & MASK64
        if fits_signed32(address):
            out.code += _encode(Instruction.create_mem_i32(Code.MOV_RM64_IMM32, place, _signed(address)))
        else:
            upper = MemoryOperand(base, displ=4, displ_size=1)
            out.code += _encode(Instruction.create_mem_u32(Code.MOV_RM32_IMM32, place, address & 0xFFFF_FFFF))
            out.code += _encode(Instruction.create_mem_u32(Code.MOV_RM32_IMM32, upper, address >> 32))
        out.code += _STACK_DOWN
    elif code in _PUSH_IMMEDIATE:
        value = instruction.immediate(0)
        out.code += _encode(Instruction.create_mem_i32(Code.MOV_RM64_IMM32, place, _signed(value & MASK64)))
        out.code += _STACK_DOWN
    elif code in _PUSHES:
        out.code += _encode(Instruction.create_mem_reg(Code.MOV_RM64_R64, place, instruction.op0_register))
        out.code += _STACK_DOWN
    else:
        other = instruction.copy()
        other.memory_base, other.memory_index, other.memory_index_scale = base, Register.NONE, 1
        other.memory_displacement, other.memory_displ_size = 0, 0
        other.segment_prefix = Register.NONE
        out.code += _encode(other)


def _encode(instruction: Instruction) -> bytes:
    encoder = Encoder(64)
    encoder.encode(instruction, 0)
    return encoder.take_buffer()


__all__ = ["Guard", "emit_guarded", "end_guarded", "scratch_register"]
