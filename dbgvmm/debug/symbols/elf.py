"""Symbols of an ELF file: .symtab, and .dynsym where a file was stripped (System V ABI, chapter 4 "Symbol Table")."""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator
from typing import Final, NamedTuple

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from dbgvmm.debug.symbols.table import Symbol

_SHN_ABS: Final = 0xFFF1
_SHN_LORESERVE: Final = 0xFF00
_STT_NOTYPE, _STT_OBJECT, _STT_FUNC, _STT_GNU_IFUNC = 0, 1, 2, 10
ELF_KINDS: Final = {_STT_NOTYPE: "label", _STT_OBJECT: "data", _STT_FUNC: "code", _STT_GNU_IFUNC: "code"}
"""A symbol's type (the lower half of st_info) and what kind it is; others have no place."""
SYMBOL64: Final = struct.Struct("<IBBHQQ")
_SYMBOL32: Final = struct.Struct("<IIIBBH")


class RawSymbol(NamedTuple):
    """A symbol as it stands in a table. limit: the end of its section, 0 if it is not known."""

    name: str
    address: int
    size: int
    kind: str
    limit: int


def elf_symbols(elf: ELFFile) -> list[Symbol]:
    """The symbols that have a name and an address; none for a stripped file. Raises what damage.DAMAGE lists."""
    bounds = [(section["sh_addr"], section["sh_addr"] + section["sh_size"]) for section in elf.iter_sections()]
    found: list[RawSymbol] = []
    for section in elf.iter_sections():
        if isinstance(section, SymbolTableSection) and section["sh_type"] != "SHT_NOBITS":
            strings = elf.get_section(section["sh_link"]).data()
            found.extend(_entries(section.data(), strings, elf.elfclass, bounds))
    return bounded(found)


def _entries(table: bytes, strings: bytes, bits: int, bounds: list[tuple[int, int]]) -> Iterator[RawSymbol]:
    layout = SYMBOL64 if bits == 64 else _SYMBOL32
    for fields in layout.iter_unpack(table[: len(table) // layout.size * layout.size]):
        if bits == 64:
            name_at, info, _, section, address, size = fields
        else:
            name_at, address, size, info, _, section = fields
        kind = ELF_KINDS.get(info & 15)
        if kind is None or not name_at or not section or name_at >= len(strings):
            continue
        name = name_in(strings, name_at)
        if section == _SHN_ABS:
            yield RawSymbol(name, address, 0, "absolute", 0)
        elif section < _SHN_LORESERVE and section < len(bounds):
            start, end = bounds[section]
            # A linker script's label may be elsewhere than in the section that it is counted to.
            yield RawSymbol(name, address, size, kind, end if start <= address <= end else address)


def name_in(strings: bytes, at: int) -> str:
    """The string that begins at an offset of a string table."""
    end = strings.find(b"\0", at)
    return strings[at : end if end >= 0 else len(strings)].decode("utf-8", "replace")


def bounded(found: list[RawSymbol]) -> list[Symbol]:
    """A symbol without a size reaches to the next one, at most to the end of its section."""
    starts = sorted({symbol.address for symbol in found if symbol.kind != "absolute"})
    symbols = []
    for name, address, size, kind, limit in found:
        at = bisect_right(starts, address)
        following = starts[at] if at < len(starts) else limit or address + 1
        symbols.append(Symbol(name, address, address + size if size else min(following, limit or following), kind))
    return symbols
