"""Search and sums over the target's memory, which need not travel: `qSearch:memory`, `qCRC`."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from gdbstub.errors import MalformedPacket, MemoryFault
from gdbstub.fields import ADDRESS_LIMIT, parse_number, parse_pair, split
from gdbstub.session import Reply, Session
from gdbstub.table import Row
from gdbstub.target import ReadMemory

_CHUNK = 1 << 16
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def search(session: Session, target: ReadMemory, arguments: bytes) -> Reply:
    """`qSearch:memory:addr;length;pattern`: `1,addr` of the first match, or `0`. The pattern is binary."""
    kind, rest = split(arguments, b":")
    if kind != b"memory":
        raise MalformedPacket(f"{kind[:20]!r} cannot be searched, only memory")
    where, rest = split(rest, b";")
    extent, pattern = split(rest, b";")
    start, length = parse_number(where), parse_number(extent)
    if not pattern:
        raise MalformedPacket("there is no pattern to search for")
    kept = b""
    at = start
    for chunk in _chunks(session, target, start, length):
        data = kept + chunk
        found = data.find(pattern)
        if found >= 0:
            return b"1,%x" % (at - len(kept) + found)
        kept = data[len(data) - min(len(data), len(pattern) - 1) :]
        at += len(chunk)
    return b"0"


def crc(session: Session, target: ReadMemory, arguments: bytes) -> Reply:
    """`qCRC:addr,length`: the CRC-32 of memory, highest bit first and not inverted (GDB manual, "qCRC")."""
    start, length = parse_pair(arguments)
    value = 0
    for chunk in _chunks(session, target, start, length):
        value = zlib.crc32(chunk.translate(_REVERSED), value)
    return b"C%x" % int(f"{value ^ 0xFFFF_FFFF:032b}"[::-1], 2)


def _chunks(session: Session, target: ReadMemory, start: int, length: int) -> Iterator[bytes]:
    """Memory in pieces. Raises MemoryFault where it cannot be read."""
    if start + length > ADDRESS_LIMIT:
        raise MemoryFault(start, "the range goes past the last address")
    end = start + length
    while start < end:
        data = bytes(session.read_memory(target, start, min(_CHUNK, end - start)))
        if not data:
            raise MemoryFault(start)
        yield data
        start += len(data)


ROWS = (
    Row("qSearch", search, ReadMemory, feature="qSearch:memory+"),
    Row("qCRC", crc, ReadMemory, text_errors=False),
)
