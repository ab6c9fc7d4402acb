"""printf formats as gdb sends them: with the backslashes of C source, and values of 64 bits."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

_MASK64 = (1 << 64) - 1
_ESCAPES = {
    "n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v", "e": "\x1b", "\\": "\\", '"': '"',
    "'": "'", "?": "?",
}  # fmt: skip
_ESCAPE = re.compile(r"\\([0-7]{1,3}|x[0-9a-fA-F]+|.)", re.DOTALL)
_DIRECTIVE = re.compile(
    r"%(?P<flags>[-+ #0]*)(?P<width>\d*)(?:\.(?P<precision>\d*))?(?P<size>hh|h|ll|l|j|z|t)?(?P<kind>.)", re.DOTALL
)
_BITS = {"hh": 8, "h": 16, None: 32, "l": 64, "ll": 64, "j": 64, "z": 64, "t": 64}
_MAX_FIELD = 1000

ReadString = Callable[[int], str]


class FormatError(Exception):
    """A format that cannot be used; the text says why."""


def format_values(template: bytes, values: Sequence[int], read_string: ReadString) -> str:
    """What C's printf would print. `read_string` reads a zero-terminated string of the target, for %s. Raises FormatError."""
    text = template.decode("utf-8", "replace")
    left = list(values)
    out: list[str] = []
    at = 0
    for match in _DIRECTIVE.finditer(text):
        out.append(_unescape(text[at : match.start()]))
        at = match.end()
        if match["kind"] == "%":
            out.append("%")
            continue
        if not left:
            raise FormatError(f"the format {text!r} wants more than {len(values)} values")
        out.append(_convert(match, left.pop(0), read_string))
    out.append(_unescape(text[at:]))
    return "".join(out)


def _unescape(text: str) -> str:
    def one(match: re.Match[str]) -> str:
        body = match[1]
        if body[0] in "01234567":
            return chr(int(body, 8) & 0xFF)
        if body[0] == "x" and len(body) > 1:
            return chr(int(body[1:], 16) & 0xFF)
        return _ESCAPES.get(body, body)

    return _ESCAPE.sub(one, text)


def _convert(match: re.Match[str], value: int, read_string: ReadString) -> str:
    flags, width, precision, kind = match["flags"], match["width"], match["precision"], match["kind"]
    if int(width or 0) > _MAX_FIELD or int(precision or 0) > _MAX_FIELD:
        raise FormatError(f"{match[0]}: a field of more than {_MAX_FIELD} characters")
    bits = _BITS[match["size"]]
    spec = f"%{flags}{width}" + ("" if precision is None else f".{precision or 0}")
    if kind == "s":
        return (spec + "s") % read_string(value)
    if kind == "c":
        return (f"%{flags}{width}s") % chr(value & 0xFF)
    if kind == "p":
        return (f"%{flags}{width}s") % f"{value & _MASK64:#x}"
    value &= (1 << bits) - 1
    if kind in "di":
        if value >> bits - 1:
            value -= 1 << bits
        return (spec + "d") % value
    if kind == "u":
        return (spec + "d") % value
    if kind in "xX":
        return (spec + kind) % value
    if kind == "o":
        return (spec + "o") % value
    raise FormatError(f"{match[0]}: %{kind} is not supported")
