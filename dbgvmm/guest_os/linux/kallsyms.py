"""kallsyms: the kernel's own table of names, found and decoded in its memory.

Names are packed: each is a length and that many bytes, which stand for strings in a table of 256 tokens (scripts/kallsyms.c
writes it, kernel/kallsyms.c reads it). Where the parts lie changed with versions:

    until 6.3   offsets, relative base, number, names, markers, (sequence), token table, token index
    since 6.4   number, names, markers, token table, token index, offsets, relative base, sequence
    older, or without KALLSYMS_BASE_RELATIVE    addresses in place of offsets and relative base

The tables have no header, so they are found by what they must be: ten tokens are "0" to "9", the index of the tokens repeats
their places, the markers repeat every 256th name's place, and the banner lies where its symbol says.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from dbgvmm.guest_os.interface import GuestOsError
from dbgvmm.guest_os.linux.image import KernelImage
from dbgvmm.guest_os.reading import AddressSpace, NotReadable
from dbgvmm.hardware.layout import MASK64

_DIGITS: Final = b"".join(bytes((digit, 0)) for digit in b"0123456789")
_TOKENS: Final = 256
_INDEX_BYTES: Final = 2 * _TOKENS
_MARKED: Final = 256
"""Names between two markers."""
_FARTHEST: Final = 16 << 20
_STRIDE: Final = 1 << 20
_FEWEST, _MOST = 256, 4_000_000
_KINDS: Final = frozenset("aAbBcCdDgGiInNpPrRsStTuUvVwW?")
_BANNER_SYMBOL: Final = "linux_banner"
_BANNER_TEXT: Final = b"Linux version "
_LONG_NAME: Final = 0x80


@dataclass(frozen=True)
class Kallsyms:
    """All names, in the table's order. kinds: nm(1)'s letter for each. addresses: linear, or per-CPU offsets."""

    names: list[str]
    kinds: str
    addresses: list[int]


@dataclass(frozen=True)
class _Packed:
    """Where things are in a stretch of memory: offsets in bytes."""

    number_at: int
    count: int
    index_end: int
    entries: list[str]


def read_kallsyms(image: KernelImage, space: AddressSpace) -> Kallsyms:
    """The table of the kernel whose image that is. Raises GuestOsError if there is none, or it is damaged."""
    found_tokens = False
    for extent in image.extents:
        data = bytes(space.ram.bytes[extent.gpa : extent.gpa + extent.size])
        at = data.find(_DIGITS)
        while at >= 0:
            tokens = _token_table(data, at)
            if tokens is not None:
                found_tokens = True
                start, index_end, table = tokens
                for packed in _packed_names(data, start, index_end, table):
                    addresses = _addresses(data, packed, _banner_is_at(space))
                    if addresses is not None:
                        names = [entry[1:] for entry in packed.entries]
                        return Kallsyms(names, "".join(entry[0] for entry in packed.entries), addresses)
            at = data.find(_DIGITS, at + 1)
    if found_tokens:
        raise GuestOsError("Linux' table of symbols (kallsyms) is damaged, or of a layout that is not known")
    raise GuestOsError("Linux has no table of symbols in memory: it was built without CONFIG_KALLSYMS")


def _token_table(data: bytes, digits: int) -> tuple[int, int, list[str]] | None:
    """(start of the token table, end of its index, the tokens), if the digits at `digits` are in one."""
    ends = [digits]
    for _ in range(ord("0"), _TOKENS):
        nul = data.find(b"\0", ends[-1])
        if nul < 0:
            return None
        ends.append(nul + 1)
    for at in range(ends[-1], min(ends[-1] + 64, len(data) - _INDEX_BYTES)):
        if data[at] or data[at + 1]:
            continue
        index = struct.unpack_from(f"<{_TOKENS}H", data, at)
        start = digits - index[ord("0")]
        if start < 0 or any(start + place != end for place, end in zip(index[ord("0") :], ends, strict=False)):
            continue
        if all(start == start + place or data[start + place - 1] == 0 for place in index):
            table = [data[start + place : data.index(b"\0", start + place)].decode("latin-1") for place in index]
            return start, at + _INDEX_BYTES, table
    return None


def _packed_names(data: bytes, before: int, index_end: int, table: list[str]) -> Iterator[_Packed]:
    """Where the number of symbols stands, in front of the names, which are in front of the token table."""
    end = before & ~7
    lowest = max(end - _FARTHEST, 0)
    while end > lowest:
        start = max(end - _STRIDE, lowest)
        words = memoryview(data)[start:end].cast("Q")
        for index in [index for index, word in enumerate(words) if _FEWEST <= word <= _MOST]:
            entries = _names_at(data, start + 8 * index + 8, words[index], table)
            if entries is not None:
                yield _Packed(start + 8 * index, words[index], index_end, entries)
        end = start


def _names_at(data: bytes, at: int, count: int, table: list[str]) -> list[str] | None:
    """The names that begin at `at`, if they do: all must be there, followed by markers that agree."""
    places: list[int] = []
    entries: list[str] = []
    start, limit = at, len(data)
    expand = table.__getitem__
    for number in range(count):
        if at + 2 > limit:
            return None
        length = data[at]
        if not number % _MARKED:
            places.append(at - start)
        at += 1
        if length & _LONG_NAME:  # since 6.1, in two bytes
            length = length & ~_LONG_NAME | data[at] << 7
            at += 1
        entry = "".join(map(expand, data[at : at + length]))
        if len(entry) < 2 or entry[0] not in _KINDS:
            return None
        entries.append(entry)
        at += length
    for alignment in (4, 8):
        markers = at + alignment - 1 & -alignment
        for size in "IQ":
            layout = struct.Struct(f"<{len(places)}{size}")
            if markers + layout.size <= limit and list(layout.unpack_from(data, markers)) == places:
                return entries
    return None


def _banner_is_at(space: AddressSpace) -> Callable[[int], bool]:
    def check(address: int) -> bool:
        try:
            return space.read(address, len(_BANNER_TEXT)) == _BANNER_TEXT
        except NotReadable:
            return False

    return check


def _addresses(data: bytes, packed: _Packed, is_banner: Callable[[int], bool]) -> list[int] | None:
    """The symbols' addresses, in whichever way puts the banner where it is."""
    banner = next((number for number, entry in enumerate(packed.entries) if entry[1:] == _BANNER_SYMBOL), None)
    if banner is None:
        return None
    count, number_at = packed.count, packed.number_at
    room = 4 * count + 7 & ~7
    offsets_first = number_at - 8 - room, number_at - 8
    offsets_last = packed.index_end + 7 & ~7, (packed.index_end + 7 & ~7) + room
    for offsets_at, base_at in (offsets_first, offsets_last):
        if offsets_at < 0 or base_at + 8 > len(data):
            continue
        (base,) = struct.unpack_from("<Q", data, base_at)
        offset = struct.unpack_from("<i", data, offsets_at + 4 * banner)[0]
        if is_banner(base - 1 - offset & MASK64):  # KALLSYMS_ABSOLUTE_PERCPU: what is not negative is no address
            signed = struct.unpack_from(f"<{count}i", data, offsets_at)
            return [value if value >= 0 else base - 1 - value for value in signed]
        if is_banner(base + (offset & 0xFFFF_FFFF) & MASK64):
            return [base + value & MASK64 for value in struct.unpack_from(f"<{count}I", data, offsets_at)]
    absolute_at = number_at - 8 * count
    if absolute_at >= 0 and is_banner(struct.unpack_from("<Q", data, absolute_at + 8 * banner)[0]):
        return list(struct.unpack_from(f"<{count}Q", data, absolute_at))
    return None
