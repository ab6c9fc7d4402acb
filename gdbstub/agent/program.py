"""From bytes to a program that is known to be sound: jumps arrive at instructions, and the stack never under- or overflows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

from gdbstub.agent.opcodes import SHAPES, Op

MAX_STACK: Final = 128
"""Values; gdb itself stops at 100."""
_FIXED_END: Final = (Op.END, Op.GOTO)


class AgentError(Exception):
    """A bytecode that cannot be run; the text says what and where."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction at byte `offset`. `operand` is unsigned; `text` is a printf's format, its final zero dropped."""

    offset: int
    op: Op
    operand: int = 0
    text: bytes = b""

    @property
    def pops(self) -> int:
        """Values that it takes."""
        if self.op is Op.PICK:
            return self.operand + 1
        return SHAPES[self.op].pops + (self.operand if self.op is Op.PRINTF else 0)

    @property
    def pushes(self) -> int:
        """Values that it leaves, those of `pops` that stay included."""
        return self.operand + 2 if self.op is Op.PICK else SHAPES[self.op].pushes


@dataclass(frozen=True)
class Program:
    """A verified program."""

    code: bytes
    instructions: tuple[Instruction, ...]

    @cached_property
    def at(self) -> dict[int, int]:
        """Index of the instruction at each byte offset where one begins."""
        return {instruction.offset: index for index, instruction in enumerate(self.instructions)}


def decode(code: bytes) -> Program:
    """The program that `code` is. Raises AgentError."""
    instructions = []
    at = 0
    while at < len(code):
        instruction, at = _decode_one(code, at)
        instructions.append(instruction)
    program = Program(code, tuple(instructions))
    _verify(program)
    return program


def _decode_one(code: bytes, at: int) -> tuple[Instruction, int]:
    try:
        op = Op(code[at])
    except ValueError:
        raise AgentError(f"byte {at}: {code[at]:#04x} is no opcode") from None
    shape = SHAPES.get(op)
    if shape is None:
        raise AgentError(f"byte {at}: {op.name.lower()} works on floating-point values, which are not supported")
    end = at + 1 + shape.operand
    if end > len(code):
        raise AgentError(f"byte {at}: the operand of {op.name.lower()} is cut off")
    if op is not Op.PRINTF:
        return Instruction(at, op, int.from_bytes(code[at + 1 : end], "big")), end
    length = int.from_bytes(code[at + 2 : end], "big")
    text = code[end : end + length]
    if len(text) < length or not text.endswith(b"\0"):
        raise AgentError(f"byte {at}: the format of printf does not end")
    return Instruction(at, op, code[at + 1], text[:-1]), end + length


def _verify(program: Program) -> None:
    """Follow all ways; where two meet, the stack must be as high."""
    heights: dict[int, int] = {}
    ways = [(0, 0)]
    while ways:
        offset, height = ways.pop()
        index = program.at.get(offset)
        if index is None:
            what = "runs off its end" if offset >= len(program.code) else "jumps into the middle of an instruction"
            raise AgentError(f"the expression {what} at byte {offset}")
        known = heights.get(offset)
        if known is not None:
            if known != height:
                raise AgentError(f"byte {offset}: the stack has {known} values or {height}, as one comes there")
            continue
        heights[offset] = height
        instruction = program.instructions[index]
        if height < instruction.pops:
            raise AgentError(f"byte {offset}: {instruction.op.name.lower()} finds {height} values on the stack")
        height += instruction.pushes - instruction.pops
        if height > MAX_STACK:
            raise AgentError(f"byte {offset}: more than {MAX_STACK} values on the stack")
        if instruction.op in (Op.GOTO, Op.IF_GOTO):
            ways.append((instruction.operand, height))
        if instruction.op not in _FIXED_END:
            following = index + 1
            behind = program.instructions[following].offset if following < len(program.instructions) else len(program.code)
            ways.append((behind, height))
