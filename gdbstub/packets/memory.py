"""Memory: `m` and `M` in hexadecimal, `x` and `X` in binary."""

from __future__ import annotations

from gdbstub.errors import MalformedPacket, MemoryFault
from gdbstub.fields import ADDRESS_LIMIT, encode_hex, parse_hex, parse_pair, split
from gdbstub.session import OK, PACKET_SIZE, Reply, Session
from gdbstub.table import Row
from gdbstub.target import ReadMemory, WriteMemory


def read_hex(session: Session, target: ReadMemory, arguments: bytes) -> Reply:
    """`m addr,length`: fewer bytes than asked for if not all can be read."""
    return encode_hex(_read(session, target, arguments, PACKET_SIZE // 2))


def write_hex(session: Session, target: WriteMemory, arguments: bytes) -> Reply:
    """`M addr,length:XX...`"""
    where, digits = split(arguments, b":")
    return _write(session, target, where, parse_hex(digits))


def read_binary(session: Session, target: ReadMemory, arguments: bytes) -> Reply:
    """`x addr,length` (gdb 16): `b` and the bytes."""
    return b"b" + _read(session, target, arguments, PACKET_SIZE - 1)


def write_binary(session: Session, target: WriteMemory, arguments: bytes) -> Reply:
    """`X addr,length:data`; with a length of 0, gdb asks whether there is such a packet."""
    where, data = split(arguments, b":")
    return _write(session, target, where, data)


def _read(session: Session, target: ReadMemory, arguments: bytes, limit: int) -> bytes:
    address, length = parse_pair(arguments)
    # What the reply cannot hold or what lies past the last address is left out: a short answer is a valid one.
    length = min(length, limit, ADDRESS_LIMIT - address)
    if not length:
        return b""
    data = session.read_memory(target, address, length)
    if not data:
        raise MemoryFault(address)
    return bytes(data[:length])


def _write(session: Session, target: WriteMemory, where: bytes, data: bytes) -> Reply:
    session.refuse_in_frame()
    address, length = parse_pair(where)
    if length != len(data):
        raise MalformedPacket(f"the packet says {length} bytes and has {len(data)}")
    if address + length > ADDRESS_LIMIT:
        raise MemoryFault(address, "the write goes past the last address")
    if data:
        target.write_memory(session.thread(), address, data)
    return OK


ROWS = (
    Row("m", read_hex, ReadMemory, text_errors=False),
    Row("M", write_hex, WriteMemory, text_errors=False),
    Row("x", read_binary, ReadMemory, feature="binary-upload+", text_errors=False),
    Row("X", write_binary, WriteMemory, text_errors=False),
)
