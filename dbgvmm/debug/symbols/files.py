"""Symbol tables out of files: an ELF file or a Linux System.map.

Source: System V ABI, chapter 4 "Symbol Table"; nm(1) for the letters of a System.map.
"""

from __future__ import annotations

import re
import struct
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from dbgvmm.debug.symbols.table import Symbol, SymbolError, SymbolTable

_SHN_ABS: Final = 0xFFF1
_SHN_LORESERVE: Final = 0xFF00
_STT_NOTYPE, _STT_OBJECT, _STT_FUNC = 0, 1, 2
_ELF_TYPES: Final = {_STT_NOTYPE: "label", _STT_OBJECT: "data", _STT_FUNC: "code"}
_MAP_LINE: Final = re.compile(r"([0-9a-fA-F]{1,16}) ([a-zA-Z?]) (\S+)(?:\s.*)?")
_ELF_SYMBOL64: Final = struct.Struct("<IBBHQQ")
_ELF_SYMBOL32: Final = struct.Struct("<IIIBBH")


def load_symbols(path: Path) -> SymbolTable:
    """The symbols of an ELF file or a System.map, told apart by content. Raises SymbolError."""
    try:
        with path.open("rb") as file:
            if file.read(4) == b"\x7fELF":
                return SymbolTable(_elf_symbols(path), str(path))
        text = path.read_text("ascii", "replace")
    except OSError as error:
        raise SymbolError(f"symbols {path}: {error.strerror}") from error
    except ELFError as error:
        raise SymbolError(f"symbols {path}: a damaged ELF file ({error}): give another file") from error
    symbols = list(_map_symbols(text, path))
    if not symbols:
        raise SymbolError(
            f"symbols {path}: neither an ELF file nor a System.map: give vmlinux, KERNEL.elf or System.map"
        )
    return SymbolTable(symbols, str(path))


def _elf_symbols(path: Path) -> list[Symbol]:
    found: list[tuple[str, int, int, str, int]] = []
    with path.open("rb") as file:
        elf = ELFFile(file)
        ends = [section["sh_addr"] + section["sh_size"] for section in elf.iter_sections()]
        for section in elf.iter_sections():
            if isinstance(section, SymbolTableSection):
                strings = elf.get_section(section["sh_link"]).data()
                found.extend(_entries(section.data(), strings, elf.elfclass, ends))
    if not found:
        raise SymbolError(f"symbols {path}: the ELF file has no symbol table: give one that was not stripped")
    return _bounded(found)


def _entries(table: bytes, strings: bytes, bits: int, ends: list[int]) -> Iterator[tuple[str, int, int, str, int]]:
    """(name, address, size, kind, the end of its section) of each symbol with a name and a place."""
    layout = _ELF_SYMBOL64 if bits == 64 else _ELF_SYMBOL32
    for fields in layout.iter_unpack(table[: len(table) // layout.size * layout.size]):
        if bits == 64:
            name_at, info, _, section, address, size = fields
        else:
            name_at, address, size, info, _, section = fields
        kind = _ELF_TYPES.get(info & 15)
        if kind is None or not name_at or not section:
            continue
        name = strings[name_at : strings.index(b"\0", name_at)].decode("utf-8", "replace")
        if section == _SHN_ABS:
            yield name, address, 0, "absolute", 0
        elif section < _SHN_LORESERVE and section < len(ends):
            yield name, address, size, kind, ends[section]


def _bounded(found: list[tuple[str, int, int, str, int]]) -> list[Symbol]:
    """A symbol without a size reaches to the next one, at most to the end of its section."""
    starts = sorted({address for _, address, _, kind, _ in found if kind != "absolute"})
    symbols = []
    for name, address, size, kind, limit in found:
        at = bisect_right(starts, address)
        following = starts[at] if at < len(starts) else limit
        symbols.append(Symbol(name, address, address + size if size else min(following, limit), kind))
    return symbols


def _map_symbols(text: str, path: Path) -> Iterator[Symbol]:
    """Lines `ADDRESS LETTER NAME`. Absolute symbols (on x86-64 the per-CPU offsets) get a name but no place."""
    entries: list[tuple[int, str, str]] = []
    for line in text.splitlines():
        match = _MAP_LINE.fullmatch(line)
        if match is not None:
            entries.append((int(match[1], 16), match[2], match[3]))
        elif line.strip():
            raise SymbolError(
                f"symbols {path}: neither an ELF file nor a System.map: give vmlinux, KERNEL.elf or System.map"
            )
    starts = sorted({address for address, letter, _ in entries if letter not in "aA"})
    for address, letter, name in entries:
        if letter in "aA":
            yield Symbol(name, address, address, "absolute")
            continue
        at = bisect_right(starts, address)
        end = starts[at] if at < len(starts) else address + 1
        yield Symbol(name, address, end, "code" if letter in "tTwW" else "data")
