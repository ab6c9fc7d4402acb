"""From an expression's text to tokens."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

_TOKEN: Final = re.compile(
    r"""\s*(?:
    (?P<line>[\w./-]*\.[A-Za-z]\w*:[0-9]+)
    |(?P<number>0[xX][0-9a-fA-F]+(?:_[0-9a-fA-F]+)*(?![\w.])|0[bB][01]+(?:_[01]+)*(?![\w.])|[0-9]+(?:_[0-9]+)*(?![\w.]))
    |(?P<char>'(?:[^'\\]|\\(?:x[0-9a-fA-F]{2}|.))')
    |'(?P<quoted>[^']+)'
    |\$(?P<dollar>[\w.]*\$?[0-9]*)
    |(?P<name>[A-Za-z_.][\w.@]*(?:::~?[A-Za-z_]\w*)*)
    |(?P<sign><<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&|^~!<>()\[\]{}])
    )""",
    re.VERBOSE,
)
_LONGEST_NUMBER: Final = 100

Kind = Literal["number", "dollar", "name", "quoted", "line", "sign", "end"]


class ExpressionError(Exception):
    """An expression cannot be read or has no value. The message is one line that says why."""


@dataclass(frozen=True, slots=True)
class Token:
    """One token. value: a number's. A `dollar` is without its `$`; a `line` is FILE:LINE."""

    kind: Kind
    text: str
    value: int = 0


def tokenise(text: str) -> list[Token]:
    """The tokens, with an `end` behind them. Raises ExpressionError."""
    stripped = text.strip()
    if len(stripped) > 1 and stripped[0] == stripped[-1] == '"' and '"' not in stripped[1:-1]:
        stripped = stripped[1:-1].strip()  # quotes that keep its words together
    if not stripped:
        raise ExpressionError("an empty expression: give a number, a register or a symbol")
    found: list[Token] = []
    at = 0
    while at < len(stripped):
        match = _TOKEN.match(stripped, at)
        if match is None:
            raise ExpressionError(f"{text!r} is no number or address: {stripped[at:].strip()!r} cannot be read")
        found.append(_token(match))
        at = match.end()
    return [*found, Token("end", "")]


def _token(match: re.Match[str]) -> Token:
    if (number := match["number"]) is not None:
        if len(number) > _LONGEST_NUMBER:
            raise ExpressionError(f"{number[:20]}... has {len(number)} digits, and values here have 64 bits")
        base = {"0x": 16, "0b": 2}.get(number[:2].lower(), 10)
        return Token("number", number, int(number, base))
    if (char := match["char"]) is not None:
        return Token("number", char, _character(char[1:-1]))
    for kind in ("line", "quoted", "dollar", "name"):
        if (text := match[kind]) is not None:
            return Token(kind, text)
    return Token("sign", match["sign"])


def _character(text: str) -> int:
    """The code of what stands between the quotes of a character."""
    if text[0] != "\\":
        return ord(text)
    if text[1] == "x":
        return int(text[2:], 16)
    return {"n": 10, "t": 9, "r": 13, "0": 0, "a": 7, "b": 8, "f": 12, "v": 11, "e": 27}.get(text[1], ord(text[1]))
