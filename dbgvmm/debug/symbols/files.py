"""Files that symbols are taken from: ELF files, and lists as nm makes them. `load_symbols` tells them apart by content."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from elftools.elf.elffile import ELFFile

from dbgvmm.debug.symbols.build_id import BuildId, file_build_id
from dbgvmm.debug.symbols.call_frames import CALL_FRAME_SECTIONS, CallFrames, read_call_frames
from dbgvmm.debug.symbols.damage import reading
from dbgvmm.debug.symbols.elf import elf_symbols
from dbgvmm.debug.symbols.lines import LineTable, read_lines
from dbgvmm.debug.symbols.nm import nm_symbols
from dbgvmm.debug.symbols.table import Symbol, SymbolError, SymbolTable

T = TypeVar("T")
_ELF_MAGIC = b"\x7fELF"
_LONG_MODE = 64
_WHAT_TO_GIVE = "give vmlinux, KERNEL.elf, System.map or what nm prints"


class SymbolFile(SymbolTable):
    """The symbols of a file, with what else it knows. Line tables and call frames are read when they are first wanted.

    offset: what is added to all addresses in the file, in bytes (a KASLR slide, where a program was loaded). build_id: of
    an ELF file that has one. problems: one line for each part of the file that turned out to be damaged.
    """

    def __init__(
        self, symbols: Iterable[Symbol], path: Path, offset: int = 0, build_id: BuildId | None = None, *, elf: bool = False
    ) -> None:
        super().__init__(symbols, str(path), offset)
        self.path = path
        self.build_id = build_id
        self.problems: list[str] = []
        self.is_elf = elf

    @cached_property
    def lines(self) -> LineTable | None:
        """DWARF's line tables; None without any, or if they are damaged."""
        return self._read(lambda elf: read_lines(elf, self.path, self.offset, self.problems))

    @cached_property
    def call_frames(self) -> CallFrames | None:
        """DWARF's call frame information; None without any, or if it is damaged."""
        return self._read(lambda elf: read_call_frames(elf, str(self.path), self.offset))

    def _read(self, read: Callable[[ELFFile], T | None]) -> T | None:
        if not self.is_elf:
            return None
        try:
            # In an ELF32 container of 64-bit code, addresses are cut: they would fit nothing.
            with (
                reading(f"symbols {self.path}", "its symbols are used, and nothing else"),
                ELFFile.load_from_path(str(self.path)) as elf,
            ):
                return read(elf) if elf.elfclass == _LONG_MODE else None
        except SymbolError as error:
            self.problems.append(str(error))
            return None


def load_symbols(path: Path, offset: int = 0, *, stripped: bool = False) -> SymbolFile:
    """The symbols of an ELF file or of nm's output (a System.map), `offset` bytes higher. Raises SymbolError.

    stripped: an ELF file without any symbols will do, if it has call frames.
    """
    try:
        with path.open("rb") as file:
            if file.read(len(_ELF_MAGIC)) == _ELF_MAGIC:
                return _load_elf(path, offset, stripped)
        text = path.read_text("utf-8", "replace")
    except OSError as error:
        raise SymbolError(f"symbols {path}: {error.strerror}") from error
    symbols = nm_symbols(text)
    if symbols is None:
        raise SymbolError(f"symbols {path}: neither an ELF file nor a System.map: {_WHAT_TO_GIVE}")
    if not symbols:
        raise SymbolError(f"symbols {path}: no symbol in it has an address: give the list of a linked program")
    return SymbolFile(symbols, path, offset)


def _load_elf(path: Path, offset: int, stripped: bool) -> SymbolFile:
    with reading(f"symbols {path}: the ELF file", "give another file"), ELFFile.load_from_path(str(path)) as elf:
        symbols = elf_symbols(elf)
        build_id = file_build_id(elf)
        call_frames = any(elf.get_section_by_name(name) is not None for name in CALL_FRAME_SECTIONS)
    if not symbols and not (stripped and call_frames):
        raise SymbolError(f"symbols {path}: the ELF file has no symbol table: give one that was not stripped")
    return SymbolFile(symbols, path, offset, build_id, elf=True)
