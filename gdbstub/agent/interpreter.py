"""Running a program: a stack machine of 64-bit values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from gdbstub.agent.formats import FormatError, format_values
from gdbstub.agent.opcodes import Op
from gdbstub.agent.program import Instruction, Program

MAX_STEPS: Final = 100_000
"""Instructions of one evaluation: an expression that loops for ever is an error."""
_MASK: Final = (1 << 64) - 1
_SIGN: Final = 1 << 63
_MAX_STRING: Final = 4096


class EvaluationError(Exception):
    """An evaluation cannot go on; the text says why. Memory that cannot be read, for instance."""


class AgentMachine(Protocol):
    """What an expression may look at and do. Methods raise EvaluationError."""

    def read_register(self, number: int) -> int:
        """By the debugger's number, as an unsigned number of at most 64 bits."""

    def read_memory(self, address: int, length: int) -> bytes:
        """Exactly `length` bytes."""

    def variable(self, number: int) -> int:
        """A trace state variable."""

    def set_variable(self, number: int, value: int) -> None:
        """Set one."""

    def collect_memory(self, address: int, length: int) -> None:
        """Keep memory in the trace frame."""

    def collect_variable(self, number: int) -> None:
        """Keep a trace state variable in the trace frame."""

    def print(self, text: str) -> None:
        """Show text to the debugger's user."""


def _signed(value: int) -> int:
    return value - (1 << 64) if value & _SIGN else value


def _divide(left: int, right: int) -> int:
    """As C does: towards zero."""
    if not right:
        raise EvaluationError("division by zero")
    quotient = abs(left) // abs(right)
    return quotient if (left < 0) == (right < 0) else -quotient


_BINARY: Final[dict[Op, Callable[[int, int], int]]] = {
    Op.ADD: lambda a, b: a + b,
    Op.SUB: lambda a, b: a - b,
    Op.MUL: lambda a, b: a * b,
    Op.DIV_SIGNED: lambda a, b: _divide(_signed(a), _signed(b)),
    Op.DIV_UNSIGNED: _divide,
    Op.REM_SIGNED: lambda a, b: _signed(a) - _divide(_signed(a), _signed(b)) * _signed(b),
    Op.REM_UNSIGNED: lambda a, b: a - _divide(a, b) * b,
    Op.LSH: lambda a, b: a << b if b < 64 else 0,
    Op.RSH_SIGNED: lambda a, b: _signed(a) >> min(b, 63),
    Op.RSH_UNSIGNED: lambda a, b: a >> b if b < 64 else 0,
    Op.BIT_AND: lambda a, b: a & b,
    Op.BIT_OR: lambda a, b: a | b,
    Op.BIT_XOR: lambda a, b: a ^ b,
    Op.EQUAL: lambda a, b: a == b,
    Op.LESS_SIGNED: lambda a, b: _signed(a) < _signed(b),
    Op.LESS_UNSIGNED: lambda a, b: a < b,
}
_SIZES: Final = {Op.REF8: 1, Op.REF16: 2, Op.REF32: 4, Op.REF64: 8}
_CONSTANTS: Final = frozenset((Op.CONST8, Op.CONST16, Op.CONST32, Op.CONST64))


def evaluate(program: Program, machine: AgentMachine) -> int:
    """Run it; the value on top of the stack at the end (0 if there is none), unsigned. Raises EvaluationError."""
    stack: list[int] = []
    instructions, at = program.instructions, program.at
    index = 0
    for _ in range(MAX_STEPS):
        instruction = instructions[index]
        op = instruction.op
        index += 1
        binary = _BINARY.get(op)
        if binary is not None:
            right = stack.pop()
            stack[-1] = int(binary(stack[-1], right)) & _MASK
        elif op in _CONSTANTS:
            stack.append(instruction.operand)
        elif op in _SIZES:
            stack[-1] = int.from_bytes(machine.read_memory(stack[-1], _SIZES[op]), "little")
        elif op is Op.REG:
            stack.append(machine.read_register(instruction.operand) & _MASK)
        elif op is Op.END:
            return stack[-1] if stack else 0
        elif op is Op.GOTO:
            index = at[instruction.operand]
        elif op is Op.IF_GOTO:
            if stack.pop():
                index = at[instruction.operand]
        else:
            _other(instruction, stack, machine)
    raise EvaluationError(f"the expression has not ended after {MAX_STEPS} instructions")


def _other(instruction: Instruction, stack: list[int], machine: AgentMachine) -> None:
    """The less frequent ones."""
    operand = instruction.operand
    match instruction.op:
        case Op.LOG_NOT:
            stack[-1] = int(not stack[-1])
        case Op.BIT_NOT:
            stack[-1] ^= _MASK
        case Op.EXT:
            stack[-1] = _extend(stack[-1], operand)
        case Op.ZERO_EXT:
            stack[-1] &= (1 << operand) - 1
        case Op.DUP:
            stack.append(stack[-1])
        case Op.POP:
            stack.pop()
        case Op.SWAP:
            stack[-1], stack[-2] = stack[-2], stack[-1]
        case Op.ROT:
            stack[-3:] = [stack[-1], stack[-3], stack[-2]]
        case Op.PICK:
            stack.append(stack[-1 - operand])
        case Op.GETV:
            stack.append(machine.variable(operand) & _MASK)
        case Op.SETV:
            machine.set_variable(operand, stack[-1])
        case Op.TRACEV:
            machine.collect_variable(operand)
        case Op.TRACE:
            length = stack.pop()
            machine.collect_memory(stack.pop(), length)
        case Op.TRACENZ:
            length = stack.pop()
            address = stack.pop()
            machine.collect_memory(address, min(length, len(_string(machine, address, length)) + 1))
        case Op.TRACE_QUICK | Op.TRACE16:
            machine.collect_memory(stack[-1], operand)
        case Op.PRINTF:
            _print(instruction, stack, machine)
        case op:
            raise AssertionError(op)


def _extend(value: int, bits: int) -> int:
    """Sign-extend from `bits`."""
    if not 0 < bits < 64:
        return value
    value &= (1 << bits) - 1
    return value | _MASK & ~((1 << bits) - 1) if value >> bits - 1 else value


def _string(machine: AgentMachine, address: int, limit: int = _MAX_STRING) -> bytes:
    """Up to a zero byte, the end of readable memory behind the first byte, or `limit`."""
    data = bytearray()
    while len(data) < limit:
        try:
            byte = machine.read_memory(address + len(data) & _MASK, 1)
        except EvaluationError:
            if not data:
                raise
            break
        if byte == b"\0":
            break
        data += byte
    return bytes(data)


def _print(instruction: Instruction, stack: list[int], machine: AgentMachine) -> None:
    """Below the function and the channel (which mean something to gdb's own styles only) lie the values, the first on top."""
    stack.pop()
    stack.pop()
    values = [stack.pop() for _ in range(instruction.operand)]
    try:
        machine.print(
            format_values(instruction.text, values, lambda address: _string(machine, address).decode("utf-8", "replace"))
        )
    except FormatError as error:
        raise EvaluationError(str(error)) from error
