"""The line table of one compilation unit, decoded: which line each stretch of code comes from (DWARF 5, 6.2)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from posixpath import join, normpath
from typing import Any, NamedTuple

from elftools.dwarf.lineprogram import LineProgram

from dbgvmm.cpu.bits import MASK64


@dataclass(frozen=True)
class SourceLine:
    """A line of source and one stretch of code that comes from it.

    file: as the compiler was told, relative to where it ran. path: the whole path. line: counted from 1. start, end:
    linear addresses; the end is the first address behind. statement: the code is where a breakpoint on the line belongs.
    """

    file: str
    path: str
    line: int
    start: int
    end: int
    statement: bool

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class Row(NamedTuple):
    """One row of a table: as in SourceLine, with the file's index."""

    start: int
    end: int
    file: int
    line: int
    statement: bool


class SourceFile(NamedTuple):
    """A file that a table names: see SourceLine."""

    file: str
    path: str


class LineUnit:
    """The rows of a line program, by address. Addresses are the file's own."""

    def __init__(self, files: list[SourceFile], rows: list[Row]) -> None:
        self.files = files
        self.rows = sorted(rows, key=lambda row: row.start)
        self._ranges = [row for row in self.rows if row.end > row.start]
        self._starts = [row.start for row in self._ranges]
        self._statements: list[Row] | None = None

    def at(self, address: int, *, statement: bool = False) -> Row | None:
        """The row that covers an address: of several that begin there, the last.

        statement: if that is not where a statement begins, but another that begins there is, that one (as gdb steps).
        """
        index = bisect_right(self._starts, address) - 1
        if index < 0 or address >= self._ranges[index].end:
            return None
        if not statement:
            return self._ranges[index]
        if self._statements is None:
            self._statements = list(self._prefer_statements())
        return self._statements[index]

    def _prefer_statements(self) -> Iterator[Row]:
        latest: Row | None = None
        for row in self.rows:
            if row.statement:
                latest = row
            if row.end == row.start:
                continue
            if not row.statement and latest is not None and latest.start == row.start:
                yield latest._replace(end=row.end)
            else:
                yield row


def decode_unit(program: LineProgram, directory: str) -> LineUnit:
    """Run a line program. directory: where the compiler ran. Raises what damage.DAMAGE lists."""
    files = source_files(program, directory)
    rows: list[Row] = []
    previous = None
    for entry in program.get_entries():
        state = entry.state
        if state is None:
            continue
        address = state.address & MASK64
        if previous is not None:
            start, file, line, statement = previous
            if line > 0 and 0 <= file < len(files) and start <= address:
                rows.append(Row(start, address, file, line, statement))
        previous = None if state.end_sequence else (address, state.file, state.line, bool(state.is_stmt))
    return LineUnit(files, rows)


def source_files(program: LineProgram, directory: str) -> list[SourceFile]:
    """The files that a program names, by the index that its rows use."""
    header = program.header
    five = header["version"] >= 5
    directories = [_text(name) for name in header.get("include_directory", ())]
    if not five:
        directories.insert(0, directory)
    found = [] if five else [SourceFile("", "")]  # counted from 1 up to DWARF 4
    for entry in header.get("file_entry", ()):
        index = entry["dir_index"] or 0
        within = directories[index] if index < len(directories) else ""
        name = _text(entry["name"])
        # Directory 0 is where the compiler ran: what is relative to it is shown so.
        shown = name if not index else join(within, name)
        base = directories[0] if directories else directory
        found.append(SourceFile(normpath(shown), normpath(join(directory, base, within, name))))
    return found


def _text(name: Any) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else ""
