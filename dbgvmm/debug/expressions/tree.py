"""The tree of an expression. Each node knows its value's type; names of symbols are addresses by now."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dbgvmm.debug.expressions.types import I64, U64, IntType, PointerType, Type


@dataclass(frozen=True, slots=True)
class Constant:
    """A number, or a symbol's address. literal: it was typed as a number, whose sign adapts to the other side's."""

    value: int
    type: Type
    literal: bool = False


@dataclass(frozen=True, slots=True)
class Register:
    """A register, or `bits` of one from `shift` on (eax, ah)."""

    name: str
    row: str
    bits: int
    shift: int = 0

    @property
    def type(self) -> Type:
        """Unsigned, as wide as it is."""
        return IntType(self.bits, False)


@dataclass(frozen=True, slots=True)
class Fact:
    """What else has a name that begins with `$`: count, cpl."""

    name: str

    @property
    def type(self) -> Type:
        """A count."""
        return U64


@dataclass(frozen=True, slots=True)
class Variable:
    """A convenience variable, asked for when the expression is evaluated."""

    name: str

    @property
    def type(self) -> Type:
        """Signed values are those with the top bit set."""
        return U64


@dataclass(frozen=True, slots=True)
class Memory:
    """What is at a linear address."""

    address: Node
    type: Type


@dataclass(frozen=True, slots=True)
class Cast:
    """A value as another type."""

    type: Type
    operand: Node


@dataclass(frozen=True, slots=True)
class Unary:
    """- ~ !"""

    operator: str
    operand: Node

    @property
    def type(self) -> Type:
        """`-` of a literal is signed."""
        return I64 if self.operator == "!" else arithmetic(self.operand.type, self.operand.type)


@dataclass(frozen=True, slots=True)
class Binary:
    """Arithmetic, shifts, comparisons; && and || with just the evaluations that C has."""

    operator: str
    left: Node
    right: Node
    type: Type


Node = Constant | Register | Fact | Variable | Memory | Cast | Unary | Binary


def arithmetic(left: Type, right: Type) -> IntType:
    """The type in which two operands meet: 64 bits, signed if both are."""
    signed = all(isinstance(one, IntType) and one.signed for one in (left, right))
    return I64 if signed else U64


def walk(node: Node) -> Iterator[Node]:
    """The node and all below it."""
    yield node
    match node:
        case Memory(address=operand) | Cast(operand=operand) | Unary(operand=operand):
            yield from walk(operand)
        case Binary(left=left, right=right):
            yield from walk(left)
            yield from walk(right)
        case _:
            pass


__all__ = [
    "Binary", "Cast", "Constant", "Fact", "Memory", "Node", "PointerType", "Register", "Unary", "Variable", "arithmetic",
    "walk",
]  # fmt: skip
