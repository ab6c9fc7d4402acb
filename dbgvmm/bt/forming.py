"""Which guest instructions make a unit, and in front of which one it counts itself.

A unit is straight-line code, but it goes on behind forward branches within the page (their fall-through is the likelier
way), and one that branches back to its own start is unrolled, so that the count is paid once for several rounds.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, NamedTuple

from iced_x86 import Decoder, DecoderError, Instruction, Mnemonic, OpCodeOperandKind, OpKind

from dbgvmm.bt import classify as cls
from dbgvmm.bt.classify import Classifier
from dbgvmm.bt.emit_operands import ROTATES_THROUGH_CARRY
from dbgvmm.bt.stores import PLAIN_STORES
from dbgvmm.bt.tcdata import MARGIN
from dbgvmm.hardware.layout import MASK64

MAX_UNIT: Final = 32
"""Instructions in a unit, at most."""
MAX_ROUNDS: Final = 6
UNROLLED: Final = 72
"""Rounds of an unrolled loop, and instructions in one, at most."""
MAX_SIDE_EXITS: Final = 3
"""Forward conditional branches that a unit goes on behind."""

CLASS: Final = 0xFF
KILLS_FLAGS: Final = 1 << 8
SETCC: Final = 1 << 9
PLAIN_STORE: Final = 1 << 10
"""Traits of an instruction: its class (classify.py), and whether it overwrites all flags, is a SETcc, is a store that may
be found guilty (adaptation.py)."""
RIP_RELATIVE: Final = 1 << 11
"""Of an opcode: with a ModRM operand that may be relative to RIP. Of a special: it is."""
ROTATE: Final = 1 << 13
"""A rotate through the carry flag."""
COUNT: Final = 1 << 12
"""In front of the instruction, the unit counts itself."""
_CALLOUTS_WHEN_PRECISE: Final = frozenset((cls.POPF, cls.RDTSC))
ENDS: Final = frozenset(range(CLASS)) - cls.STRAIGHT
"""Classes that end a unit (JCC perhaps), and those that end a precise one."""
ENDS_PRECISE: Final = ENDS | _CALLOUTS_WHEN_PRECISE
MAX_ATTENDED: Final = 12
"""Instructions of a unit that come with code of their own (probes, guards), at most: all of it must fit into a TC page."""
_MEMORY: Final = OpKind.MEMORY
_NEVER_RIP_RELATIVE: Final = frozenset(
    kind for name, kind in vars(OpCodeOperandKind).items()
    if isinstance(kind, int) and "MEM" not in name
)  # fmt: skip
_SETCC: Final = frozenset(
    getattr(Mnemonic, name) for name in "SETO SETNO SETB SETAE SETE SETNE SETBE SETA SETS SETNS SETP SETNP SETL SETGE SETLE "
    "SETG".split()
)  # fmt: skip


Special = tuple[int, int, Instruction, int]
"""An instruction that may need more than to be copied: its number in the unit, its offset in the guest's bytes, itself, its
traits."""


class Formed(NamedTuple):
    """What a unit is to be made of: `length` instructions in `size` guest bytes, this so many times in a row.

    What lies between the specials is copied. One of them, with COUNT for traits, stands in front of the instruction where
    the unit counts itself: number `count_index`. flags_dead: nobody needs the flags there. open_end: control goes on
    behind the last instruction.
    """

    length: int
    size: int
    rounds: int
    specials: list[Special]
    count_index: int
    flags_dead: bool
    open_end: bool


_NOTHING: Final = Formed(0, 0, 1, [], 0, False, False)


class Former:
    """Cuts guest code into units. What an opcode is like is found out once."""

    def __init__(self) -> None:
        self.classifier = Classifier()
        self._traits: dict[int, int] = {}

    def switch_sse(self, on: bool) -> None:
        """CR4.OSFXSR is `on` from now on: what units are made of depends on it."""
        self.classifier.switch_sse(on)
        self._traits.clear()

    def _learn(self, instruction: Instruction) -> int:
        code = instruction.code
        traits = self.classifier.learn(instruction)
        if self.classifier.kills_flags[code]:
            traits |= KILLS_FLAGS
        if instruction.mnemonic in _SETCC:
            traits |= SETCC
        if instruction.mnemonic in ROTATES_THROUGH_CARRY:
            traits |= ROTATE
        if code in PLAIN_STORES:
            traits |= PLAIN_STORE
        opcode = instruction.op_code()
        if any(opcode.op_kind(operand) not in _NEVER_RIP_RELATIVE for operand in range(opcode.op_count)):
            traits |= RIP_RELATIVE
        self._traits[code] = traits
        return traits

    def form(
        self, start: int, data: bytes, limit: int, precise: bool, breakpoints: Collection[int], guilty: bool,
        attended: Collection[int] = (),
    ) -> Formed:
        """The unit that begins at guest address `start`, where `data` lies. guilty: stores may be, so all are special.

        It has no instructions if the first one does not fit into `data`. A unit ends in front of a breakpoint that is
        not its start. `precise` ones are not unrolled and have no count. attended: guest addresses of instructions that
        are special whatever they are; there the guest's flags are left alone.
        """
        known = self._traits
        ends = ENDS_PRECISE if precise else ENDS
        mask = CLASS | SETCC | ROTATE | PLAIN_STORE if guilty else CLASS | SETCC | ROTATE
        specials: list[Special] = []
        number = branches = kind = 0
        jcc, invalid = cls.JCC, cls.INVALID
        count_index = 0
        flags_dead = False
        seeks = not precise  # a place to count; it must come before any way out, or nothing would check the deadline
        decoder = Decoder(64, data, ip=start)
        end = -1
        looked_at = 0
        for instruction in decoder:
            traits = known.get(instruction.code)
            if traits is None:
                traits = self._learn(instruction)
            if breakpoints and number and instruction.ip in breakpoints:
                end = instruction.ip
                break
            attend = bool(attended) and instruction.ip in attended
            if attend:
                if looked_at == MAX_ATTENDED:
                    end = instruction.ip
                    break
                looked_at += 1
            if seeks and traits & KILLS_FLAGS and number < MARGIN and not attend and _takes_registers(instruction):
                specials.append((number, instruction.ip - start & MASK64, instruction, COUNT))
                count_index = number
                flags_dead = True
                seeks = False
            if traits & mask or attend:
                if traits & CLASS == invalid and decoder.last_error == DecoderError.NO_MORE_BYTES:
                    end = instruction.ip  # it crosses the page: a unit of its own
                    break
                kind = traits & CLASS
                if traits & RIP_RELATIVE and not instruction.is_ip_rel_memory_operand:
                    traits ^= RIP_RELATIVE
                specials.append((number, instruction.ip - start & MASK64, instruction, traits))
                number += 1
                if kind == jcc:
                    seeks = False
                    if not precise and number < limit and branches < MAX_SIDE_EXITS:
                        target = instruction.near_branch_target
                        if target > instruction.ip and target >> 12 == start >> 12:
                            branches += 1
                            continue
                if kind in ends:
                    break
            else:
                kind = 0
                if traits & RIP_RELATIVE and instruction.is_ip_rel_memory_operand:
                    specials.append((number, instruction.ip - start & MASK64, instruction, RIP_RELATIVE))
                number += 1
            if number >= limit:
                break
        if not number:
            return _NOTHING
        rounds = 1
        if not precise:
            if limit == MAX_UNIT and not looked_at:
                rounds = self._rounds(start, specials, number)
            if not flags_dead:
                specials.insert(0, (0, 0, instruction, COUNT))
        size = (instruction.next_ip if end < 0 else end) - start & MASK64
        return Formed(number, size, rounds, specials, count_index, flags_dead, kind not in ends)

    @staticmethod
    def _rounds(start: int, specials: list[Special], length: int) -> int:
        if not specials:
            return 1
        number, _, last, traits = specials[-1]
        if number + 1 != length or traits & CLASS not in (cls.JCC, cls.JMP) or last.near_branch_target != start:
            return 1
        return max(1, min(MAX_ROUNDS, UNROLLED // length))


def _takes_registers(instruction: Instruction) -> bool:
    return bool(instruction.op0_kind != _MEMORY and instruction.op1_kind != _MEMORY)
