"""Code that counts where an indirect call goes, without an exit.

A call site has a few *slots*, each minus a target and how often that was called. The target of the last call is in the first
one, so a site that calls the same function again pays two loads and a store; a target in another slot, or a new one that takes
a free slot, changes places with it. What finds no slot is counted together. Guest flags are untouched throughout.

(A call to address 0 cannot be told from a free slot: what takes that slot next is given its count.)
"""

from __future__ import annotations

from typing import Final

from dbgvmm.bt import tcdata
from dbgvmm.bt.emission import I32, LOAD_RAX, LOAD_RCX, STORE_RAX, STORE_RCX, U64, Emission

SLOTS: Final = 8
FIRST: Final = 1
"""The number of the first slot's first word among the unit's counters."""
ELSEWHERE: Final = FIRST + 2 * SLOTS
"""The word for targets that have no slot."""
BEHIND: Final = ELSEWHERE + 1
_ADD_TARGET_TO_RAX: Final = b"\x48\x8d\x04\x08"
"""lea rax, [rax + rcx]"""
_ADD_TARGET_TO_RCX: Final = b"\x48\x8d\x0c\x01"
_EXCHANGE: Final = b"\x48\x91"
_TARGET_TO_RCX: Final = b"\x48\x89\xc1"
_RCX_PLUS_1: Final = b"\x48\x8d\x49\x01"
_NEGATED_TARGET: Final = _TARGET_TO_RCX + b"\x48\xf7\xd1" + _RCX_PLUS_1
"""mov rcx, rax; not rcx; lea rcx, [rcx + 1]"""


def dispatch_counted(out: Emission) -> None:
    """Count the target in RCX, whose own value is spilled, and go there by the lookup table. The end of a unit."""
    out.first_exit = BEHIND
    code = out.code
    out.data_ref(STORE_RAX, tcdata.SPILL_RAX)
    _word(out, LOAD_RAX, FIRST)
    code += _ADD_TARGET_TO_RAX + _EXCHANGE + b"\xe3\x05\xe9\0\0\0\0"  # RAX: the target; jrcxz over the jump
    slow = len(code)
    _add_1(out, FIRST + 1)
    done = len(code)
    code += _TARGET_TO_RCX + b"\x48\xb8" + U64.pack(out.lookup) + b"\xff\x24\xc8"
    I32.pack_into(code, slow - 4, len(code) - slow)
    for number in range(FIRST + 2, ELSEWHERE, 2):
        _word(out, LOAD_RCX, number)
        code += b"\xe3\x0b" + _ADD_TARGET_TO_RCX + b"\xe3\x05\xe9\0\0\0\0"  # jrcxz: free, or the target's
        following = len(code)
        _to_front(out, number)
        _jump(out, done)
        I32.pack_into(code, following - 4, len(code) - following)
    _add_1(out, ELSEWHERE)
    _jump(out, done)


def _to_front(out: Emission, number: int) -> None:
    """Add 1 to a slot's count; the slot, for the target in RAX, changes places with the first one."""
    code = out.code
    _word(out, LOAD_RCX, number + 1)
    code += _RCX_PLUS_1
    out.data_ref(STORE_RCX, tcdata.SPILL_ANY)
    _word(out, LOAD_RCX, FIRST + 1)
    _word(out, STORE_RCX, number + 1)
    out.data_ref(LOAD_RCX, tcdata.SPILL_ANY)
    _word(out, STORE_RCX, FIRST + 1)
    _word(out, LOAD_RCX, FIRST)
    _word(out, STORE_RCX, number)
    code += _NEGATED_TARGET
    _word(out, STORE_RCX, FIRST)


def _jump(out: Emission, offset: int) -> None:
    code = out.code
    code += b"\xe9" + I32.pack(offset - len(code) - 5)


def _word(out: Emission, opcode: bytes, number: int) -> None:
    """An instruction whose memory operand is one of the unit's counters."""
    code = out.code
    end = len(code) + len(opcode) + 4
    code += opcode + I32.pack(out.counters + 8 * number - end)


def _add_1(out: Emission, number: int) -> None:
    _word(out, LOAD_RCX, number)
    out.code += _RCX_PLUS_1
    _word(out, STORE_RCX, number)


__all__ = ["BEHIND", "ELSEWHERE", "FIRST", "SLOTS", "dispatch_counted"]
