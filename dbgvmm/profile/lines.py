"""Source lines of addresses, as profiles need them: what is asked of whatever knows some, and what an ELF file knows.

Source: DWARF 5, section 6.2 "Line Number Information"; pyelftools reads it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from elftools.common.exceptions import DWARFError, ELFError
from elftools.construct import ConstructError
from elftools.elf.elffile import ELFFile

_DAMAGE: Final = (
    ELFError, DWARFError, ConstructError, AssertionError, AttributeError, LookupError, TypeError, ValueError, ArithmeticError,
    MemoryError, RecursionError,
)  # fmt: skip
"""pyelftools trusts its input: what a damaged file runs into is whatever Python raises."""


class LineError(Exception):
    """No lines can be read from a file. One line that says what to do."""


class LineRow(NamedTuple):
    """A row of a line table: code from `address` to before `end` is of this line."""

    address: int
    end: int
    file: str
    line: int


class Lines(Protocol):
    """What knows source lines."""

    def line(self, address: int) -> tuple[str, int] | None:
        """File and line of the code at a linear address."""

    def rows(self) -> Iterator[LineRow]:
        """All that is known, executed or not."""


class NoLines:
    """Knows none."""

    def line(self, address: int) -> tuple[str, int] | None:
        """None."""
        return None

    def rows(self) -> Iterator[LineRow]:
        """Nothing."""
        return iter(())


class DwarfLines:
    """The line tables of an ELF file. Raises LineError if it has none, or they are damaged."""

    def __init__(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                elf = ELFFile(file)
                if not elf.has_dwarf_info():
                    raise LineError(f"{path} has no debug information: build it with -g, or give the file that has it")
                self._rows = sorted(_rows(elf.get_dwarf_info()))
        except OSError as error:
            raise LineError(f"{path}: {error.strerror}") from error
        except _DAMAGE as error:
            raise LineError(f"{path}: damaged debug information ({error}): build the file anew") from error
        if not self._rows:
            raise LineError(f"{path} has no line numbers: build it with -g")
        self._addresses = [row.address for row in self._rows]

    def line(self, address: int) -> tuple[str, int] | None:
        """File and line of the code at a linear address."""
        at = bisect_right(self._addresses, address) - 1
        if at < 0 or address >= self._rows[at].end:
            return None
        row = self._rows[at]
        return row.file, row.line

    def rows(self) -> Iterator[LineRow]:
        """All rows, by address."""
        return iter(self._rows)


def _rows(dwarf: Any) -> Iterator[LineRow]:
    for unit in dwarf.iter_CUs():
        program = dwarf.line_program_for_CU(unit)
        if program is None:
            continue
        root = _text(unit.get_top_DIE().attributes.get("DW_AT_comp_dir"))
        files = _files(program, root)
        previous = None
        for entry in program.get_entries():
            state = entry.state
            if state is None:
                continue
            if previous is not None and previous.address < state.address and previous.line and previous.file in files:
                yield LineRow(previous.address, state.address, files[previous.file], previous.line)
            previous = None if state.end_sequence else state


def _files(program: Any, root: str) -> dict[int, str]:
    """Paths by the numbers that the program's rows use: from 1 on, from 0 since DWARF 5."""
    header = program.header
    new = header.version >= 5
    directories = [_decoded(name) for name in header.include_directory]
    if not new:
        directories.insert(0, root)
    return {
        number: str(Path(root, directories[entry.dir_index], _decoded(entry.name)))
        for number, entry in enumerate(header.file_entry, 0 if new else 1)
    }


def _text(attribute: Any) -> str:
    return "" if attribute is None else _decoded(attribute.value)


def _decoded(name: bytes) -> str:
    return name.decode("utf-8", "replace")


__all__ = ["DwarfLines", "LineError", "LineRow", "Lines", "NoLines"]
