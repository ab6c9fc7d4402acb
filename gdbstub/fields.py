"""The fields that packets are made of: hexadecimal numbers, byte strings, `addr,length`."""

from __future__ import annotations

import re
from binascii import hexlify, unhexlify

from gdbstub.errors import MalformedPacket

ADDRESS_LIMIT = 1 << 64

_NUMBER = re.compile(rb"0*([0-9a-fA-F]{1,16})")


def parse_number(text: bytes) -> int:
    """A hexadecimal number of at most 64 bits, without prefix."""
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise MalformedPacket(f"{text[:40]!r} is not a hexadecimal number of at most 64 bits")
    return int(match[1], 16)


def parse_hex(text: bytes) -> bytes:
    """Bytes, two digits each."""
    try:
        return unhexlify(text)
    except ValueError:
        raise MalformedPacket("not an even number of hexadecimal digits") from None


def encode_hex(data: bytes) -> bytes:
    """Bytes as two lower-case digits each."""
    return hexlify(data)


def split(text: bytes, separator: bytes) -> tuple[bytes, bytes]:
    """`text` cut at the first separator, which must be there."""
    left, found, right = text.partition(separator)
    if not found:
        raise MalformedPacket(f"a {separator.decode()!r} is missing")
    return left, right


def parse_pair(text: bytes) -> tuple[int, int]:
    """`number,number`, as in `addr,length`."""
    left, right = split(text, b",")
    return parse_number(left), parse_number(right)
