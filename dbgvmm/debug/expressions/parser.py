"""From tokens to a tree.

    EXPR    := operands and, in C's order, || && | ^ & == != < <= > >= << >> + - * / %
    OPERAND := - ~ ! + OPERAND | * OPERAND | & OPERAND | (TYPE) OPERAND | {TYPE} OPERAND | PRIMARY { [ EXPR ] }
    PRIMARY := NUMBER | 'c' | NAME | $NAME | TYPE [ EXPR ] | ( EXPR )

`*` reads eight bytes, or what a pointer's type says; `u32[A]`, `{u32}A` and `*(u32 *)A` are the same. Adding to a pointer
and `[]` count in elements, as in C.
"""

from __future__ import annotations

from typing import Final, NoReturn

from dbgvmm.debug.expressions.names import Names
from dbgvmm.debug.expressions.tokens import ExpressionError, Token, tokenise
from dbgvmm.debug.expressions.tree import Binary, Cast, Constant, Memory, Node, Unary, arithmetic
from dbgvmm.debug.expressions.types import I64, TYPE_NAMES, TYPE_WORDS, U64, IntType, PointerType, Type

_LEVELS: Final = (
    ("||",), ("&&",), ("|",), ("^",), ("&",), ("==", "!="), ("<", "<=", ">", ">="), ("<<", ">>"), ("+", "-"), ("*", "/", "%"),
)  # fmt: skip
_BINDING: Final = {sign: level for level, signs in enumerate(_LEVELS) for sign in signs}
_COMPARISONS: Final = frozenset(("==", "!=", "<", "<=", ">", ">="))
_LOGIC: Final = frozenset(("&&", "||"))
_DEEPEST: Final = 100
_LARGEST_SIGNED: Final = (1 << 63) - 1


def parse(text: str, names: Names) -> Node:
    """The tree of an expression. Raises ExpressionError."""
    parser = _Parser(text, names)
    node = parser.expression(0)
    if parser.token.kind != "end":
        raise ExpressionError(f"{text!r}: {parser.shown()!r} was not expected here")
    return node


