"""Checks of a line table's header before pyelftools reads it: counts that no table of that length can have (DWARF 5, 6.2.4).

A list of entries without any field takes no bytes, so one that claims to have 2^60 of them would be read for ever.
"""

from __future__ import annotations

from typing import Final

_ESCAPE64: Final = 0xFFFF_FFFF
_DWARF5: Final = 5
_BLOCK, _STRING, _UDATA = 0x09, 0x08, 0x0F
_FIXED: Final = {0x0B: 1, 0x05: 2, 0x06: 4, 0x07: 8, 0x1E: 16}
"""Bytes of DW_FORM_data1, data2, data4, data8, data16."""
_OFFSETS: Final = frozenset((0x0E, 0x1F))
"""DW_FORM_strp, DW_FORM_line_strp: an offset into another section."""


class _Reader:
    def __init__(self, data: bytes, at: int) -> None:
        self.data = data
        self.at = at

    def number(self, size: int) -> int:
        if self.at + size > len(self.data):
            raise ValueError("the line table is cut off")
        self.at += size
        return int.from_bytes(self.data[self.at - size : self.at], "little")

    def uleb(self) -> int:
        value = shift = 0
        while True:
            byte = self.number(1)
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return value

    def string(self) -> None:
        end = self.data.find(b"\0", self.at)
        if end < 0:
            raise ValueError("a name in the line table is cut off")
        self.at = end + 1


def check_line_header(section: bytes, offset: int) -> None:
    """Raises ValueError for a header at `offset` of .debug_line that must not be read."""
    if not 0 <= offset < len(section):
        raise ValueError(f"the line table would be at {offset:#x}, outside its section")
    reader = _Reader(section, offset)
    length, size = reader.number(4), 4
    if length == _ESCAPE64:
        length, size = reader.number(8), 8
    if reader.at + length > len(section):
        raise ValueError("the line table is longer than its section")
    version = reader.number(2)
    if not 2 <= version <= _DWARF5:
        raise ValueError(f"line tables of version {version} are not known")
    if version == _DWARF5:
        reader.number(2)
    reader.number(size)
    reader.number(3 if version < 4 else 4)
    if not reader.number(1):
        raise ValueError("the line table's line_range is 0")
    opcodes = reader.number(1)
    if not opcodes:
        raise ValueError("the line table's opcode_base is 0")
    reader.number(opcodes - 1)
    if version == _DWARF5:
        for _ in range(2):  # directories, files
            _check_entries(reader, size)


def _check_entries(reader: _Reader, offset_size: int) -> None:
    forms = []
    for _ in range(reader.number(1)):
        reader.uleb()
        forms.append(reader.uleb())
    count = reader.uleb()
    if count > len(reader.data) - reader.at or (count and not forms):
        raise ValueError(f"the line table cannot have {count} names")
    for _ in range(count):
        for form in forms:
            if form == _STRING:
                reader.string()
            elif form == _UDATA:
                reader.uleb()
            elif form == _BLOCK:
                reader.number(reader.uleb())
            elif form in _FIXED or form in _OFFSETS:
                reader.number(_FIXED.get(form, offset_size))
            else:
                raise ValueError(f"names of form {form:#x} are not known")
