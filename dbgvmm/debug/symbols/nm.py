"""Symbols as nm(1) lists them: a Linux System.map, /proc/kallsyms, `nm`, `nm -S`, `nm -C`, `nm -f posix`, `nm -f sysv`.

Which it is, is seen from the lines. Undefined symbols have no address and are left out.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from typing import Final, NamedTuple

from dbgvmm.debug.symbols.table import Symbol

_HEX: Final = r"[0-9a-fA-F]{1,16}"
_LETTER: Final = r"[a-zA-Z?-]"
# A name may have blanks in it, once it is demangled; what follows a tab is a file and line (-l), or kallsyms' module.
_BSD: Final = re.compile(rf"(?P<address>{_HEX}) (?:(?P<size>{_HEX}) )?(?P<letter>{_LETTER}) (?P<name>[^\t]+)(?:\t.*)?")
_BSD_UNDEFINED: Final = re.compile(r"\s+(?P<letter>[UwWvV]) (?P<name>[^\t]+)(?:\t.*)?")
_POSIX: Final = re.compile(rf"(?P<name>\S.*?) (?P<letter>{_LETTER}) (?P<address>{_HEX})? ?(?P<size>{_HEX})?\s*")
_SYSV: Final = re.compile(
    rf"(?P<name>[^|]+?) *\|(?P<address>{_HEX}| +)\| +(?P<letter>{_LETTER}) +\|[^|]*\|(?P<size>{_HEX}| +)\|[^|]*\|.*"
)
_HEADING: Final = re.compile(r"\S.*:|Symbols from .*:|Name +Value +Class +Type +Size +Line +Section|")
_FORMATS: Final = ((_BSD, _BSD_UNDEFINED), (_POSIX,), (_SYSV,))
_CODE: Final = frozenset("tTwWiI")
_ABSOLUTE: Final = frozenset("aA")
_UNDEFINED: Final = frozenset("U")


class _Line(NamedTuple):
    address: int
    size: int
    letter: str
    name: str


def nm_symbols(text: str) -> list[Symbol] | None:
    """The symbols of nm's output; None if it is something else."""
    for formats in _FORMATS:
        lines = _parse(text, formats)
        if lines is not None:
            return list(_placed(lines))
    return None


def _parse(text: str, formats: tuple[re.Pattern[str], ...]) -> list[_Line] | None:
    lines: list[_Line] = []
    understood = False
    for line in text.splitlines():
        match = next((match for match in (pattern.fullmatch(line) for pattern in formats) if match), None)
        if match is None:
            if _HEADING.fullmatch(line.rstrip()):
                continue
            return None
        understood = True
        fields = match.groupdict()
        if fields.get("address", "").strip() if fields.get("address") else "":
            size = (fields.get("size") or "").strip()
            if fields["letter"] not in _UNDEFINED:
                lines.append(_Line(int(fields["address"], 16), int(size or "0", 16), fields["letter"], fields["name"].rstrip()))
    return lines if understood else None


def _placed(lines: list[_Line]) -> Iterator[Symbol]:
    """Absolute symbols (on x86-64 Linux the per-CPU offsets) get a name but no place."""
    starts = sorted({line.address for line in lines if line.letter not in _ABSOLUTE})
    for address, size, letter, name in lines:
        if letter in _ABSOLUTE:
            yield Symbol(name, address, address, "absolute")
            continue
        at = bisect_right(starts, address)
        end = address + size if size else starts[at] if at < len(starts) else address + 1
        yield Symbol(name, address, end, "code" if letter in _CODE else "data")
