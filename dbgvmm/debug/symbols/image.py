"""ELF images that are mapped in a process: found by their headers in its memory (System V ABI, chapter 5 "Program Header").

Everything here is read from memory that anybody may have written: sizes and counts are bounded, pointers may lead nowhere.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from dbgvmm.cpu.bits import MASK64
from dbgvmm.debug.symbols.build_id import LONGEST_NOTES, build_id_in
from dbgvmm.hardware.layout import PAGE_SIZE
from dbgvmm.hardware.memory import PhysicalMemory
from dbgvmm.hardware.paging import PTE
from dbgvmm.mmu.mappings import mappings

Read = Callable[[int, int], bytes]
"""read(linear address, length): as many bytes as there are without a gap."""

MOST_PAGES: Final = 1 << 20
"""Pages that are looked at for headers."""
MOST_IMAGES: Final = 256
_MOST_SEGMENTS: Final = 128
_LOWER_HALF: Final = 1 << 47
_MAGIC_WORD: Final = int.from_bytes(b"\x7fELF", "little")
_IDENT64: Final = b"\x7fELF\x02\x01\x01"
_HEADER: Final = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT: Final = struct.Struct("<IIQQQQQQ")
_ET_EXEC, _ET_DYN = 2, 3
_EM_X86_64: Final = 62


class Segment(NamedTuple):
    """A program header, as it stands in the image."""

    kind: int
    flags: int
    offset: int
    address: int
    physical: int
    in_file: int
    in_memory: int
    align: int


class SegmentKind:
    """p_type."""

    LOAD, DYNAMIC, NOTE = 1, 2, 4
    GNU_EH_FRAME = 0x6474_E550


@dataclass(frozen=True)
class Image:
    """An ELF image in memory. address: of its header. bias: what is added to the addresses in it (0 unless it is position
    independent). end: behind its last segment. sections_at: where its section headers are in the file."""

    address: int
    bias: int
    end: int
    segments: tuple[Segment, ...]
    build_id: str
    sections_at: int
    section_count: int

    def of_kind(self, kind: int) -> Segment | None:
        """The first segment of a kind."""
        return next((segment for segment in self.segments if segment.kind == kind), None)

    def segment_end(self, address: int) -> int:
        """Where the segment ends in which a linear address is; 0 for one in none."""
        for segment in self.segments:
            start = segment.address + self.bias & MASK64
            if segment.kind == SegmentKind.LOAD and start <= address < start + segment.in_memory:
                return start + segment.in_memory
        return 0


def find_images(ram: PhysicalMemory, cr3: int, reserved: int, read: Read) -> list[Image]:
    """The images in the user half of an address space, lowest first.

    reserved: bits that make an entry of the page tables fault. A page that the process has not touched yet is not mapped, and
    so not found.
    """
    found: list[Image] = []
    for address in _headers(ram, cr3, reserved):
        image = image_at(address, read)
        if image is not None:
            found.append(image)
            if len(found) == MOST_IMAGES:
                break
    return found


def _headers(ram: PhysicalMemory, cr3: int, reserved: int) -> Iterator[int]:
    words = ram.u32
    pages = 0
    for mapping in mappings(ram, cr3, reserved):
        if mapping.va >= _LOWER_HALF:
            return
        if not mapping.rights & PTE.U:
            continue
        for offset in range(0, mapping.size, PAGE_SIZE):
            pages += 1
            if pages > MOST_PAGES:
                return
            at = mapping.gpa + offset >> 2
            if at < len(words) and words[at] == _MAGIC_WORD:
                yield mapping.va + offset


def image_at(address: int, read: Read) -> Image | None:
    """The image whose header is at a linear address; None if it is no program or library of this CPU, loaded there."""
    header = read(address, _HEADER.size)
    if len(header) < _HEADER.size or not header.startswith(_IDENT64):
        return None
    (
        _, kind, machine, _, _, segments_at, sections_at, _, _, segment_size, segment_count, _, section_count, _,
    ) = _HEADER.unpack(header)  # fmt: skip
    if kind not in (_ET_EXEC, _ET_DYN) or machine != _EM_X86_64 or segment_size != _SEGMENT.size:
        return None
    table = read(address + segments_at & MASK64, min(segment_count, _MOST_SEGMENTS) * _SEGMENT.size)
    segments = tuple(Segment(*fields) for fields in _SEGMENT.iter_unpack(table[: len(table) // _SEGMENT.size * _SEGMENT.size]))
    first = next((item for item in segments if item.kind == SegmentKind.LOAD and item.offset < PAGE_SIZE), None)
    if first is None:
        return None
    bias = address - (first.address - first.offset) & MASK64
    if bias % PAGE_SIZE or (kind == _ET_EXEC and bias):
        return None  # a file that was read into memory, not loaded
    end = max(item.address + item.in_memory + bias & MASK64 for item in segments if item.kind == SegmentKind.LOAD)
    return Image(address, bias, end, segments, _build_id(segments, bias, read), sections_at, section_count)


def _build_id(segments: tuple[Segment, ...], bias: int, read: Read) -> str:
    for segment in segments:
        if segment.kind == SegmentKind.NOTE:
            text = build_id_in(read(segment.address + bias & MASK64, min(segment.in_file, LONGEST_NOTES)))
            if text:
                return text
    return ""
