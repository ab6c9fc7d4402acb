"""Call frame information: for each address of code, where the caller's registers are (DWARF 5, 6.4; .eh_frame: LSB 5.0, 10.6).

pyelftools reads it; this says what it says about an address.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Final

from elftools.dwarf.callframe import FDE, CallFrameInfo, CFARule, RegisterRule
from elftools.dwarf.dwarf_expr import DWARFExprOp, DWARFExprParser
from elftools.dwarf.structs import DWARFStructs
from elftools.elf.elffile import ELFFile

from dbgvmm.cpu.bits import MASK64
from dbgvmm.debug.symbols.damage import reading

_ADDRESS_SIZE: Final = 8
CALL_FRAME_SECTIONS: Final = {".debug_frame": False, ".eh_frame": True}
"""Where it stands, and whether in the form that .eh_frame has."""
_ADVICE: Final = "backtraces go by frame pointers there"


@dataclass(frozen=True)
class Expression:
    """A DWARF expression. length: in bytes, for jumps to its end."""

    operations: tuple[DWARFExprOp, ...]
    length: int


@dataclass(frozen=True)
class FrameRow:
    """What holds from one address to the next row's. Registers have DWARF's numbers.

    cfa: (register, offset), or an expression. rules: (kind, argument) for each register that has one; kinds are those of
    pyelftools' RegisterRule. signal: the frame is of interrupted code's handler: the caller's pc is no return address.
    """

    start: int
    cfa: tuple[int, int] | Expression
    rules: Mapping[int, tuple[str, int | Expression | None]]
    return_register: int
    signal: bool


class CallFrames:
    """The entries of some sections, by address. offset: what is added to the addresses in them, in bytes."""

    def __init__(self, entries: list[FDE], structs: DWARFStructs, offset: int) -> None:
        self._offset = offset
        self._parser = DWARFExprParser(structs)
        placed = [
            (start, start + entry.header["address_range"], entry)
            for entry in entries
            if entry.header["address_range"] > 0 and (start := entry.header["initial_location"] & MASK64)
        ]
        placed.sort(key=lambda item: item[0])
        self._starts = [start for start, _, _ in placed]
        self._placed = placed
        self._rows: dict[int, list[FrameRow]] = {}

    def __len__(self) -> int:
        return len(self._placed)

    def row(self, address: int) -> FrameRow | None:
        """What holds at an address of the guest; None where nothing is said. Raises SymbolError for damage."""
        address = address - self._offset & MASK64
        at = bisect_right(self._starts, address) - 1
        if at < 0 or address >= self._placed[at][1]:
            return None
        rows = self._rows.get(at)
        if rows is None:
            with reading("the call frame information", _ADVICE):
                rows = self._decode(self._placed[at][2])
            self._rows[at] = rows
        row = bisect_right(rows, address, key=lambda row: row.start) - 1
        return rows[row] if row >= 0 else None

    def _decode(self, entry: FDE) -> list[FrameRow]:
        cie = entry.cie
        assert cie is not None
        signal = bool(cie.augmentation_dict.get(True))
        return_register = int(cie.header["return_address_register"])
        found = []
        for line in entry.get_decoded().table:
            rules = {
                number: self._rule(rule)
                for number, rule in line.items()
                if isinstance(number, int) and isinstance(rule, RegisterRule)
            }
            found.append(FrameRow(line["pc"] & MASK64, self._cfa(line["cfa"]), rules, return_register, signal))
        return found

    def _cfa(self, rule: CFARule) -> tuple[int, int] | Expression:
        if rule.expr is not None:
            return self._expression(rule.expr)
        if rule.reg is None or rule.offset is None:
            raise ValueError("a row without a CFA")
        return rule.reg, rule.offset

    def _rule(self, rule: RegisterRule) -> tuple[str, int | Expression | None]:
        if rule.arg is None or isinstance(rule.arg, int):
            return rule.type, rule.arg
        return rule.type, self._expression(rule.arg)

    def _expression(self, code: list[int]) -> Expression:
        return Expression(tuple(self._parser.parse_expr(code)), len(code))


def read_call_frames(elf: ELFFile, name: str, offset: int) -> CallFrames | None:
    """What an ELF file has of it; None without any. Raises SymbolError for damage."""
    entries: list[FDE] = []
    found = False
    structs = DWARFStructs(little_endian=True, dwarf_format=32, address_size=_ADDRESS_SIZE)
    with reading(f"symbols {name}: the call frame information", _ADVICE):
        for section_name, is_eh_frame in CALL_FRAME_SECTIONS.items():
            section = elf.get_section_by_name(section_name)
            if section is None or section["sh_type"] == "SHT_NOBITS":
                continue
            found = True
            entries += _entries(section.data(), section["sh_addr"], structs, is_eh_frame)
        return CallFrames(entries, structs, offset) if found else None


def mapped_call_frames(data: bytes, address: int, name: str) -> CallFrames:
    """An .eh_frame section that lies in the guest's memory at a linear address. Raises SymbolError for damage."""
    structs = DWARFStructs(little_endian=True, dwarf_format=32, address_size=_ADDRESS_SIZE)
    with reading(f"{name}: the call frame information", _ADVICE):
        return CallFrames(_entries(data, address, structs, True), structs, 0)


def _entries(data: bytes, address: int, structs: DWARFStructs, is_eh_frame: bool) -> list[FDE]:
    info = CallFrameInfo(BytesIO(data), len(data), address, structs, for_eh_frame=is_eh_frame)
    return [entry for entry in info.get_entries() if isinstance(entry, FDE)]
