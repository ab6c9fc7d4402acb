"""Emitters for branches: direct ones become edges, indirect ones jump through the lookup table."""

from __future__ import annotations

from struct import Struct

from iced_x86 import Instruction

from dbgvmm.bt import tcdata, units
from dbgvmm.bt.emission import STORE_RAX, STORE_RCX, U32, U64, Emission, fits_signed32
from dbgvmm.bt.emit_counting import dispatch_counted
from dbgvmm.bt.units import Site
from dbgvmm.hardware.layout import MASK64

_JCC = tuple(bytes((0x0F, 0x80 | condition)) for condition in range(16))
_JUMP_BY_TABLE = Struct("<3si2sQ3s")


def emit_jcc(out: Emission, instruction: Instruction, raw: bytes, guest: int, number: int) -> None:
    retired, unit = number + 1, out.unit
    condition, target = instruction.condition_code - 1, instruction.near_branch_target
    behind = unit.guest_rip + guest + len(raw) & MASK64
    if retired != unit.length and target == unit.guest_rip:
        out.edge(_JCC[condition ^ 1], behind, retired)  # the next round follows
        return
    out.edge(_JCC[condition], target, retired)
    if retired == unit.length:
        out.edge(b"\xe9", behind, retired)


def emit_loop(out: Emission, instruction: Instruction, raw: bytes, guest: int, number: int) -> None:
    out.code += raw[:-1] + b"\x05"
    out.edge(b"\xe9", out.unit.guest_rip + guest + len(raw) & MASK64, number + 1)
    out.edge(b"\xe9", instruction.near_branch_target, number + 1)


def emit_jmp(out: Emission, instruction: Instruction, raw: bytes, guest: int, number: int) -> None:
    if number + 1 == out.unit.length:
        out.edge(b"\xe9", instruction.near_branch_target, number + 1)


def emit_call(out: Emission, instruction: Instruction, raw: bytes, guest: int, number: int) -> None:
    push_return(out, out.unit.guest_rip + guest + len(raw) & MASK64)
    out.edge(b"\xe9", instruction.near_branch_target, number + 1)


def emit_ret(out: Emission, instruction: Instruction, raw: bytes, guest: int, number: int) -> None:
    out.data_ref(STORE_RCX, tcdata.SPILL_RCX)
    out.code += b"\x59"
    immediate = instruction.immediate16 if instruction.op_count else 0
    if immediate:
        out.code += b"\x48\x8d\xa4\x24" + U32.pack(immediate)
    out.mark(guest, number, units.FIX_RCX)
    _dispatch(out)


def emit_indirect_jmp(out: Emission, instruction: Instruction, raw: bytes, guest: int, number: int) -> None:
    _load_target(out, instruction, raw, guest, number)
    out.mark(guest, number, units.FIX_RCX)
    _dispatch(out)


def emit_indirect_call(out: Emission, instruction: Instruction, raw: bytes, guest: int, number: int) -> None:
    _load_target(out, instruction, raw, guest, number)
    out.mark(guest, number, units.FIX_RCX)
    push_return(out, out.unit.guest_rip + guest + len(raw) & MASK64)
    if out.counters:
        dispatch_counted(out)
    else:
        _dispatch(out)


def push_return(out: Emission, address: int) -> None:
    """Push a guest return address: one store that covers all eight bytes, then the upper half where needed."""
    out.code += b"\x68" + U32.pack(address & 0xFFFF_FFFF)
    if not fits_signed32(address):
        out.code += b"\xc7\x44\x24\x04" + U32.pack(address >> 32)


def _dispatch(out: Emission) -> None:
    """RCX holds a guest address and its own value is spilled: go to its unit by the lookup table.

    A precise unit leaves to the monitor instead, as at its other ends.
    """
    if out.precise:
        out.exit(Site(units.INDIRECT, out.unit, 0, retired=out.unit.length))
        return
    code = out.code
    spill = out.data_delta + tcdata.SPILL_RAX - len(code) - 7
    code += _JUMP_BY_TABLE.pack(STORE_RAX, spill, b"\x48\xb8", out.lookup, b"\xff\x24\xc8")


def _load_target(out: Emission, instruction: Instruction, raw: bytes, guest: int, number: int) -> None:
    """mov rcx, <operand of an indirect branch>; RCX spilled before."""
    out.data_ref(STORE_RCX, tcdata.SPILL_RCX)
    if instruction.is_ip_rel_memory_operand and not fits_signed32(instruction.ip_rel_memory_address):
        out.code += b"\x48\xb9" + U64.pack(instruction.ip_rel_memory_address)
        out.mark(guest, number, units.FIX_RCX)
        prefix = b"\x64" if 0x64 in raw[:2] else b"\x65" if 0x65 in raw[:2] else b""
        out.code += prefix + b"\x48\x8b\x09"
        return
    at = raw.index(0xFF)
    prefixes, rex = raw[:at], 0x48
    if prefixes and prefixes[-1] & 0xF0 == 0x40:
        rex, prefixes = prefixes[-1] & 0x4B | 0x48, prefixes[:-1]
    modrm = raw[at + 1] & 0xC7 | 1 << 3
    if instruction.is_ip_rel_memory_operand:
        rex = 0x48
        tail = bytes((1 << 3 | 4, 0x25)) + U32.pack(instruction.ip_rel_memory_address & 0xFFFF_FFFF)
    else:
        tail = bytes((modrm,)) + raw[at + 2 :]
    out.code += bytes(byte for byte in prefixes if byte not in (0xF2, 0x3E, 0x66)) + bytes((rex, 0x8B)) + tail
