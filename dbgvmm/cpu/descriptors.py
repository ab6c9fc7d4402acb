"""Segment descriptors: the eight bytes in GDT and LDT, fetching them with the limit checks, and their parts.

A descriptor is handled as one 64-bit int (`raw`). Source: Intel SDM vol. 3A 3.4.5, 3.5 and 7.2.3 (16-byte ones).
"""

from __future__ import annotations

from .bits import MASK64, SegmentAttributes, Vector
from .faults import GuestFault
from .memory import LinearMemory
from .state import Segment, TableRegister, VCpu

_ACCESSED = 1 << 40
_PRESENT_SEGMENT = SegmentAttributes.P | SegmentAttributes.S

# Flat segments that SYSCALL, SYSENTER and boot code load without a descriptor; add DPL << 5.
FLAT_CODE64 = 0xB | _PRESENT_SEGMENT | SegmentAttributes.L | SegmentAttributes.G
FLAT_CODE32 = 0xB | _PRESENT_SEGMENT | SegmentAttributes.DB | SegmentAttributes.G
FLAT_DATA = 0x3 | _PRESENT_SEGMENT | SegmentAttributes.DB | SegmentAttributes.G


def base_of(raw: int) -> int:
    """Return the 32-bit base."""
    return (raw >> 16) & 0xFF_FFFF | (raw >> 32) & 0xFF00_0000


def limit_of(raw: int) -> int:
    """Return the limit in bytes, granularity applied."""
    limit = raw & 0xFFFF | (raw >> 32) & 0xF_0000
    return limit << 12 | 0xFFF if raw & 1 << 55 else limit


def attributes_of(raw: int) -> int:
    """Return the attributes in the form of Segment.attributes."""
    return (raw >> 40) & 0xF0FF


def make_descriptor(base: int, limit: int, attributes: int) -> int:
    """Return the descriptor for a segment; limit in bytes. The reverse of the three functions above.

    Raises ValueError if the limit cannot be expressed with the granularity that `attributes` names.
    """
    if attributes & SegmentAttributes.G:
        if limit & 0xFFF != 0xFFF:
            raise ValueError(f"limit {limit:#x} with 4 KiB granularity must end in fff")
        limit >>= 12
    if limit > 0xF_FFFF:
        raise ValueError(f"limit {limit:#x} needs 4 KiB granularity (SegmentAttributes.G)")
    return (
        limit & 0xFFFF
        | (base & 0xFF_FFFF) << 16
        | (attributes & 0xF0FF) << 40
        | (limit & 0xF_0000) << 32
        | (base & 0xFF00_0000) << 32
    )


def locate(cpu: VCpu, selector: int, size: int = 8) -> int:
    """Return the linear address of the `size` bytes that `selector` names, or -1 if they end beyond the table."""
    offset = selector & 0xFFF8
    table: TableRegister | Segment = cpu.gdtr
    if selector & 4:
        table = cpu.ldtr
        if not cpu.ldtr.attributes & SegmentAttributes.P:
            return -1
    if offset + size - 1 > table.limit:
        return -1
    return (table.base + offset) & MASK64


def fetch(cpu: VCpu, mem: LinearMemory, selector: int, ext: int = 0, vector: int = Vector.GP) -> tuple[int, int]:
    """Return (linear address, raw) of the descriptor of `selector`.

    Raises GuestFault `vector` with the selector as error code (| ext) if it is beyond the table's limit; #PF.
    """
    address = locate(cpu, selector)
    if address < 0:
        raise GuestFault(vector, selector & 0xFFFC | ext, reason="selector beyond the limit of its descriptor table")
    return address, mem.read_u64(address, False)


def mark_accessed(mem: LinearMemory, address: int, raw: int) -> int:
    """Set the accessed bit of the code or data descriptor at `address` if it is clear; return the new `raw`."""
    if not raw & _ACCESSED:
        raw |= _ACCESSED
        mem.write_u32(address + 4, raw >> 32, False)
    return raw


def load_from(segment: Segment, selector: int, raw: int) -> None:
    """Fill a segment register from its descriptor."""
    limit = raw & 0xFFFF | (raw >> 32) & 0xF_0000
    segment.selector = selector
    segment.base = (raw >> 16) & 0xFF_FFFF | (raw >> 32) & 0xFF00_0000
    segment.limit = limit << 12 | 0xFFF if raw & 1 << 55 else limit
    segment.attributes = (raw >> 40) & 0xF0FF
