"""Code that counts where an indirect call goes, without an exit.

A call site has a few *slots*, each minus a target and how often that was called; the first free one is taken by a target
that is new. What finds no slot is counted together. RCX holds the target, and its own value is spilled; guest flags are
untouched.
"""

from __future__ import annotations

from typing import Final

from dbgvmm.bt import tcdata
from dbgvmm.bt.emission import I32, LOAD_RAX, LOAD_RCX, STORE_RAX, STORE_RCX, Emission

SLOTS: Final = 8
FIRST: Final = 1
"""The number of the first slot's first word among the unit's counters."""
ELSEWHERE: Final = FIRST + 2 * SLOTS
"""The word for targets that have no slot."""
BEHIND: Final = ELSEWHERE + 1
_TARGET_TO_RAX, _TARGET_TO_RCX = b"\x48\x89\xc8", b"\x48\x89\xc1"
_RCX_PLUS_1: Final = b"\x48\x8d\x49\x01"
_NEGATED_TARGET: Final = b"\x48\x89\xc1\x48\xf7\xd1" + _RCX_PLUS_1
"""mov rcx, rax; not rcx; lea rcx, [rcx + 1]"""
_ADD_TARGET: Final = b"\x48\x8d\x0c\x01"
"""lea rcx, [rcx + rax]"""
_CLAIM: Final = 17
_HIT: Final = 18
_JUMP: Final = 5


def count_target(out: Emission) -> None:
    """Count the target in RCX for the call that ends the unit; RCX and RAX are afterwards as before."""
    out.first_exit = BEHIND
    code = out.code
    out.data_ref(STORE_RAX, tcdata.SPILL_RAX)
    code += _TARGET_TO_RAX
    done: list[int] = []
    for number in range(FIRST, ELSEWHERE, 2):
        _word(out, LOAD_RCX, number)
        code += b"\xe3\x08" + _ADD_TARGET  # jrcxz: the slot is free, take it
        code += b"\xe3" + bytes((2 + _CLAIM,)) + b"\xeb" + bytes((_CLAIM + _HIT + _JUMP,))
        code += _NEGATED_TARGET
        _word(out, STORE_RCX, number)
        _add_1(out, number + 1)
        code += b"\xe9\0\0\0\0"
        done.append(len(code))
    _add_1(out, ELSEWHERE)
    for position in done:
        I32.pack_into(code, position - 4, len(code) - position)
    code += _TARGET_TO_RCX
    out.data_ref(LOAD_RAX, tcdata.SPILL_RAX)


def _word(out: Emission, opcode: bytes, number: int) -> None:
    """An instruction whose memory operand is one of the unit's counters."""
    code = out.code
    end = len(code) + len(opcode) + 4
    code += opcode + I32.pack(out.counters + 8 * number - end)


def _add_1(out: Emission, number: int) -> None:
    _word(out, LOAD_RCX, number)
    out.code += _RCX_PLUS_1
    _word(out, STORE_RCX, number)


__all__ = ["BEHIND", "ELSEWHERE", "FIRST", "SLOTS", "count_target"]
