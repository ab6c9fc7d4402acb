"""The file that gdb is given as the guest's program: a 32-bit ELF container of 64-bit code as the 64-bit file it really is.

Multiboot wants ELF32, so kernels are linked or converted to that. gdb takes the architecture from the file's class, and
then refuses our registers. Addresses of the upper half, which the container cut to 32 bits, are extended again. Contents
and debug information are the same in both classes; only headers and symbols have other layouts (System V ABI, "ELF
Header", "Section Header", "Symbol Table Entry", "Program Header").
"""

from __future__ import annotations

import struct
from typing import Final

_ELF32: Final = b"\x7fELF\x01\x01"
_EM_386, _EM_X86_64 = 3, 62
_HEADER32, _HEADER64 = struct.Struct("<16sHHIIIIIHHHHHH"), struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION32, _SECTION64 = struct.Struct("<10I"), struct.Struct("<IIQQQQIIQQ")
_SEGMENT32, _SEGMENT64 = struct.Struct("<8I"), struct.Struct("<IIQQQQQQ")
_SYMBOL32, _SYMBOL64 = struct.Struct("<IIIBBH"), struct.Struct("<IBBHQQ")
_SHT_SYMTAB, _SHT_REL, _SHT_RELA, _SHT_DYNSYM = 2, 9, 4, 11
_ALIGNMENT: Final = 16
_PAGE: Final = 4096


def as_elf64(data: bytes) -> bytes:
    """`data`, if it is a 32-bit x86 ELF file, as a 64-bit one; any other file (or a damaged one) as it is."""
    if not data.startswith(_ELF32) or len(data) < _HEADER32.size:
        return data
    try:
        return _convert(data)
    except (struct.error, IndexError, ValueError):
        return data


def _convert(data: bytes) -> bytes:
    (
        ident, kind, machine, version, entry, segments_at, sections_at, flags, _, segment_size, segment_count,
        section_size, section_count, names,
    ) = _HEADER32.unpack_from(data)  # fmt: skip
    if machine != _EM_386 or (section_count and section_size != _SECTION32.size):
        return data
    if segment_count and segment_size != _SEGMENT32.size:
        return data
    # The old file as a whole, moved by pages so that segments stay aligned; what grows comes behind it.
    out = bytearray(_HEADER64.size + segment_count * _SEGMENT64.size)
    out += bytes(-len(out) % _PAGE)
    moved = len(out)
    out += data
    for number in range(segment_count):
        type_, offset, va, pa, in_file, in_memory, segment_flags, align = _SEGMENT32.unpack_from(
            data, segments_at + number * _SEGMENT32.size
        )
        _SEGMENT64.pack_into(
            out, _HEADER64.size + number * _SEGMENT64.size,
            type_, segment_flags, offset + moved, _extend(va), pa, in_file, in_memory, align,
        )  # fmt: skip
    sections = bytearray()
    for number in range(section_count):
        name, type_, section_flags, address, offset, size, link, info, align, entry_size = _SECTION32.unpack_from(
            data, sections_at + number * _SECTION32.size
        )
        offset += moved
        if type_ in (_SHT_SYMTAB, _SHT_DYNSYM):
            table = _symbols(data[offset - moved : offset - moved + size])
            out += bytes(-len(out) % _ALIGNMENT)
            offset, size, entry_size = len(out), len(table), _SYMBOL64.size
            out += table
        elif type_ in (_SHT_REL, _SHT_RELA):
            type_ = 0  # a linked kernel needs none, and theirs have another layout too
        sections += _SECTION64.pack(name, type_, section_flags, _extend(address), offset, size, link, info, align, entry_size)
    out += bytes(-len(out) % _ALIGNMENT)
    at = len(out)
    out += sections
    ident = ident[:4] + b"\2" + ident[5:]
    _HEADER64.pack_into(
        out, 0, ident, kind, _EM_X86_64, version, entry, _HEADER64.size, at, flags, _HEADER64.size, _SEGMENT64.size,
        segment_count, _SECTION64.size, section_count, names,
    )  # fmt: skip
    return bytes(out)


def _extend(address: int) -> int:
    """Kernels are linked to the topmost 2 GiB, where 64-bit code reaches everything with 32 bits."""
    return address | 0xFFFF_FFFF_0000_0000 if address >> 31 else address


def _symbols(table: bytes) -> bytes:
    out = bytearray()
    for name, value, size, info, other, section in _SYMBOL32.iter_unpack(table):
        out += _SYMBOL64.pack(name, info, other, section, _extend(value), size)
    return bytes(out)
