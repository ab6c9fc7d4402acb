"""DWARF expressions as call frame information uses them: a stack machine over registers and memory (DWARF 5, 2.5).

What needs a frame of its own (DW_OP_fbreg, locations, types) does not occur there and is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from elftools.dwarf.dwarf_expr import DWARFExprOp

from dbgvmm.cpu.bits import MASK64
from dbgvmm.debug.symbols.call_frames import Expression
from dbgvmm.debug.unwind.frames import DwarfRegister, Registers
from dbgvmm.debug.unwind.methods import UnwindEnd
from dbgvmm.debug.unwind.stack import StackMemory, Unreadable

MOST_STEPS: Final = 1000
"""Operations: an expression may jump back, and a damaged one for ever."""
_DEEPEST: Final = 64
_CONSTANTS: Final = frozenset(
    f"DW_OP_const{size}{sign}" for size in ("1", "2", "4", "8", "") for sign in ("u", "s")
)  # fmt: skip


def evaluate(expression: Expression, frame: Registers, stack: StackMemory, initial: Sequence[int] = ()) -> int:
    """What an expression leaves on top of its stack. Raises UnwindEnd, Unreadable."""
    machine = _Machine(frame, stack, initial)
    operations = expression.operations
    starts = [*(operation.offset for operation in operations), expression.length]
    at = steps = 0
    try:
        while at < len(operations):
            steps += 1
            if steps > MOST_STEPS or len(machine.values) > _DEEPEST:
                raise UnwindEnd("an expression in the call frame information does not come to an end")
            jump = machine.execute(operations[at])
            at += 1
            if jump is not None:
                at = starts.index(starts[at] + jump)
        return machine.values[-1]
    except Unreadable:
        raise
    except (LookupError, ValueError, TypeError) as error:
        raise UnwindEnd("an expression in the call frame information makes no sense") from error


class _Machine:
    def __init__(self, frame: Registers, stack: StackMemory, initial: Sequence[int]) -> None:
        self._frame = frame
        self._stack = stack
        self.values: list[int] = list(initial)

    def _register(self, number: int) -> int:
        if number == DwarfRegister.RA:
            return self._frame.pc
        return self._frame.values[number]

    def execute(self, operation: DWARFExprOp) -> int | None:
        """Carry out one operation; how far to jump, None without a jump. Raises LookupError, ValueError, UnwindEnd."""
        name = operation.op_name
        arguments = operation.args
        values = self.values
        if name.startswith("DW_OP_breg"):
            number = arguments[0] if name == "DW_OP_bregx" else int(name[len("DW_OP_breg") :])
            values.append(self._register(number) + arguments[-1] & MASK64)
        elif name.startswith("DW_OP_lit"):
            values.append(int(name[len("DW_OP_lit") :]))
        elif name in _CONSTANTS:
            values.append(arguments[0] & MASK64)
        elif name == "DW_OP_plus_uconst":
            values.append(values.pop() + arguments[0] & MASK64)
        elif name == "DW_OP_deref":
            values.append(self._stack.word(values.pop()))
        elif name == "DW_OP_deref_size":
            values.append(self._stack.word(values.pop()) & (1 << 8 * arguments[0]) - 1)
        elif name == "DW_OP_skip":
            return int(arguments[0])
        elif name == "DW_OP_bra":
            return int(arguments[0]) if values.pop() else None
        elif name in _SHUFFLES:
            self._shuffle(name, arguments)
        elif name in _UNARY:
            values.append(_unary(name, values.pop()))
        elif name != "DW_OP_nop":
            right = values.pop()
            values.append(_binary(name, values.pop(), right))
        return None

    def _shuffle(self, name: str, arguments: Sequence[int]) -> None:
        values = self.values
        if name == "DW_OP_dup":
            values.append(values[-1])
        elif name == "DW_OP_drop":
            values.pop()
        elif name == "DW_OP_over":
            values.append(values[-2])
        elif name == "DW_OP_pick":
            values.append(values[-1 - arguments[0]])
        elif name == "DW_OP_swap":
            values[-1], values[-2] = values[-2], values[-1]
        else:
            values[-3:] = values[-1], values[-3], values[-2]


_SHUFFLES: Final = frozenset(f"DW_OP_{name}" for name in ("dup", "drop", "over", "pick", "swap", "rot"))
_UNARY: Final = frozenset(("DW_OP_neg", "DW_OP_not", "DW_OP_abs"))


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _unary(name: str, value: int) -> int:
    if name == "DW_OP_neg":
        return -value & MASK64
    return ~value & MASK64 if name == "DW_OP_not" else abs(_signed(value))


def _binary(name: str, left: int, right: int) -> int:
    """Raises ValueError for an operation that is none."""
    match name.removeprefix("DW_OP_"):
        case "plus":
            return left + right & MASK64
        case "minus":
            return left - right & MASK64
        case "mul":
            return left * right & MASK64
        case "and":
            return left & right
        case "or":
            return left | right
        case "xor":
            return left ^ right
        case "shl":
            return left << right & MASK64 if right < 64 else 0
        case "shr":
            return left >> right if right < 64 else 0
        case "shra":
            return _signed(left) >> min(right, 63) & MASK64
        case "eq":
            return int(left == right)
        case "ne":
            return int(left != right)
        case "ge":
            return int(_signed(left) >= _signed(right))
        case "gt":
            return int(_signed(left) > _signed(right))
        case "le":
            return int(_signed(left) <= _signed(right))
        case "lt":
            return int(_signed(left) < _signed(right))
        case _:
            raise ValueError(name)
