"""A directory of programs and of debug files, searched by build id: plain files, or gdb's .build-id/ab/cdef.debug."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from elftools.elf.elffile import ELFFile

from dbgvmm.debug.symbols.build_id import file_build_id
from dbgvmm.debug.symbols.damage import reading
from dbgvmm.debug.symbols.files import SymbolFile, load_symbols
from dbgvmm.debug.symbols.table import SymbolError

MOST_FILES: Final = 20_000
"""Files that are looked at."""
_ELF_MAGIC: Final = b"\x7fELF"


class DebugDirectory:
    """Files by their build ids. Raises SymbolError if there is no such directory."""

    def __init__(self, path: Path) -> None:
        if not path.is_dir():
            raise SymbolError(f"{path}: no directory: give one that has programs or .build-id in it")
        self._path = path
        self._by_id: dict[str, list[Path]] | None = None

    def load(self, build_id: str, offset: int) -> SymbolFile | None:
        """The file with that build id that has the most symbols; None without one. A stripped one still has call frames."""
        best: SymbolFile | None = None
        for path in (*self._by_name(build_id), *self._indexed().get(build_id, ())):
            try:
                found = load_symbols(path, offset, stripped=True)
            except SymbolError:
                continue  # it is damaged, or was stripped of everything: another file may have the same id
            if best is None or len(found) > len(best):
                best = found
        return best

    def _by_name(self, build_id: str) -> Iterator[Path]:
        for base in (self._path / ".build-id", self._path):
            path = base / build_id[:2] / f"{build_id[2:]}.debug"
            if path.is_file():
                yield path

    def _indexed(self) -> dict[str, list[Path]]:
        if self._by_id is None:
            self._by_id = {}
            for path in self._files():
                build_id = _build_id(path)
                if build_id:
                    self._by_id.setdefault(build_id, []).append(path)
        return self._by_id

    def _files(self) -> Iterator[Path]:
        left = MOST_FILES
        for directory, directories, names in os.walk(self._path):
            directories.sort()
            for name in sorted(names):
                left -= 1
                if left < 0:
                    return
                yield Path(directory) / name


def _build_id(path: Path) -> str:
    try:
        if not path.is_file():
            return ""  # a pipe or a device would be waited for
        with path.open("rb") as file:
            if file.read(len(_ELF_MAGIC)) != _ELF_MAGIC:
                return ""
        with reading(str(path), ""), ELFFile.load_from_path(str(path)) as elf:
            found = file_build_id(elf)
    except (OSError, SymbolError):
        return ""
    return found.text if found is not None else ""
