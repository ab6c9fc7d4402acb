"""Build ids: what the linker calls exactly this program (ld(1) --build-id; note NT_GNU_BUILD_ID of owner "GNU")."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from elftools.elf.elffile import ELFFile

_OWNER: Final = b"GNU\0"
_NT_GNU_BUILD_ID: Final = 3
_HEADER: Final = 12
LONGEST_NOTES: Final = 1 << 16
"""Bytes of notes that are looked through."""
_LONGEST_ID: Final = 64


@dataclass(frozen=True)
class BuildId:
    """A build id: its bytes in hexadecimal. address: where the file says its note is mapped, 0 if it is not; length: of the
    notes there, in bytes."""

    text: str
    address: int = 0
    length: int = 0


def build_id_in(notes: bytes) -> str:
    """The build id among some notes (System V ABI, chapter 5 "Note Section"), in hexadecimal; "" without one."""
    for owner, kind, content in _notes(notes[:LONGEST_NOTES]):
        if owner == _OWNER and kind == _NT_GNU_BUILD_ID and 0 < len(content) <= _LONGEST_ID:
            return content.hex()
    return ""


def _notes(data: bytes) -> Iterator[tuple[bytes, int, bytes]]:
    at = 0
    while at + _HEADER <= len(data):
        name_size, size, kind = (int.from_bytes(data[at + 4 * index : at + 4 * index + 4], "little") for index in range(3))
        name_at = at + _HEADER
        content_at = name_at + (name_size + 3 & ~3)
        at = content_at + (size + 3 & ~3)
        if at > len(data) + 3:
            return
        yield data[name_at : name_at + name_size], kind, data[content_at : content_at + size]


def file_build_id(elf: ELFFile) -> BuildId | None:
    """The build id of an ELF file, by its segments or, for a file without (a kernel's), by its sections."""
    for segment in elf.iter_segments():
        if segment["p_type"] == "PT_NOTE" and (text := build_id_in(segment.data()[:LONGEST_NOTES])):
            return BuildId(text, segment["p_vaddr"], min(segment["p_filesz"], LONGEST_NOTES))
    for section in elf.iter_sections():
        if section["sh_type"] == "SHT_NOTE" and (text := build_id_in(section.data()[:LONGEST_NOTES])):
            return BuildId(text, section["sh_addr"], min(section["sh_size"], LONGEST_NOTES))
    return None
