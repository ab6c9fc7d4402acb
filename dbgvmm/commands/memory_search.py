"""`find`: where some bytes are in guest memory."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice
from typing import Final

from dbgvmm.commands.columns import columns
from dbgvmm.commands.errors import CommandError
from dbgvmm.commands.expression import evaluate
from dbgvmm.commands.memory_edit import check_physical
from dbgvmm.commands.parameters import ExpressionWord, Format
from dbgvmm.commands.patterns import pattern_of
from dbgvmm.commands.session import Session
from dbgvmm.commands.table import command
from dbgvmm.commands.words import split_at
from dbgvmm.debug.expressions.types import U64
from dbgvmm.debug.search import LARGEST_LINEAR, linear_pieces, physical_pieces, search

_FORMAT: Final = re.compile(r"([bhwg]?)([0-9]{0,9})([bhwg]?)")
_MOST: Final = 100


@dataclass(frozen=True)
class Found:
    """Where `pattern` begins, lowest address first; `more`: there are others, which were not asked for."""

    pattern: bytes
    physical: bool
    addresses: tuple[int, ...]
    places: tuple[str, ...]
    more: bool

    def __str__(self) -> str:
        if not self.addresses:
            return f"{self.pattern[:32].hex(' ')}{' ...' if len(self.pattern) > 32 else ''}: not found"
        count = len(self.addresses)
        end = f"{count} found" + (f", and more: find/{2 * count} shows them" if self.more else "")
        return f"{columns((place,) for place in self.places)}\n{end}"


@command("find")
def find(session: Session, fmt: Format, *what: ExpressionWord, phys: bool = False) -> Found:
    """Search memory: `find START, +LENGTH, VALUE, ...`, or with the last address instead of +LENGTH.

    Each VALUE is "text" or an expression: of as many bytes as /b, /h, /w or /g say, its hexadecimal digits need, or its
    cast says. Several follow on each other in memory. What is not mapped is passed over. At most 100 places are shown, or
    as many as FMT says: find/w1000. `$_` is then the last one, `$numfound` how many. `--phys`: in physical memory, all of
    which is `find 0, +0, VALUE --phys`. Ctrl-C stops the search.

    For example:

        find 0x100000, +0x10000, "Hello"
        find/g kmain, kernel_end, 0x106000
        find 0x100000, +0x1000, 0x55, 0x4889e5 --phys
    """
    most, letter = _read_format(fmt)
    parts = split_at(" ".join(what), ",")
    if len(parts) < 3 or not all(parts):
        raise CommandError('write find START, +LENGTH, VALUE: for instance find 0x100000, +0x1000, "text"')
    start = evaluate(session, parts[0])
    length = _length(session, start, parts[1], phys)
    pattern = b"".join(pattern_of(session, part, letter) for part in parts[2:])
    if not pattern:
        raise CommandError("there is nothing to search for: the text is empty")
    machine = session.machine
    if phys:
        check_physical(session, start, length)
        pieces = physical_pieces(machine.ram, start, length, session.check_interrupt)
    else:
        if length > LARGEST_LINEAR:
            raise CommandError(f"{length:#x} bytes are too many: search {LARGEST_LINEAR:#x} at a time, or RAM with --phys")
        pieces = linear_pieces(machine.memory, start, length, session.check_interrupt)
    addresses = tuple(islice(search(pieces, pattern), most + 1))
    shown = addresses[:most]
    session.values.variables["numfound"] = len(shown), U64
    if shown:
        session.values.variables["_"] = shown[-1], U64
    places = tuple(f"{at:#x}" if phys else session.name(at) for at in shown)
    return Found(pattern, phys, shown, places, len(addresses) > most)


def _read_format(fmt: str) -> tuple[int, str]:
    """(how many, size letter). Raises CommandError."""
    match = _FORMAT.fullmatch(fmt)
    if match is None or (match[1] and match[3]) or match[2].strip("0") == "" != match[2]:
        raise CommandError(f"{fmt!r} is no format of find: a size of b, h, w and g, and how many to show, as in find/w10")
    return int(match[2] or _MOST), match[1] or match[3]


def _length(session: Session, start: int, text: str, phys: bool) -> int:
    if text.startswith("+"):
        length = evaluate(session, text[1:])
        if phys and not length and not start:
            return session.machine.ram.size
    else:
        length = evaluate(session, text) - start + 1
    if length <= 0:
        raise CommandError(f"{text!r} leaves nothing to search: END is not below START, +LENGTH is above 0")
    return length
