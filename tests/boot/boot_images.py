"""Small kernel files made by hand, and RAM to load them into."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from dbgvmm.boot.request import BootRequest, Initrd
from dbgvmm.boot.setup_header import BOOT_FLAG, MAGIC, Field, LoadFlag, XLoadFlag

MIB = 1 << 20
NOT_ZERO = 0xA5


class Ram:
    """RAM full of a byte that is not zero, so that a loader which forgets to clear something is caught."""

    def __init__(self, size: int = 16 * MIB) -> None:
        self.size = size
        self._bytes = bytearray([NOT_ZERO]) * size

    def write(self, gpa: int, data: bytes) -> None:
        assert 0 <= gpa and gpa + len(data) <= self.size, "a loader wrote outside of RAM"
        self._bytes[gpa : gpa + len(data)] = data

    def read(self, gpa: int, n: int) -> bytes:
        assert 0 <= gpa and gpa + n <= self.size
        return bytes(self._bytes[gpa : gpa + n])

    def number(self, gpa: int, size: int = 4) -> int:
        return int.from_bytes(self.read(gpa, size), "little")

    def string(self, gpa: int) -> bytes:
        return bytes(self._bytes[gpa : self._bytes.index(0, gpa)])


@dataclass
class Part:
    """A PT_LOAD (or, with `type`, other) segment of a hand-made ELF file."""

    physical: int
    data: bytes
    virtual: int | None = None
    memory_size: int | None = None
    type: int = 1


def elf(parts: list[Part], entry: int, bits: int = 64, machine: int | None = None, kind: int = 2) -> bytes:
    """An ELF executable of `parts`, without sections."""
    wide = bits == 64
    machine = machine if machine is not None else (62 if wide else 3)
    header_size, part_size = (64, 56) if wide else (52, 32)
    ident = b"\x7fELF" + bytes([2 if wide else 1, 1, 1]) + bytes(9)
    header = struct.pack(
        "<HHIQQQIHHHHHH" if wide else "<HHIIIIIHHHHHH",
        *(kind, machine, 1, entry, header_size, 0, 0, header_size, part_size, len(parts), 0, 0, 0),
    )
    offset = header_size + part_size * len(parts)
    headers, body = b"", b""
    for part in parts:
        virtual = part.physical if part.virtual is None else part.virtual
        size = len(part.data) if part.memory_size is None else part.memory_size
        where = offset + len(body)
        if wide:
            headers += struct.pack("<IIQQQQQQ", part.type, 7, where, virtual, part.physical, len(part.data), size, 4)
        else:
            headers += struct.pack("<IIIIIIII", part.type, where, virtual, part.physical, len(part.data), size, 7, 4)
        body += part.data
    return ident + header + headers + body


def multiboot_header(flags: int = 3, addresses: tuple[int, ...] = ()) -> bytes:
    magic = 0x1BADB002
    return struct.pack(f"<III{len(addresses)}I", magic, flags, -(magic + flags) & 0xFFFFFFFF, *addresses)


def xen_note(type: int, content: bytes) -> bytes:
    return struct.pack("<III", 4, len(content), type) + b"Xen\0" + content + bytes(-len(content) % 4)


def bzimage(
    kernel: bytes = b"K" * 0x1000,
    version: int = 0x020F,
    xloadflags: int = XLoadFlag.KERNEL_64,
    init_size: int = 0x10000,
    initrd_addr_max: int = 0x7FFF_FFFF,
    pref_address: int = 0x20_0000,
) -> bytes:
    """A bzImage whose protected-mode part is `kernel`, behind one boot sector and one setup sector."""
    setup = bytearray(1024)
    for field, value in {
        Field.SETUP_SECTS: 1,
        Field.SYSSIZE: -(-len(kernel) // 16),
        Field.BOOT_FLAG: BOOT_FLAG,
        Field.JUMP_DISTANCE: 0x66,
        Field.HEADER: MAGIC,
        Field.VERSION: version,
        Field.LOADFLAGS: LoadFlag.LOADED_HIGH,
        Field.INITRD_ADDR_MAX: initrd_addr_max,
        Field.XLOADFLAGS: xloadflags,
        Field.CMDLINE_SIZE: 0x7FF,
        Field.PREF_ADDRESS: pref_address,
        Field.INIT_SIZE: init_size,
    }.items():
        field.write(setup, int(value))
    return bytes(setup) + kernel


def request(image: bytes, cmdline: str = "", initrd: bytes | None = None, vga_text: bool = False) -> BootRequest:
    disk = Initrd("disk.img", initrd) if initrd is not None else None
    return BootRequest(Path("kernel"), image, cmdline.encode(), disk, vga_text)


def translate(ram: Ram, cr3: int, linear: int) -> int | None:
    """Walks 4-level tables with 2 MiB pages; None where nothing is mapped."""
    table = cr3
    for shift in (39, 30):
        entry = ram.number(table + (linear >> shift & 511) * 8, 8)
        if not entry & 1:
            return None
        table = entry & ~0xFFF
    entry = ram.number(table + (linear >> 21 & 511) * 8, 8)
    if not entry & 1:
        return None
    assert entry & 0x80, "expected a 2 MiB page"
    assert entry & 0x1F_FFFF == 0x83, "a 2 MiB page: present, writable, supervisor, its address a multiple of 2 MiB"
    return (entry & ~0x1F_FFFF) + (linear & 0x1F_FFFF)
