"""Lines of source for addresses, and addresses for lines: the DWARF line tables of a file, unit by unit as they are wanted.

Source: DWARF 5, 6.2 (line tables), 6.1.2 (which unit covers an address); DWARF 4 likewise. pyelftools reads both.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path, PurePosixPath

from elftools.dwarf.compileunit import CompileUnit
from elftools.dwarf.dwarfinfo import DWARFInfo
from elftools.dwarf.lineprogram import LineProgram
from elftools.elf.elffile import ELFFile

from dbgvmm.cpu.bits import MASK64
from dbgvmm.debug.symbols.damage import reading
from dbgvmm.debug.symbols.line_header import check_line_header
from dbgvmm.debug.symbols.line_unit import LineUnit, Row, SourceFile, SourceLine, decode_unit, source_files
from dbgvmm.debug.symbols.table import SymbolError


class LineTable:
    """The line tables of a file. offset: what is added to the addresses in it. A unit is decoded when it is first asked for.

    problems: gets one line for each unit that turns out to be damaged; the others go on.
    """

    def __init__(self, dwarf: DWARFInfo, name: str, offset: int, problems: list[str]) -> None:
        self._dwarf = dwarf
        self._name = name
        self._offset = offset
        self._problems = problems
        self._decoded: dict[int, LineUnit | None] = {}
        self._programs: dict[int, tuple[LineProgram, str] | None] = {}
        self._files: dict[int, list[SourceFile]] | None = None
        section = dwarf.debug_line_sec
        if section is not None:
            section.stream.seek(0)
        self._section = b"" if section is None else section.stream.read()
        self._units = self._compile_units()
        self._ranges, self._unranged = self._place_units()
        self._starts = [start for start, _, _ in self._ranges]

    def _compile_units(self) -> dict[int, CompileUnit]:
        units: dict[int, CompileUnit] = {}
        try:
            with reading(f"symbols {self._name}: the list of units", "lines are known as far as it goes"):
                for unit in self._dwarf.iter_CUs():
                    units[unit.cu_offset] = unit
        except SymbolError as error:
            self._problems.append(str(error))
        return units

    def _place_units(self) -> tuple[list[tuple[int, int, int]], list[int]]:
        """(start, end, unit) of each range that the file lists, and the units of which it lists none."""
        ranges: list[tuple[int, int, int]] = []
        try:
            with reading(f"symbols {self._name}: the index of units", "all units are searched instead"):
                index = self._dwarf.get_aranges()
                for entry in index.entries if index is not None else ():
                    if entry.info_offset in self._units and entry.length > 0:
                        ranges.append((entry.begin_addr, entry.begin_addr + entry.length, entry.info_offset))
        except SymbolError as error:
            self._problems.append(str(error))
        ranges.sort()
        placed = {unit for _, _, unit in ranges}
        return ranges, [unit for unit in self._units if unit not in placed]

    def at(self, address: int, *, statement: bool = False) -> SourceLine | None:
        """The line that the code at a linear address comes from. statement: see LineUnit.at."""
        own = address - self._offset & MASK64
        for number in self._candidates(own):
            unit = self._unit(number)
            row = unit.at(own, statement=statement) if unit is not None else None
            if unit is not None and row is not None:
                return self._line(unit, row)
        return None

    def _candidates(self, address: int) -> Iterator[int]:
        at = bisect_right(self._starts, address) - 1
        if at >= 0 and address < self._ranges[at][1]:
            yield self._ranges[at][2]
        yield from self._unranged

    def places(self, file: str, line: int) -> tuple[SourceLine, ...]:
        """The stretches of code of a line, the lowest address first; of the next line that has code if that line has none.

        file: its name, with as much of its path as is needed to tell it from others.
        """
        best: list[SourceLine] = []
        for number, files in self._named_files().items():
            wanted = {index for index, known in enumerate(files) if _is_named(known, file)}
            unit = self._unit(number) if wanted else None
            if unit is None:
                continue
            for row in unit.rows:
                if row.file in wanted and row.statement and row.line >= line:
                    if best and row.line > best[0].line:
                        continue
                    if best and row.line < best[0].line:
                        best.clear()
                    best.append(self._line(unit, row))
        return tuple(_joined(best))

    def files(self) -> set[str]:
        """The names of all files of which there may be code."""
        return {known.file for files in self._named_files().values() for known in files if known.file}

    def _named_files(self) -> dict[int, list[SourceFile]]:
        if self._files is None:
            self._files = {}
            for number in self._units:
                found = self._program(number)
                if found is not None:
                    self._files[number] = source_files(*found)
        return self._files

    def _line(self, unit: LineUnit, row: Row) -> SourceLine:
        file, path = unit.files[row.file]
        start = row.start + self._offset & MASK64
        return SourceLine(file, path, row.line, start, start + row.end - row.start, row.statement)

    def _unit(self, number: int) -> LineUnit | None:
        if number not in self._decoded:
            self._decoded[number] = None
            found = self._program(number)
            if found is not None:
                try:
                    with self._reading(number):
                        self._decoded[number] = decode_unit(*found)
                except SymbolError as error:
                    self._problems.append(str(error))
        return self._decoded[number]

    def _program(self, number: int) -> tuple[LineProgram, str] | None:
        """A unit's line program, and the directory in which it was compiled."""
        if number not in self._programs:
            self._programs[number] = None
            try:
                with self._reading(number):
                    self._programs[number] = self._parse(self._units[number])
            except SymbolError as error:
                self._problems.append(str(error))
        return self._programs[number]

    def _reading(self, number: int) -> AbstractContextManager[None]:
        return reading(f"symbols {self._name}: the line table of unit {number:#x}", "no lines are known there")

    def _parse(self, unit: CompileUnit) -> tuple[LineProgram, str] | None:
        attributes = unit.get_top_DIE().attributes
        if "DW_AT_stmt_list" not in attributes:
            return None
        check_line_header(self._section, attributes["DW_AT_stmt_list"].value)
        program = self._dwarf.line_program_for_CU(unit)
        directory = attributes.get("DW_AT_comp_dir")
        value = directory.value if directory is not None else b""
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else ""
        if program is None:
            return None
        source_files(program, text)
        return program, text


def _is_named(known: SourceFile, name: str) -> bool:
    parts = PurePosixPath(name).parts
    return bool(parts) and PurePosixPath(known.path).parts[-len(parts) :] == parts


def _joined(lines: Iterable[SourceLine]) -> Iterator[SourceLine]:
    """Stretches of one line that follow each other without a gap as one."""
    pending: SourceLine | None = None
    for line in sorted(set(lines), key=lambda line: (line.start, line.end)):
        if pending is not None and pending.path == line.path and line.start <= pending.end:
            end = max(pending.end, line.end)
            pending = SourceLine(pending.file, pending.path, pending.line, pending.start, end, True)
            continue
        if pending is not None:
            yield pending
        pending = line
    if pending is not None:
        yield pending


def read_lines(elf: ELFFile, path: Path, offset: int, problems: list[str]) -> LineTable | None:
    """The line tables of an ELF file; None without any. Raises SymbolError for damage."""
    with reading(f"symbols {path}: the debug information", "its symbols are used without lines"):
        if not elf.has_dwarf_info(strict=True):
            return None
        dwarf = elf.get_dwarf_info(relocate_dwarf_sections=False, follow_links=False)
        return LineTable(dwarf, str(path), offset, problems) if dwarf.debug_line_sec is not None else None
