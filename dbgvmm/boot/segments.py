"""Segment descriptors: the flat segments that every protocol asks for, and the GDT that holds them.

Source: Intel SDM vol. 3A, 3.4.5 (segment descriptors), 3.4.5.1 (types), 5.2.1 (the L flag), 7.2.2 (TSS descriptor).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from dbgvmm.cpu.bits import SegmentAttributes, SystemType

FLAT_LIMIT = 0xFFFF_FFFF
TSS32_LIMIT = 0x67

_FLAT = SegmentAttributes.P | SegmentAttributes.S | SegmentAttributes.ACCESSED | SegmentAttributes.G
_CODE = _FLAT | SegmentAttributes.CODE | SegmentAttributes.readable


@dataclass(frozen=True, slots=True)
class BootSegment:
    """A segment register's first contents: the selector, and the hidden part that the CPU keeps beside it."""

    selector: int
    base: int
    limit: int
    """Offset of the last byte, in bytes whatever the granularity."""
    attributes: int
    """See `dbgvmm.cpu.bits.SegmentAttributes`."""

    @property
    def descriptor(self) -> int:
        """The eight bytes that stand for this segment in a descriptor table, as one number."""
        limit = self.limit >> 12 if self.attributes & SegmentAttributes.G else self.limit
        low = (limit & 0xFFFF) | (self.base & 0xFFFF) << 16
        high = (self.base >> 16 & 0xFF) | self.attributes << 8 | (limit & 0xF_0000) | (self.base & 0xFF00_0000)
        return low | high << 32


def code32(selector: int) -> BootSegment:
    """Flat 32-bit code: base 0, limit 4 GiB, execute and read."""
    return BootSegment(selector, 0, FLAT_LIMIT, _CODE | SegmentAttributes.DB)


def code64(selector: int) -> BootSegment:
    """64-bit code. The limit is not looked at in 64-bit mode; Linux asks for 4 GiB all the same."""
    return BootSegment(selector, 0, FLAT_LIMIT, _CODE | SegmentAttributes.L)


def data32(selector: int) -> BootSegment:
    """Flat data: base 0, limit 4 GiB, read and write."""
    return BootSegment(selector, 0, FLAT_LIMIT, _FLAT | SegmentAttributes.WRITABLE | SegmentAttributes.DB)


def tss32(selector: int) -> BootSegment:
    """A busy 32-bit TSS with base 0 and the smallest limit, as PVH wants it in TR."""
    return BootSegment(selector, 0, TSS32_LIMIT, SegmentAttributes.P | SystemType.TSS_BUSY)


def flat_registers(code: BootSegment, data: BootSegment) -> dict[str, BootSegment]:
    """CS holding `code`, every data segment register holding `data`."""
    return {"cs": code, **{name: data for name in ("ds", "es", "ss", "fs", "gs")}}


def gdt_bytes(segments: Iterable[BootSegment]) -> bytes:
    """A descriptor table with each segment at the index that its selector names, and null descriptors between."""
    by_index = {segment.selector >> 3: segment.descriptor for segment in segments}
    return b"".join(struct.pack("<Q", by_index.get(index, 0)) for index in range(max(by_index) + 1))
