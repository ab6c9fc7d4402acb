"""Callers by the frame pointer: RBP leads to the caller's RBP, and the return address lies above that.

Where the CPU stands in a function's first or last instructions the frame is not there, and its bytes say so: `push rbp`,
`mov rbp, rsp`, `ret` (System V ABI for AMD64, 3.2.2).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from dbgvmm.debug.symbols.table import Symbol
from dbgvmm.debug.unwind.frames import DwarfRegister, Registers
from dbgvmm.debug.unwind.methods import Base, Rule, UnwindEnd, apply_rule
from dbgvmm.debug.unwind.stack import StackMemory

ENDBR64: Final = b"\xf3\x0f\x1e\xfa"
REX_B: Final = b"\x41"
"""In front of `push rbp` it makes `push r13` of it."""
PUSH_RBP: Final = b"\x55"
MOV_RBP_RSP: Final = (b"\x48\x89\xe5", b"\x48\x8b\xec")
RETURNS: Final = (b"\xc3", b"\xc2", b"\xf3\xc3")
JUMPS: Final = (b"\xe9", b"\xeb", b"\xff")
LEAVE_OR_POP_RBP: Final = (b"\xc9", b"\x5d")
LONGEST_PROLOGUE: Final = 40
"""Bytes in which a function that has a frame pointer has set it up."""
LONGEST_FRAME: Final = 1 << 20
"""Bytes; a frame pointer that is further away than this leads to no frame of the same stack."""

STANDARD: Final = Rule(Base.BP, 16, -16)
AT_ENTRY: Final = Rule(Base.SP, 8)
AFTER_PUSH: Final = Rule(Base.SP, 16, -16)

FindSymbol = Callable[[int], tuple[Symbol, int] | None]
"""The function that covers an address, and the offset into it."""


def frame_setup(code: bytes) -> tuple[int, int] | None:
    """Where in a function's first bytes `push rbp` and `mov rbp, rsp` are; None without them.

    Compilers put other instructions before and between them.
    """
    code = code[:LONGEST_PROLOGUE]
    push = code.find(PUSH_RBP)
    while push >= 0:
        moves = [at for at in (code.find(move, push + 1) for move in MOV_RBP_RSP) if at >= 0]
        if not moves:
            return None
        if code[push - 1 : push] != REX_B:
            return push, min(moves)
        push = code.find(PUSH_RBP, push + 1)
    return None


class FramePointerMethod:
    """The last resort: always has an answer, checked for what can be checked."""

    name = "frame pointer"

    def __init__(self, find: FindSymbol) -> None:
        self._find = find

    def rule(self, frame: Registers, stack: StackMemory) -> Rule | None:
        """See UnwindMethod."""
        if not frame.exact:
            return STANDARD
        ahead = stack.code(frame.pc, 8)
        if ahead.startswith(RETURNS):
            return AT_ENTRY
        if ahead.startswith(JUMPS) and stack.code(frame.pc - 1, 1) in LEAVE_OR_POP_RBP:
            return AT_ENTRY  # a tail call: the frame is gone already
        found = self._find(frame.pc)
        if found is None or found[0].kind not in ("code", "label"):
            return self._without_name(frame, ahead, stack)
        symbol, offset = found
        setup = frame_setup(stack.code(symbol.address, LONGEST_PROLOGUE))
        if not offset:
            return AT_ENTRY
        if setup is None:
            return STANDARD
        push, move = setup
        return AT_ENTRY if offset <= push else AFTER_PUSH if offset <= move else STANDARD

    @staticmethod
    def _without_name(frame: Registers, ahead: bytes, stack: StackMemory) -> Rule:
        if ahead.startswith(MOV_RBP_RSP) and stack.code(frame.pc - 1, 1) == PUSH_RBP:
            return AFTER_PUSH
        return AT_ENTRY if ahead.removeprefix(ENDBR64).startswith(PUSH_RBP) else STANDARD

    def caller(self, frame: Registers, stack: StackMemory) -> Registers | None:
        """See UnwindMethod."""
        rule = self.rule(frame, stack)
        assert rule is not None
        if rule is STANDARD:
            check_frame_pointer(frame)
        return apply_rule(rule, frame, stack)


def check_frame_pointer(frame: Registers) -> None:
    """Raises UnwindEnd where RBP cannot be a frame pointer."""
    bp = frame.values.get(DwarfRegister.RBP)
    if bp is None:
        raise UnwindEnd("the frame pointer is not known here")
    if not bp:
        raise UnwindEnd("the frame pointer is 0, as an outermost frame's is", outermost=True)
    if bp & 7 or not frame.sp <= bp < frame.sp + LONGEST_FRAME:
        raise UnwindEnd(f"rbp = {bp:#x} is no frame pointer of the stack at {frame.sp:#x}")
