"""Expressions in commands: what debug/expressions/ makes of them, with a session's names, and errors as CommandError."""

from __future__ import annotations

import re
from typing import Final

from dbgvmm.commands.errors import CommandError
from dbgvmm.commands.session import Session
from dbgvmm.cpu.bits import MASK64
from dbgvmm.debug import expressions
from dbgvmm.debug.expressions import ExpressionCondition, ExpressionError, Type
from dbgvmm.debug.expressions.names import FACTS, FRAME_REGISTERS, PARTS
from dbgvmm.debug.registers import REGISTERS

_LAST_NAME: Final = re.compile(r"(\$?)([A-Za-z_.][\w.@:]*|)$")
_OPEN_QUOTE: Final = re.compile(r"(?:^|[^'\w])'([^']*)$")
_NEEDS_NO_QUOTES: Final = re.compile(r"[A-Za-z_.][\w.@]*(?:::~?[A-Za-z_]\w*)*")


def evaluate(session: Session, text: str) -> int:
    """The value of an expression, modulo 2^64. Raises CommandError."""
    return evaluate_typed(session, text)[0] & MASK64


def evaluate_typed(session: Session, text: str) -> tuple[int, Type]:
    """The value and its type. Raises CommandError."""
    try:
        node = expressions.parse(text, session.names_here)
        return expressions.evaluate(node, session.machine, session.values), node.type
    except ExpressionError as error:
        raise CommandError(str(error)) from error


def condition(session: Session, text: str) -> ExpressionCondition:
    """An expression that a breakpoint asks. Raises CommandError."""
    try:
        return ExpressionCondition(text, expressions.parse(text, session.names), session.machine, session.values)
    except ExpressionError as error:
        raise CommandError(str(error)) from error


def assign(session: Session, left: str, right: str) -> tuple[str, int, Type]:
    """Store `right` to what `left` names; what it is, its value now, its type. Raises CommandError."""
    frame = session.frame
    register = session.names.register(left.strip().removeprefix("$"))
    if frame is not None and register is not None and register.row in FRAME_REGISTERS:
        raise CommandError(f"registers of frame {frame.level} cannot be set: `frame 0` selects the CPU's own")
    try:
        return expressions.assign(session.machine, session.names_here, left, right)
    except ExpressionError as error:
        raise CommandError(str(error)) from error


def complete_expression(session: Session, text: str) -> list[str]:
    """Ways to finish the register, variable or symbol that `text` ends with; a name with signs in it comes in quotes."""
    quote = _OPEN_QUOTE.search(text)
    if quote is not None:
        head = text[: quote.start(1)]
        return [f"{head}{name}'" for name in session.system_symbols.starting_with(quote[1])]
    match = _LAST_NAME.search(text)
    if match is None:
        return []
    head, dollar, prefix = text[: match.start()], match[1], match[2]
    if dollar:
        known = (*REGISTERS, *(PARTS if prefix else ()), *FACTS, *session.values.variables)
        return [f"{head}${name}" for name in known if name.startswith(prefix)]
    if not prefix:
        return []
    names = [name for name in REGISTERS if name.startswith(prefix)]
    for name in session.system_symbols.starting_with(prefix):
        names.append(name if _NEEDS_NO_QUOTES.fullmatch(name) else f"'{name}'")
    return [head + name for name in names]
