"""An expression as agent bytecode, which debug/agent_compiler.py makes machine code of (GDB manual, "Agent Expressions")."""

from __future__ import annotations

from typing import Final

from dbgvmm.cpu.bits import MASK64
from dbgvmm.debug.expressions.tree import Binary, Cast, Constant, Memory, Node, Register, Unary, arithmetic
from dbgvmm.debug.expressions.types import IntType, Type
from dbgvmm.debug.gdb_description import GDB_REGISTERS
from gdbstub.agent import Op, Program, decode

_NUMBERS: Final = {row.name: number for number, row in enumerate(GDB_REGISTERS) if row.bits <= 64}
_READS: Final = {1: Op.REF8, 2: Op.REF16, 4: Op.REF32, 8: Op.REF64}
_PLAIN: Final = {"+": Op.ADD, "-": Op.SUB, "*": Op.MUL, "&": Op.BIT_AND, "|": Op.BIT_OR, "^": Op.BIT_XOR}


class NoBytecode(Exception):
    """The expression has a part that bytecode cannot say."""


def program_of(node: Node) -> Program:
    """A program whose value is not 0 where the expression's is not. Raises NoBytecode."""
    writer = _Writer()
    writer.write(node)
    return decode(bytes(writer.code) + bytes((Op.END,)))


class _Writer:
    def __init__(self) -> None:
        self.code = bytearray()

    def _op(self, *ops: int) -> None:
        self.code += bytes(ops)

    def _constant(self, value: int) -> None:
        self._op(Op.CONST64)
        self.code += (value & MASK64).to_bytes(8, "big")

    def _as_type(self, type: Type) -> None:
        """What is on top in the range of a narrower type."""
        if isinstance(type, IntType) and type.bits < 64:
            self._op(Op.EXT if type.signed else Op.ZERO_EXT, type.bits)

    def write(self, node: Node) -> None:
        """Code that leaves the node's value on top, as 64 bits (a signed one with its sign extended)."""
        match node:
            case Constant(value=value, type=type):
                self._constant(type.wrap(value))
            case Register(row=row) if row in _NUMBERS:
                self._register(node)
            case Memory(address=address, type=type):
                self.write(address)
                self._op(_READS[type.size])
                if isinstance(type, IntType) and type.signed:
                    self._as_type(type)
            case Cast(type=type, operand=operand):
                self.write(operand)
                self._as_type(type)
            case Unary():
                self._unary(node)
            case Binary(operator="&&" | "||"):
                self._logic(node)
            case Binary():
                self._binary(node)
            case _:
                raise NoBytecode

    def _register(self, node: Register) -> None:
        self._op(Op.REG)
        self.code += _NUMBERS[node.row].to_bytes(2, "big")
        if node.shift:
            self._constant(node.shift)
            self._op(Op.RSH_UNSIGNED)
        if node.bits < 64:
            self._op(Op.ZERO_EXT, node.bits)

    def _unary(self, node: Unary) -> None:
        if node.operator == "-":
            self._constant(0)
            self.write(node.operand)
            self._op(Op.SUB)
        else:
            self.write(node.operand)
            self._op(Op.LOG_NOT if node.operator == "!" else Op.BIT_NOT)

    def _binary(self, node: Binary) -> None:
        less = Op.LESS_SIGNED if arithmetic(node.left.type, node.right.type).signed else Op.LESS_UNSIGNED
        operator = node.operator
        if operator in ("<<", ">>"):
            self._shift(node)
            return
        first, second = (node.right, node.left) if operator in (">", "<=") else (node.left, node.right)
        self.write(first)
        self.write(second)
        match operator:
            case "==":
                self._op(Op.EQUAL)
            case "!=":
                self._op(Op.EQUAL, Op.LOG_NOT)
            case "<" | ">":
                self._op(less)
            case "<=" | ">=":
                self._op(less, Op.LOG_NOT)
            case _ if operator in _PLAIN:
                self._op(_PLAIN[operator])
            case _:
                raise NoBytecode  # a division by 0 has to be said

    def _shift(self, node: Binary) -> None:
        count = node.right
        if not (isinstance(count, Constant) and 0 <= count.value < 64):
            raise NoBytecode  # a shift by 64 and more has to be said
        self.write(node.left)
        self._constant(count.value)
        signed = isinstance(node.type, IntType) and node.type.signed
        self._op(Op.LSH if node.operator == "<<" else Op.RSH_SIGNED if signed else Op.RSH_UNSIGNED)

    def _logic(self, node: Binary) -> None:
        either = node.operator == "||"
        self.write(node.left)
        if not either:
            self._op(Op.LOG_NOT)
        decided = self._jump(Op.IF_GOTO)
        self.write(node.right)
        self._op(Op.LOG_NOT, Op.LOG_NOT)
        end = self._jump(Op.GOTO)
        self._arrive(decided)
        self._op(Op.CONST8, int(either))
        self._arrive(end)

    def _jump(self, op: Op) -> int:
        self._op(op, 0, 0)
        return len(self.code) - 2

    def _arrive(self, operand: int) -> None:
        if len(self.code) > 0xFFFF:
            raise NoBytecode
        self.code[operand : operand + 2] = len(self.code).to_bytes(2, "big")
