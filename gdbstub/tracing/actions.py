"""What a tracepoint collects: actions, as they stand in `QTDP` packets one behind the other without separators.

`R mask` registers, `M base,offset,length` memory, `X length,bytes` an expression that collects (GDB manual, "Tracepoint
Packets").
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from gdbstub.agent import AgentError, Op, Program, decode
from gdbstub.errors import MalformedPacket, RspError
from gdbstub.fields import ADDRESS_LIMIT, encode_hex, parse_hex, parse_number

_MASK: Final = re.compile(rb"[0-9a-fA-F]+")
_MEMORY: Final = re.compile(rb"(-1|[0-9a-fA-F]{1,16}),([0-9a-fA-F]{1,16}),([0-9a-fA-F]{1,16})")
_EXPRESSION: Final = re.compile(rb"([0-9a-fA-F]{1,8}),")
_NO_BASE: Final = (b"-1", b"FFFFFFFF", b"ffffffff")
"""What gdb writes for memory at an absolute address."""
_WIDEST_BASE: Final = 8
_COLLECTING: Final = frozenset((Op.TRACE, Op.TRACE_QUICK, Op.TRACE16, Op.TRACENZ, Op.TRACEV))


@dataclass(frozen=True, slots=True)
class CollectRegisters:
    """The registers whose bits are set in `mask`, by the debugger's numbers."""

    mask: int

    @property
    def numbers(self) -> Iterator[int]:
        """Theirs, in order."""
        return register_numbers(self.mask)


@dataclass(frozen=True, slots=True)
class CollectMemory:
    """`length` bytes at `offset` from the value of register `base`, or at the address `offset` if that is None."""

    base: int | None
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class CollectExpression:
    """What `program` collects when it is run; its value does not matter."""

    program: Program


Action = CollectRegisters | CollectMemory | CollectExpression


def register_numbers(mask: int) -> Iterator[int]:
    """The numbers of the bits that are set."""
    while mask:
        lowest = mask & -mask
        yield lowest.bit_length() - 1
        mask ^= lowest


def registers_of(actions: Iterable[Action]) -> int:
    """The mask of all registers that `actions` collect."""
    mask = 0
    for action in actions:
        if isinstance(action, CollectRegisters):
            mask |= action.mask
    return mask


# -- as text


def parse_actions(text: bytes) -> tuple[Action, ...]:
    """The actions in one packet. Raises MalformedPacket, or RspError for an expression that cannot be run."""
    actions: list[Action] = []
    while text:
        letter, rest = text[:1], text[1:]
        match letter:
            case b"R" if (match := _MASK.match(rest)) is not None:
                actions.append(CollectRegisters(int(match[0], 16)))
                text = rest[match.end() :]
            case b"M" if (match := _MEMORY.match(rest)) is not None:
                base = None if match[1] in _NO_BASE else int(match[1], 16)
                actions.append(CollectMemory(base, int(match[2], 16), int(match[3], 16)))
                text = rest[match.end() :]
            case b"X":
                program, text = parse_program(rest)
                actions.append(CollectExpression(program))
            case b"L":
                raise RspError("there are no static tracepoint markers here, so nothing of one can be collected")
            case _:
                raise MalformedPacket(f"{text[:20]!r} is no action: R, M or X is, with what belongs to it")
    return tuple(actions)


def parse_program(text: bytes) -> tuple[Program, bytes]:
    """`length,hex` (what follows an X) as a program, and the rest."""
    match = _EXPRESSION.match(text)
    if match is None:
        raise MalformedPacket("an expression is a length, a comma and bytes")
    end = match.end() + 2 * parse_number(match[1])
    if len(text) < end:
        raise MalformedPacket("an expression is shorter than its length says")
    try:
        return decode(parse_hex(text[match.end() : end])), text[end:]
    except AgentError as error:
        raise RspError(f"agent expression: {error}") from error


def encode_action(action: Action) -> bytes:
    """As gdb reads it back."""
    match action:
        case CollectRegisters(mask):
            return b"R%X" % mask
        case CollectMemory(base, offset, length):
            return (b"M-1" if base is None else b"M%X" % base) + b",%X,%X" % (offset, length)
        case CollectExpression(program):
            return b"X" + encode_program(program)


def encode_program(program: Program) -> bytes:
    """`length,hex`."""
    return b"%X,%s" % (len(program.code), encode_hex(program.code))


# -- what can be carried out


def check_actions(actions: Iterable[Action], register_sizes: Sequence[int]) -> None:
    """Raise RspError for an action that can never be carried out with such registers."""
    for action in actions:
        match action:
            case CollectRegisters():
                for number in action.numbers:
                    if number >= len(register_sizes):
                        raise RspError(f"there is no register {number} to collect")
            case CollectMemory(base, _, length):
                if base is not None:
                    _check_value(base, register_sizes)
                if length >= ADDRESS_LIMIT:
                    raise RspError("more memory than there are addresses")
            case CollectExpression(program):
                _check_registers(program, register_sizes)


def check_condition(program: Program, register_sizes: Sequence[int]) -> None:
    """Raise RspError for a condition that can never be evaluated: one that collects, or reads what is not there."""
    for instruction in program.instructions:
        if instruction.op in _COLLECTING:
            raise RspError(f"a condition collects nothing, and this one has {instruction.op.name.lower()}")
    _check_registers(program, register_sizes)


def _check_registers(program: Program, register_sizes: Sequence[int]) -> None:
    for instruction in program.instructions:
        if instruction.op is Op.REG:
            _check_value(instruction.operand, register_sizes)


def _check_value(number: int, register_sizes: Sequence[int]) -> None:
    size = register_sizes[number] if number < len(register_sizes) else 0
    if not size:
        raise RspError(f"there is no register {number}")
    if size > _WIDEST_BASE:
        raise RspError(f"register {number} has {8 * size} bits: too many for an address or an expression")
