"""Bytes as people write them: text in quotes, numbers with a size."""

from __future__ import annotations

import re
from typing import Final

from dbgvmm.commands.errors import CommandError
from dbgvmm.commands.expression import evaluate_typed
from dbgvmm.commands.memory import SIZES
from dbgvmm.commands.session import Session

_HEXADECIMAL: Final = re.compile(r"0[xX]([0-9a-fA-F_]+)")
_ESCAPE: Final = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_ESCAPES: Final = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"0": b"\0"}


def pattern_of(session: Session, word: str, size_letter: str) -> bytes:
    """The bytes of one value, little-endian. Raises CommandError.

    "text" is its bytes, with C's escapes. A number has the size that `size_letter` says; else as many bytes as its
    hexadecimal digits need (1, 2, 4 or 8), or what its type says: a cast's, eight for a register or a symbol.
    """
    text = word.strip()
    if len(text) > 1 and text[0] == text[-1] == '"':
        return _unescaped(text[1:-1].encode())
    value, type = evaluate_typed(session, text)
    literal = _HEXADECIMAL.fullmatch(text)
    if size_letter:
        size = SIZES[size_letter]
    elif literal is not None:
        digits = len(literal[1].replace("_", ""))
        size = next((size for size in (1, 2, 4, 8) if 2 * size >= digits), 8)
    elif text.isdecimal() or text.removeprefix("-").isdecimal():
        raise CommandError(f"how many bytes is {text}? Say so: /b, /h, /w or /g, a cast as (u32){text}, or hexadecimal digits")
    else:
        size = type.size
    bits = 8 * size
    if not -(1 << bits - 1) <= value < 1 << bits:
        raise CommandError(f"{value:#x} does not fit into {size} byte{'s'[: size > 1]}")
    return (value & (1 << bits) - 1).to_bytes(size, "little")


def _unescaped(text: bytes) -> bytes:
    def one(match: re.Match[bytes]) -> bytes:
        if match[1] is not None:
            return bytes((int(match[1], 16),))
        return _ESCAPES.get(match[2], match[2])

    return _ESCAPE.sub(one, text)


