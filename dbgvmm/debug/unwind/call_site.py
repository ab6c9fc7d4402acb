"""Callers of code without a frame: the return address, known by the call in front of it.

Functions in assembly often neither set up a frame pointer nor describe their frames. But a return address on the stack with
`call THIS_FUNCTION` in front of it can hardly be anything else (Intel SDM vol. 2A, CALL rel32).
"""

from __future__ import annotations

from typing import Final

from dbgvmm.cpu.bits import MASK64
from dbgvmm.debug.symbols.table import Symbol
from dbgvmm.debug.unwind.frame_pointer import LONGEST_FRAME, LONGEST_PROLOGUE, FindSymbol, frame_setup
from dbgvmm.debug.unwind.frames import Registers
from dbgvmm.debug.unwind.methods import Base, Rule, RuleMethod
from dbgvmm.debug.unwind.stack import StackMemory, Unreadable

DEEPEST: Final = 48
"""Words that are searched for the return address."""
LONGEST_ASSEMBLY: Final = 512
"""Bytes from a function in assembly to labels that may still be inside of it."""
_CALL_REL32: Final = 0xE8
_CALL_LENGTH: Final = 5


class CallSiteMethod(RuleMethod):
    """Knows functions without a frame pointer that were called directly."""

    name = "call site"

    def __init__(self, find: FindSymbol) -> None:
        self._find = find

    def rule(self, frame: Registers, stack: StackMemory) -> Rule | None:
        """See UnwindMethod."""
        found = self._find(frame.place)
        if found is None or frame.sp & 7:
            return None
        if frame_setup(stack.code(found[0].address, LONGEST_PROLOGUE)) is not None:
            return None
        for index in range(words_below_frame(frame)):
            try:
                word = stack.word(frame.sp + 8 * index)
            except Unreadable:
                break
            called = _called_before(word, stack)
            if called is not None and self._is_part_of(frame.place, found[0], called):
                return Rule(Base.SP, 8 * index + 8)
        return None

    def _is_part_of(self, place: int, symbol: Symbol, called: int) -> bool:
        """Whether what was called is what `place` is in: its symbol, or a label above that in the same piece of assembly."""
        if called == symbol.address:
            return True
        if symbol.kind != "label" or not 0 <= place - called <= LONGEST_ASSEMBLY:
            return False
        function = self._find(called)
        return function is not None and function[0].kind == "label" and not function[1]


def words_below_frame(frame: Registers) -> int:
    """How many words of the stack may belong to code without a frame: up to its caller's frame, if RBP leads there."""
    bp = frame.bp
    if bp is None or not frame.sp <= bp < frame.sp + LONGEST_FRAME:
        return DEEPEST
    return min(DEEPEST, (bp - frame.sp) // 8 + 1)


def _called_before(address: int, stack: StackMemory) -> int | None:
    """What a direct call that ends at `address` calls."""
    code = stack.code(address - _CALL_LENGTH, _CALL_LENGTH)
    if len(code) != _CALL_LENGTH or code[0] != _CALL_REL32:
        return None
    return address + int.from_bytes(code[1:], "little", signed=True) & MASK64
