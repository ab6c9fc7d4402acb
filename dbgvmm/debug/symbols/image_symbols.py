"""What a mapped ELF image says about itself: its dynamic symbols, which every shared object carries where its loader finds
them (System V ABI, chapter 5 "Dynamic Section", "Hash Table"; DT_GNU_HASH as binutils writes it), and its .eh_frame.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import cached_property
from typing import Final

from dbgvmm.cpu.bits import MASK64
from dbgvmm.debug.symbols.call_frames import CallFrames, mapped_call_frames
from dbgvmm.debug.symbols.elf import ELF_KINDS, SYMBOL64, RawSymbol, bounded, name_in
from dbgvmm.debug.symbols.image import Image, Read, SegmentKind
from dbgvmm.debug.symbols.table import SymbolError, SymbolTable
from dbgvmm.hardware.layout import PAGE_SIZE

MOST_SYMBOLS: Final = 1 << 18
LONGEST_STRINGS: Final = 1 << 24
LONGEST_CALL_FRAMES: Final = 1 << 23
"""Bytes."""
_LONGEST_DYNAMIC: Final = 1 << 14
_MOST_SECTIONS: Final = 1024
_SHN_LORESERVE: Final = 0xFF00
_DYNAMIC: Final = struct.Struct("<QQ")
_SECTION: Final = struct.Struct("<IIQQQQIIQQ")
_SHT_SYMTAB: Final = 2
_EH_FRAME_HEADER: Final = 8
_PCREL_SDATA4: Final = 0x1B


class _Tag:
    """d_tag."""

    NULL, HASH, STRTAB, SYMTAB, STRSZ, SONAME = 0, 4, 5, 6, 10, 14
    GNU_HASH = 0x6FFF_FEF5


class ImageSymbols(SymbolTable):
    """The symbols of a mapped image, as far as they are mapped. Its call frames are read when they are first wanted.

    name: what the image calls itself (DT_SONAME), "" if it does not say. problems: one line for each part that is damaged.
    """

    def __init__(self, image: Image, read: Read) -> None:
        self.image = image
        self.problems: list[str] = []
        self._read = read
        tags = self._tags()
        strings = self._strings(tags)
        self.name = name_in(strings, tags[_Tag.SONAME]) if 0 < tags.get(_Tag.SONAME, 0) < len(strings) else ""
        title = f"{self.name or 'ELF image'} at {image.address:#x}"
        found = [*self._dynamic(tags, strings), *self._sections()]
        super().__init__(bounded(found), title, image.bias)

    def _u32(self, address: int) -> int | None:
        data = self._read(address & MASK64, 4)
        return int.from_bytes(data, "little") if len(data) == 4 else None

    def _tags(self) -> dict[int, int]:
        segment = self.image.of_kind(SegmentKind.DYNAMIC)
        if segment is None:
            return {}
        data = self._read(segment.address + self.image.bias & MASK64, min(segment.in_memory, _LONGEST_DYNAMIC))
        tags: dict[int, int] = {}
        for tag, value in _DYNAMIC.iter_unpack(data[: len(data) // _DYNAMIC.size * _DYNAMIC.size]):
            if tag == _Tag.NULL:
                break
            tags.setdefault(tag, value)
        return tags

    def _place(self, pointer: int) -> int:
        """Where a pointer of the dynamic section leads: some loaders have added the bias already."""
        image = self.image
        return pointer if image.address <= pointer < image.end else pointer + image.bias & MASK64

    def _strings(self, tags: dict[int, int]) -> bytes:
        if _Tag.STRTAB not in tags:
            return b""
        return self._read(self._place(tags[_Tag.STRTAB]), min(tags.get(_Tag.STRSZ, 0), LONGEST_STRINGS))

    def _dynamic(self, tags: dict[int, int], strings: bytes) -> Iterator[RawSymbol]:
        if _Tag.SYMTAB not in tags:
            return iter(())
        count = min(self._count(tags), MOST_SYMBOLS)
        table = self._read(self._place(tags[_Tag.SYMTAB]), count * SYMBOL64.size)
        return self._entries(table, strings)

    def _count(self, tags: dict[int, int]) -> int:
        """How many symbols there are: nothing says so but the hash tables, which have to reach each."""
        if _Tag.HASH in tags:
            return self._u32(self._place(tags[_Tag.HASH]) + 4) or 0
        if _Tag.GNU_HASH in tags:
            return self._gnu_count(self._place(tags[_Tag.GNU_HASH]))
        span = tags.get(_Tag.STRTAB, 0) - tags[_Tag.SYMTAB]
        return max(span, 0) // SYMBOL64.size  # by custom the strings follow the symbols

    def _gnu_count(self, at: int) -> int:
        header = self._read(at, 16)
        if len(header) < 16:
            return 0
        buckets, first, bloom_words, _ = struct.unpack("<4I", header)
        buckets = min(buckets, MOST_SYMBOLS)
        buckets_at = at + 16 + 8 * min(bloom_words, MOST_SYMBOLS)
        data = self._read(buckets_at & MASK64, 4 * buckets)
        last = max(struct.unpack(f"<{len(data) // 4}I", data[: len(data) // 4 * 4]), default=0)
        if last < first:
            return int(first)
        chain_at = buckets_at + 4 * buckets
        while last - first < MOST_SYMBOLS:
            value = self._u32(chain_at + 4 * (last - first))
            last += 1
            if value is None or value & 1:
                break
        return int(last)

    @staticmethod
    def _entries(table: bytes, strings: bytes) -> Iterator[RawSymbol]:
        size = SYMBOL64.size
        for name_at, info, _, section, address, length in SYMBOL64.iter_unpack(table[: len(table) // size * size]):
            kind = ELF_KINDS.get(info & 15)
            if kind is not None and 0 < name_at < len(strings) and 0 < section < _SHN_LORESERVE:
                yield RawSymbol(name_in(strings, name_at), address, length, kind, 0)

    def _sections(self) -> Iterator[RawSymbol]:
        """The symbols of .symtab, if that part of the file happens to be mapped, as all of a vDSO is."""
        image = self.image
        data = self._file(image.sections_at, min(image.section_count, _MOST_SECTIONS) * _SECTION.size)
        sections = list(_SECTION.iter_unpack(data[: len(data) // _SECTION.size * _SECTION.size]))
        for _, kind, _, _, offset, size, link, *_ in sections:
            if kind == _SHT_SYMTAB and link < len(sections):
                strings = self._file(sections[link][4], min(sections[link][5], LONGEST_STRINGS))
                yield from self._entries(self._file(offset, min(size, MOST_SYMBOLS * SYMBOL64.size)), strings)

    def _file(self, offset: int, size: int) -> bytes:
        """A part of the file, if a segment's last page has brought it in."""
        for segment in self.image.segments:
            start = segment.offset & -PAGE_SIZE
            end = segment.offset + segment.in_file + PAGE_SIZE - 1 & -PAGE_SIZE
            cleared = segment.in_memory > segment.in_file  # what is behind its part of the file is .bss, not the file
            if segment.kind == SegmentKind.LOAD and start <= offset and offset + size <= end and not cleared:
                return self._read(segment.address - segment.offset + offset + self.image.bias & MASK64, size)
        return b""

    @cached_property
    def call_frames(self) -> CallFrames | None:
        """The image's .eh_frame, as far as it is mapped; None without one, or if it is damaged."""
        segment = self.image.of_kind(SegmentKind.GNU_EH_FRAME)
        if segment is None:
            return None
        header_at = segment.address + self.image.bias & MASK64
        header = self._read(header_at, _EH_FRAME_HEADER)
        if len(header) < _EH_FRAME_HEADER or header[1] != _PCREL_SDATA4:
            return None
        start = header_at + 4 + int.from_bytes(header[4:8], "little", signed=True) & MASK64
        data = self._read(start, min(max(self.image.segment_end(start) - start, 0), LONGEST_CALL_FRAMES))
        try:
            return mapped_call_frames(data[: _whole_entries(data)], start, self.source)
        except SymbolError as error:
            self.problems.append(str(error))
            return None


def _whole_entries(data: bytes) -> int:
    """The length of the entries up to the terminator, or to the last that is there as a whole."""
    at = 0
    while at + 4 <= len(data):
        length = int.from_bytes(data[at : at + 4], "little")
        if not length or at + 4 + length > len(data):
            break
        at += 4 + length
    return at
