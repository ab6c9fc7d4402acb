"""The value of an expression on a machine that stands still (or is in front of a breakpoint)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbgvmm.cpu.bits import MASK64
from dbgvmm.debug.expressions.names import Values
from dbgvmm.debug.expressions.tokens import ExpressionError
from dbgvmm.debug.expressions.tree import Binary, Cast, Constant, Fact, Memory, Node, Register, Unary, Variable, arithmetic
from dbgvmm.debug.expressions.types import Type
from dbgvmm.debug.registers import read_register
from dbgvmm.mmu.linear import NotMapped

if TYPE_CHECKING:
    from dbgvmm.machine import Machine

_BITS = 64


def evaluate(node: Node, machine: Machine, values: Values) -> int:
    """The value, in its type's range. Reading changes nothing in the guest. Raises ExpressionError."""
    return _Evaluation(machine, values).value(node)


class _Evaluation:
    def __init__(self, machine: Machine, values: Values) -> None:
        self._machine = machine
        self._values = values

    def value(self, node: Node) -> int:
        match node:
            case Constant(value=value, type=type):
                return type.wrap(value)
            case Register(row=row, bits=bits, shift=shift):
                return read_register(self._machine, row) >> shift & (1 << bits) - 1
            case Fact(name="count"):
                return self._machine.count
            case Fact():
                return self._machine.cpu.cpl
            case Variable(name=name):
                return self._variable(name)
            case Memory(address=address, type=type):
                return self._read(self.value(address) & MASK64, type)
            case Cast(type=type, operand=operand):
                return type.wrap(self.value(operand))
            case Unary():
                return self._unary(node)
            case Binary(operator="&&"):
                return int(bool(self.value(node.left)) and bool(self.value(node.right)))
            case Binary(operator="||"):
                return int(bool(self.value(node.left)) or bool(self.value(node.right)))
            case Binary():
                return self._binary(node)

    def _variable(self, name: str) -> int:
        known = self._values.variables.get(name)
        if known is None:
            raise ExpressionError(f"there is no variable ${name} any more")
        return known[0]

    def _read(self, address: int, type: Type) -> int:
        try:
            data = self._machine.memory.peek(address, type.size)
        except NotMapped as error:
            raise ExpressionError(str(error)) from error
        return type.wrap(int.from_bytes(data, "little"))

    def _unary(self, node: Unary) -> int:
        value = self.value(node.operand)
        match node.operator:
            case "!":
                return int(not value)
            case "-":
                return node.type.wrap(-value)
            case _:
                return node.type.wrap(~value)

    def _binary(self, node: Binary) -> int:
        together = arithmetic(node.left.type, node.right.type)
        left, right = self.value(node.left), self.value(node.right)
        if node.operator in ("<<", ">>"):
            return _shift(node, left, right)
        compared = _compare(node.operator, together.wrap(left), together.wrap(right))
        if compared is not None:
            return int(compared)
        return node.type.wrap(_calculate(node.operator, together.wrap(left), together.wrap(right)))


def _compare(operator: str, left: int, right: int) -> bool | None:
    match operator:
        case "==":
            return left == right
        case "!=":
            return left != right
        case "<":
            return left < right
        case "<=":
            return left <= right
        case ">":
            return left > right
        case ">=":
            return left >= right
        case _:
            return None


def _shift(node: Binary, left: int, right: int) -> int:
    if not 0 <= right < _BITS:
        raise ExpressionError(f"a shift by {right} bits has no meaning: values have {_BITS}")
    value = node.type.wrap(left)
    return node.type.wrap(value << right if node.operator == "<<" else value >> right)


def _calculate(operator: str, left: int, right: int) -> int:
    match operator:
        case "+":
            return left + right
        case "-":
            return left - right
        case "*":
            return left * right
        case "&":
            return left & right
        case "|":
            return left | right
        case "^":
            return left ^ right
        case _:
            if not right:
                raise ExpressionError("division by 0")
            quotient = abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1)
            return quotient if operator == "/" else left - quotient * right
