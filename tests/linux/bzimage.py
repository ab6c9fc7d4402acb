"""Gets the ELF `vmlinux` back out of a bzImage, for its addresses and its disassembly.

The setup header says where the compressed payload is (`payload_offset`, `payload_length`: boot protocol 2.08,
Documentation/x86/boot.rst), and the payload's first bytes say how it was compressed.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
import struct
import subprocess
import zlib

SECTOR = 512
SETUP_SECTS = 0x1F1
HEADER_MAGIC = 0x202
PROTOCOL_VERSION = 0x206
PAYLOAD_OFFSET = 0x248
PAYLOAD_LENGTH = 0x24C
SIZE_SUFFIX = 4
"""The kernel's build appends the unpacked size, as four bytes, to payloads whose format does not record it."""


class PayloadError(Exception):
    """The file is no bzImage, or its payload cannot be unpacked."""


def payload_of(image: bytes) -> bytes:
    """The compressed kernel inside `image`. Raises PayloadError when the setup header does not name one."""
    if len(image) < PAYLOAD_LENGTH + 4 or image[HEADER_MAGIC : HEADER_MAGIC + 4] != b"HdrS":
        raise PayloadError("no Linux setup header (HdrS at 0x202): not a bzImage")
    (version,) = struct.unpack_from("<H", image, PROTOCOL_VERSION)
    if version < 0x0208:
        raise PayloadError(f"boot protocol {version >> 8}.{version & 0xFF:02} does not record the payload (2.08 does)")
    setup_bytes = ((image[SETUP_SECTS] or 4) + 1) * SECTOR
    offset, length = struct.unpack_from("<II", image, PAYLOAD_OFFSET)
    start = setup_bytes + offset
    if start + length > len(image):
        raise PayloadError(f"the payload ends at {start + length:#x}, the file at {len(image):#x}: truncated")
    return image[start : start + length]


def unpack(payload: bytes) -> bytes:
    """Unpacks a kernel payload of any format that Linux builds, by its magic number."""
    if payload.startswith(b"\x1f\x8b"):
        return zlib.decompressobj(wbits=16 + zlib.MAX_WBITS).decompress(payload)
    if payload.startswith(b"\xfd7zXZ\x00"):
        return lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(payload)
    if payload.startswith(b"\x5d\x00\x00"):
        return lzma.LZMADecompressor(lzma.FORMAT_ALONE).decompress(payload)
    if payload.startswith(b"BZh"):
        return bz2.BZ2Decompressor().decompress(payload)
    if payload.startswith(b"\x02\x21\x4c\x18"):
        return _by_tool(["lz4", "-d", "-c"], payload[:-SIZE_SUFFIX])
    if payload.startswith(b"\x28\xb5\x2f\xfd"):
        return _by_tool(["zstd", "-d", "-c", "-q"], payload[:-SIZE_SUFFIX])
    if payload.startswith(b"\x89LZO"):
        return _by_tool(["lzop", "-d", "-c"], payload[:-SIZE_SUFFIX])
    if payload.startswith(b"\x7fELF"):
        return payload
    raise PayloadError(f"unknown payload format (first bytes {payload[:8].hex()})")


def vmlinux_of(image: bytes) -> bytes:
    """The ELF kernel inside the bzImage `image`."""
    elf = unpack(payload_of(image))
    if not elf.startswith(b"\x7fELF"):
        raise PayloadError("the payload unpacks to something that is not ELF")
    return elf


def gzip_deterministic(data: bytes) -> bytes:
    """gzip without the time of day in it, so that the same input always gives the same file."""
    return gzip.compress(data, compresslevel=9, mtime=0)


def _by_tool(command: list[str], data: bytes) -> bytes:
    """Pipes `data` through an unpacker that Python's library has no module for."""
    if shutil.which(command[0]) is None:
        raise PayloadError(f"the payload needs the program `{command[0]}`: install it")
    done = subprocess.run(command, input=data, capture_output=True, check=False)
    if done.returncode != 0:
        raise PayloadError(f"`{' '.join(command)}` failed: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout
