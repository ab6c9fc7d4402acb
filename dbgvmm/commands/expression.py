"""Numbers and addresses as people type them.

    EXPR := TERM { (+ | -) TERM }          TERM := NUMBER | REGISTER | SYMBOL | * TERM | ( EXPR )

NUMBER is decimal, or hexadecimal with 0x. A register may have a `$` in front, as in gdb. `*` reads the eight bytes at
an address. Results are taken modulo 2^64.
"""

from __future__ import annotations

import re
from typing import Final

from dbgvmm.commands.errors import CommandError
from dbgvmm.commands.session import Session
from dbgvmm.cpu.bits import MASK64
from dbgvmm.debug.registers import REGISTERS, read_register
from dbgvmm.debug.system_registers import SYSTEM_ROWS
from dbgvmm.mmu.linear import NotMapped

_TOKEN: Final = re.compile(
    r"\s*(?:(0[xX][0-9a-fA-F]+(?:_[0-9a-fA-F]+)*|[0-9]+(?:_[0-9]+)*)(?![\w.])|\$?([A-Za-z_.][\w.@]*)|([-+*()]))"
)
_LONGEST_NUMBER: Final = 100
_DEEPEST: Final = 100
_ALIASES: Final = {"pc": "rip", "sp": "rsp", "fp": "rbp", "rflags": "eflags"}


def evaluate(session: Session, text: str) -> int:
    """The value of an expression. Raises CommandError."""
    parser = _Parser(session, text)
    value = parser.sum()
    if parser.left:
        raise CommandError(f"{text!r}: {parser.left[0]!r} was not expected here")
    return value & MASK64


class _Parser:
    def __init__(self, session: Session, text: str) -> None:
        self._session = session
        self._text = text
        self.left = _tokens(text)
        self._depth = 0

    def _take(self) -> str:
        if not self.left:
            raise CommandError(
                f"{self._text!r}: something is missing at the end: give a number, a register or a symbol"
            )
        return self.left.pop(0)

    def sum(self) -> int:
        value = self.term()
        while self.left and self.left[0] in ("+", "-"):
            value += self.term() if self._take() == "+" else -self.term()
        return value

    def term(self) -> int:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise CommandError(f"{self._text[:20]!r}... is nested more than {_DEEPEST} deep: write it more simply")
        try:
            return self._term()
        finally:
            self._depth -= 1

    def _term(self) -> int:
        token = self._take()
        if token[0].isdigit():
            if len(token) > _LONGEST_NUMBER:
                raise CommandError(f"{token[:20]}... has {len(token)} digits, and values here have 64 bits")
            return int(token, 16 if token[:2] in ("0x", "0X") else 10)
        if token == "-":
            return -self.term()
        if token == "*":
            return self._read(self.term() & MASK64)
        if token == "(":
            value = self.sum()
            if not self.left or self._take() != ")":
                raise CommandError(f"{self._text!r}: a ')' is missing")
            return value
        if token in ("+", ")"):
            raise CommandError(f"{self._text!r}: {token!r} was not expected here")
        return self._named(token)

    def _read(self, address: int) -> int:
        try:
            return int.from_bytes(self._session.machine.memory.peek(address, 8), "little")
        except NotMapped as error:
            raise CommandError(str(error)) from error

    def _named(self, token: str) -> int:
        name = token.removeprefix("$")
        register = _ALIASES.get(name, name)
        symbol = None if token.startswith("$") else self._session.symbols.find(name)
        # A kernel may have symbols such as "tsc" or "star": for the register of that name write $star.
        if register in REGISTERS and (symbol is None or register not in SYSTEM_ROWS):
            return read_register(self._session.machine, register)
        if symbol is None:
            known = "" if len(self._session.symbols) else " (no symbols are loaded: --symbols FILE)"
            raise CommandError(f"{token!r} is no number, register or symbol{known}; hexadecimal numbers begin with 0x")
        return symbol.address


def _tokens(text: str) -> list[str]:
    tokens: list[str] = []
    at = 0
    while at < len(text.rstrip()):
        match = _TOKEN.match(text, at)
        if match is None:
            raise CommandError(f"{text!r} is no number or address: {text[at:].strip()!r} cannot be read")
        tokens.append(match[0].strip())
        at = match.end()
    if not tokens:
        raise CommandError("an empty expression: give a number, a register or a symbol")
    return tokens


def complete_expression(session: Session, text: str) -> list[str]:
    """Ways to finish the register or symbol that `text` ends with."""
    match = re.search(r"(\$?)([A-Za-z_.][\w.@]*|)$", text)
    if match is None:
        return []
    head, dollar, prefix = text[: match.start()], match[1], match[2]
    names = [f"${name}" for name in REGISTERS if name.startswith(prefix)] if dollar else []
    if not dollar and prefix:
        names = [name for name in REGISTERS if name.startswith(prefix)] + session.symbols.starting_with(prefix)
    return [head + name for name in names]
