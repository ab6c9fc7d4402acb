"""The opcodes: their numbers, the bytes of their operand, and what they do to the height of the stack."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class Op(IntEnum):
    """One for each opcode of the manual's "Bytecode Descriptions"."""

    FLOAT = 0x01
    ADD = 0x02
    SUB = 0x03
    MUL = 0x04
    DIV_SIGNED = 0x05
    DIV_UNSIGNED = 0x06
    REM_SIGNED = 0x07
    REM_UNSIGNED = 0x08
    LSH = 0x09
    RSH_SIGNED = 0x0A
    RSH_UNSIGNED = 0x0B
    TRACE = 0x0C
    TRACE_QUICK = 0x0D
    LOG_NOT = 0x0E
    BIT_AND = 0x0F
    BIT_OR = 0x10
    BIT_XOR = 0x11
    BIT_NOT = 0x12
    EQUAL = 0x13
    LESS_SIGNED = 0x14
    LESS_UNSIGNED = 0x15
    EXT = 0x16
    REF8 = 0x17
    REF16 = 0x18
    REF32 = 0x19
    REF64 = 0x1A
    REF_FLOAT = 0x1B
    REF_DOUBLE = 0x1C
    REF_LONG_DOUBLE = 0x1D
    L_TO_D = 0x1E
    D_TO_L = 0x1F
    IF_GOTO = 0x20
    GOTO = 0x21
    CONST8 = 0x22
    CONST16 = 0x23
    CONST32 = 0x24
    CONST64 = 0x25
    REG = 0x26
    END = 0x27
    DUP = 0x28
    POP = 0x29
    ZERO_EXT = 0x2A
    SWAP = 0x2B
    GETV = 0x2C
    SETV = 0x2D
    TRACEV = 0x2E
    TRACENZ = 0x2F
    TRACE16 = 0x30
    PICK = 0x32
    ROT = 0x33
    PRINTF = 0x34


class Shape(NamedTuple):
    """operand: its bytes. pops, pushes: values. (PRINTF and PICK take more: see program.py.)"""

    operand: int
    pops: int
    pushes: int


_BINARY = Shape(0, 2, 1)
_UNARY = Shape(0, 1, 1)
SHAPES: dict[Op, Shape] = {
    **dict.fromkeys(
        (
            Op.ADD, Op.SUB, Op.MUL, Op.DIV_SIGNED, Op.DIV_UNSIGNED, Op.REM_SIGNED, Op.REM_UNSIGNED, Op.LSH,
            Op.RSH_SIGNED, Op.RSH_UNSIGNED, Op.BIT_AND, Op.BIT_OR, Op.BIT_XOR, Op.EQUAL, Op.LESS_SIGNED, Op.LESS_UNSIGNED,
        ),
        _BINARY,
    ),
    **dict.fromkeys((Op.LOG_NOT, Op.BIT_NOT, Op.REF8, Op.REF16, Op.REF32, Op.REF64), _UNARY),
    Op.TRACE: Shape(0, 2, 0), Op.TRACENZ: Shape(0, 2, 0), Op.TRACE_QUICK: Shape(1, 1, 1), Op.TRACE16: Shape(2, 1, 1),
    Op.EXT: Shape(1, 1, 1), Op.ZERO_EXT: Shape(1, 1, 1),
    Op.IF_GOTO: Shape(2, 1, 0), Op.GOTO: Shape(2, 0, 0),
    Op.CONST8: Shape(1, 0, 1), Op.CONST16: Shape(2, 0, 1), Op.CONST32: Shape(4, 0, 1), Op.CONST64: Shape(8, 0, 1),
    Op.REG: Shape(2, 0, 1), Op.END: Shape(0, 0, 0), Op.DUP: Shape(0, 1, 2), Op.POP: Shape(0, 1, 0),
    Op.SWAP: Shape(0, 2, 2), Op.ROT: Shape(0, 3, 3), Op.PICK: Shape(1, 0, 1),
    Op.GETV: Shape(2, 0, 1), Op.SETV: Shape(2, 1, 1), Op.TRACEV: Shape(2, 0, 0), Op.PRINTF: Shape(3, 2, 0),
}  # fmt: skip
"""Of all opcodes but those on floating-point values, which gdb never sends and no stub knows."""