class _Parser:
    def __init__(self, text: str, names: Names) -> None:
        self._text = text
        self._names = names
        self._tokens = tokenise(text)
        self._at = 0
        self._depth = 0

    @property
    def token(self) -> Token:
        return self._tokens[self._at]

    def shown(self) -> str:
        return f"${self.token.text}" if self.token.kind == "dollar" else self.token.text

    def _take(self) -> Token:
        token = self.token
        if token.kind == "end":
            raise ExpressionError(
                f"{self._text!r}: something is missing at the end: give a number, a register or a symbol"
            )
        self._at += 1
        return token

    def _is(self, sign: str, ahead: int = 0) -> bool:
        at = self._at + ahead
        return at < len(self._tokens) and self._tokens[at].kind == "sign" and self._tokens[at].text == sign

    def _expect(self, sign: str) -> None:
        if not self._is(sign):
            raise ExpressionError(f"{self._text!r}: a '{sign}' is missing")
        self._at += 1

    # -- operators with two operands

    def expression(self, level: int) -> Node:
        left = self._operand()
        while self.token.kind == "sign" and _BINDING.get(self.token.text, -1) >= level:
            operator = self._take().text
            right = self.expression(_BINDING[operator] + 1)
            left = self._binary(operator, left, right)
        return left

    def _binary(self, operator: str, left: Node, right: Node) -> Node:
        for side in (left, right):
            if isinstance(side.type, IntType) and side.type.bits > 64:
                raise ExpressionError(f"{self._text!r}: a value of {side.type.bits} bits can be shown, but not computed with")
        if operator in _LOGIC:
            return Binary(operator, left, right, I64)
        if operator in _COMPARISONS:
            self._check_sign(operator, left, right)
            return Binary(operator, left, right, I64)
        if operator in ("<<", ">>"):
            return Binary(operator, left, right, arithmetic(left.type, left.type))
        if operator in ("+", "-") and (isinstance(left.type, PointerType) or isinstance(right.type, PointerType)):
            return self._pointer_sum(operator, left, right)
        return Binary(operator, left, right, arithmetic(left.type, right.type))

    def _check_sign(self, operator: str, left: Node, right: Node) -> None:
        """An unsigned value is never below 0: who writes so means a signed one."""
        for value, bound, always in ((left, right, ("<", ">=")), (right, left, (">", "<="))):
            number = _literal(bound)
            unsigned = not (isinstance(value.type, IntType) and value.type.signed)
            if number is not None and unsigned and (number < 0 or (number == 0 and operator in always)) and operator not in (
                "==", "!=",
            ):  # fmt: skip
                raise ExpressionError(
                    f"{self._text!r}: values are unsigned, never below 0: for a signed comparison write (i64) in front of it"
                )

    def _pointer_sum(self, operator: str, left: Node, right: Node) -> Node:
        if isinstance(left.type, PointerType) and isinstance(right.type, PointerType):
            if operator == "+" or left.type.step != right.type.step:
                raise ExpressionError(f"{self._text!r}: two pointers can only be subtracted, and must be of one type")
            distance = Binary("-", Cast(I64, left), Cast(I64, right), I64)
            return Binary("/", distance, Constant(left.type.step, I64), I64)
        if isinstance(right.type, PointerType):
            if operator == "-":
                raise ExpressionError(f"{self._text!r}: a pointer cannot be subtracted from a number")
            left, right = right, left
        assert isinstance(left.type, PointerType)
        scaled = right if left.type.step == 1 else Binary("*", right, Constant(left.type.step, I64), U64)
        return Binary(operator, left, scaled, left.type)

    # -- operands

    def _operand(self) -> Node:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise ExpressionError(f"{self._text[:20]!r}... is nested more than {_DEEPEST} deep: write it more simply")
        try:
            return self._prefixed()
        finally:
            self._depth -= 1

    def _prefixed(self) -> Node:
        if self.token.kind == "sign" and self.token.text in "-~!+*&":
            return self._unary(self._take().text)
        if self._is("("):
            cast = self._type_between("(", ")")
            if cast is not None:
                return Cast(cast[0], self._narrow(self._operand())) if cast[0] else self._void()
        if self._is("{"):
            braces = self._type_between("{", "}")
            if braces is None:
                raise ExpressionError(f"{self._text!r}: what is between {{ and }} has to be a type, as in {{u32}}$rsp")
            return Memory(self._operand(), braces[0] or self._void())
        node = self._primary()
        while self._is("["):
            node = self._indexed(node)
        return node

    def _unary(self, operator: str) -> Node:
        operand = self._operand()
        match operator:
            case "*":
                if isinstance(operand.type, PointerType):
                    return Memory(operand, operand.type.to or self._void())
                return Memory(operand, U64)
            case "&":
                if isinstance(operand, Memory):
                    return operand.address
                if isinstance(operand, Constant) and not operand.literal:
                    return operand  # a symbol is its address anyway
                raise ExpressionError(f"{self._text!r}: only memory and symbols have an address")
            case "+":
                return operand
            case _:
                self._narrow(operand)
                return Unary(operator, operand)

    def _narrow(self, node: Node) -> Node:
        if isinstance(node.type, IntType) and node.type.bits > 64:
            raise ExpressionError(f"{self._text!r}: a value of {node.type.bits} bits can be shown, but not computed with")
        return node

    def _void(self) -> NoReturn:
        raise ExpressionError(f"{self._text!r}: there is nothing of type void to be read: write u8, u32, u64 ...")

    def _indexed(self, base: Node) -> Node:
        self._expect("[")
        index = self.expression(0)
        self._expect("]")
        pointer = base if isinstance(base.type, PointerType) else Cast(PointerType(U64), base)
        assert isinstance(pointer.type, PointerType)
        return Memory(self._pointer_sum("+", pointer, index), pointer.type.to or self._void())

    def _primary(self) -> Node:
        token = self._take()
        match token.kind:
            case "number":
                signed = token.value <= _LARGEST_SIGNED
                return Constant(token.value, I64 if signed else U64, literal=True)
            case "dollar":
                return self._names.dollar(token.text)
            case "line":
                return self._names.line(token.text)
            case "quoted":
                return self._names.symbol(token.text)
            case "name":
                type = TYPE_NAMES.get(token.text)
                if type is not None and self._is("["):
                    self._expect("[")
                    address = self.expression(0)
                    self._expect("]")
                    return Memory(address, type)
                return self._names.plain(token.text)
            case _:
                pass
        if token.text != "(":
            raise ExpressionError(f"{self._text!r}: {token.text!r} was not expected here")
        node = self.expression(0)
        self._expect(")")
        return node

    def _type_between(self, opening: str, closing: str) -> tuple[Type | None] | None:
        """A type (None in a tuple: void) if that is what stands here, else None with nothing taken."""
        words: list[str] = []
        ahead = 1
        while self._tokens[self._at + ahead].kind == "name" and self._tokens[self._at + ahead].text in TYPE_WORDS:
            words.append(self._tokens[self._at + ahead].text)
            ahead += 1
        name = " ".join(words)
        if name not in TYPE_NAMES:
            return None
        type: Type | None = TYPE_NAMES[name]
        while self._is("*", ahead):
            type = PointerType(type)
            ahead += 1
        if not self._is(closing, ahead):
            return None
        self._at += ahead + 1
        return (type,)


def _literal(node: Node) -> int | None:
    """The value of a number as it was typed, with its sign."""
    if isinstance(node, Constant) and node.literal:
        return node.value
    if isinstance(node, Unary) and node.operator == "-":
        value = _literal(node.operand)
        return None if value is None else -value
    return None
