"""Which guest instructions make a unit, and in front of which one it counts itself.

A unit is straight-line code, but it goes on behind forward branches within the page (their fall-through is the likelier
way), and one that branches back to its own start is unrolled, so that the count is paid once for several rounds.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, NamedTuple

from iced_x86 import Decoder, DecoderError, Instruction, Mnemonic, OpKind

from dbgvmm.bt import classify as cls
from dbgvmm.bt.classify import Classifier
from dbgvmm.bt.stores import PLAIN_STORES
from dbgvmm.bt.tcdata import MARGIN

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
_CALLOUTS_WHEN_PRECISE: Final = frozenset((cls.POPF, cls.RDTSC))
ENDS: Final = frozenset(range(CLASS)) - cls.STRAIGHT
"""Classes that end a unit (JCC perhaps), and those that end a precise one."""
ENDS_PRECISE: Final = ENDS | _CALLOUTS_WHEN_PRECISE
_MEMORY: Final = OpKind.MEMORY
_SETCC: Final = frozenset(
    getattr(Mnemonic, name) for name in "SETO SETNO SETB SETAE SETE SETNE SETBE SETA SETS SETNS SETP SETNP SETL SETGE SETLE "
    "SETG".split()
)  # fmt: skip


class Formed(NamedTuple):
    """What a unit is to be made of: instructions with their traits, how often in a row, and where flags are dead.

    count_index: the first instruction in front of which they are and the unit can count itself, or -1.
    """

    instructions: list[tuple[Instruction, int]]
    rounds: int
    count_index: int


class Former:
    """Cuts guest code into units. What an opcode is like is found out once."""

    def __init__(self) -> None:
        self._classifier = Classifier()
        self._traits: dict[int, int] = {}

    def _learn(self, instruction: Instruction) -> int:
        code = instruction.code
        traits = self._classifier.learn(instruction)
        if self._classifier.kills_flags[code]:
            traits |= KILLS_FLAGS
        if instruction.mnemonic in _SETCC:
            traits |= SETCC
        if code in PLAIN_STORES:
            traits |= PLAIN_STORE
        self._traits[code] = traits
        return traits

    def form(
        self, start: int, data: bytes, limit: int, precise: bool, breakpoints: Collection[int], unroll: bool
    ) -> Formed:
        """The unit that begins at guest address `start`, where `data` lies.

        It has no instructions if the first one does not fit into `data`. A unit ends in front of a breakpoint that is
        not its start.
        """
        known = self._traits
        ends = ENDS_PRECISE if precise else ENDS
        formed: list[tuple[Instruction, int]] = []
        number = branches = 0
        count_index = -1
        seeks = not precise  # a place to count; it must come before any way out, or nothing would check the deadline
        decoder = Decoder(64, data, ip=start)
        for instruction in decoder:
            traits = known.get(instruction.code)
            if traits is None:
                traits = self._learn(instruction)
            if breakpoints and number and instruction.ip in breakpoints:
                break
            kind = traits & CLASS
            if not kind:
                if (
                    seeks and traits & KILLS_FLAGS and instruction.op0_kind != _MEMORY and instruction.op1_kind != _MEMORY
                    and number < MARGIN
                ):  # fmt: skip
                    count_index = number
                    seeks = False
            elif kind == cls.INVALID and decoder.last_error == DecoderError.NO_MORE_BYTES:
                break  # it crosses the page: a unit of its own
            formed.append((instruction, traits))
            number += 1
            if kind:
                if kind == cls.JCC:
                    seeks = False
                    if not precise and number < limit and branches < MAX_SIDE_EXITS:
                        target = instruction.near_branch_target
                        if target > instruction.ip and target >> 12 == start >> 12:
                            branches += 1
                            continue
                if kind in ends:
                    break
            if number >= limit:
                break
        return Formed(formed, self._rounds(start, formed) if unroll and formed else 1, count_index)

    @staticmethod
    def _rounds(start: int, formed: list[tuple[Instruction, int]]) -> int:
        last, traits = formed[-1]
        if traits & CLASS not in (cls.JCC, cls.JMP) or last.near_branch_target != start:
            return 1
        return max(1, min(MAX_ROUNDS, UNROLLED // len(formed)))
