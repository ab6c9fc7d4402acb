"""Which arithmetic flags are live in front of each instruction of a unit: those that somebody may read before they are written.

What the translator has to know when it inserts something. On each way out of the unit all flags are live, since nobody looks
further; so they are where the monitor carries something out. (A fault handler could look at them anywhere: that is why the
translator only ever spoils flags in front of an instruction that overwrites all of them and cannot fault.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from iced_x86 import Decoder, Instruction, RflagsBits

from dbgvmm.bt import classify as cls
from dbgvmm.bt.classify import Classifier
from dbgvmm.bt.units import TranslationUnit

_NAMES: Final = (
    (RflagsBits.OF, "O"), (RflagsBits.SF, "S"), (RflagsBits.ZF, "Z"), (RflagsBits.AF, "A"), (RflagsBits.PF, "P"),
    (RflagsBits.CF, "C"),
)  # fmt: skip
_ALL: Final = RflagsBits.OF | RflagsBits.SF | RflagsBits.ZF | RflagsBits.AF | RflagsBits.PF | RflagsBits.CF


def decode_unit(unit: TranslationUnit) -> list[Instruction]:
    """The unit's guest instructions (of one round, if it is unrolled)."""
    return list(Decoder(64, unit.guest_bytes, ip=unit.guest_rip))


def live_flags(instructions: Sequence[Instruction]) -> list[str]:
    """In front of each instruction, out of "OSZAPC" in this order; "" if all are dead."""
    classifier = Classifier()
    live = _ALL
    found: list[str] = []
    for instruction in reversed(instructions):
        if classifier.learn(instruction) != cls.IDENT:
            live = _ALL  # it may leave, or the monitor looks
        live = live & ~instruction.rflags_modified | instruction.rflags_read & _ALL
        found.append("".join(name for bit, name in _NAMES if live & bit))
    return found[::-1]


__all__ = ["decode_unit", "live_flags"]
