"""The Multiboot 1 information structure, which EBX points to when the kernel starts.

Source: Multiboot Specification 0.6.96, 3.3.
"""

from __future__ import annotations

import struct
from enum import IntFlag

from dbgvmm.boot.layout import HIGH_RAM_START, KIB, LOW_RAM_END, Placement
from dbgvmm.boot.request import BootRequest

LOADER_NAME = b"dbgvmm"
MAP_LINE = struct.Struct("<IQQI")
"""size (of what follows), base_addr, length, type."""
MODULE = struct.Struct("<IIII")
"""mod_start, mod_end, string, reserved."""
INFO = struct.Struct("<7I 16x 4I 5I 8x QIIIBB6x")
"""flags, memory, boot device, cmdline, modules; (kernel symbols); map and drives; config table, loader name, APM, VBE
tables; (VBE mode and interface); framebuffer. What is never filled in is padding here."""
TEXT_BUFFER = 0xB8000
TEXT_COLUMNS = 80
TEXT_ROWS = 25
TEXT_CELL_BITS = 16
FRAMEBUFFER_TYPE_EGA_TEXT = 2


class InfoFlag(IntFlag):
    """Which parts of the structure are filled in."""

    MEMORY = 1 << 0
    CMDLINE = 1 << 2
    MODULES = 1 << 3
    MEMORY_MAP = 1 << 6
    LOADER_NAME = 1 << 9
    FRAMEBUFFER = 1 << 12


def write_boot_information(room: Placement, request: BootRequest) -> int:
    """Writes the structure and all it points to; gives its physical address.

    The initrd, if any, is the one module: in the pages behind the kernel, its string the file's name.
    """
    flags = InfoFlag.MEMORY | InfoFlag.CMDLINE | InfoFlag.MODULES | InfoFlag.MEMORY_MAP | InfoFlag.LOADER_NAME
    lines = b"".join(MAP_LINE.pack(MAP_LINE.size - 4, line.start, line.size, line.type) for line in room.ranges)
    memory_map = _put(room, lines, "Multiboot memory map")
    cmdline = _put(room, request.cmdline + b"\0", "kernel command line")
    name = _put(room, LOADER_NAME + b"\0", "loader name")
    modules, module_count = 0, 0
    if request.initrd is not None:
        data = request.initrd.data
        start = room.above(room.end, len(data), "initrd")
        room.memory.write(start, data)
        string = _put(room, request.initrd.name.encode() + b"\0", "module string")
        modules, module_count = _put(room, MODULE.pack(start, start + len(data), string, 0), "module list"), 1
    text = (0, 0, 0, 0, 0, 0)
    if request.vga_text:
        flags |= InfoFlag.FRAMEBUFFER
        pitch = TEXT_COLUMNS * TEXT_CELL_BITS // 8
        text = (TEXT_BUFFER, pitch, TEXT_COLUMNS, TEXT_ROWS, TEXT_CELL_BITS, FRAMEBUFFER_TYPE_EGA_TEXT)
    upper_kib = (room.top - HIGH_RAM_START) // KIB
    info = INFO.pack(
        *(flags, LOW_RAM_END // KIB, upper_kib, 0, cmdline, module_count, modules),
        *(len(lines), memory_map, 0, 0),
        *(0, name, 0, 0, 0),
        *text,
    )
    return _put(room, info, "Multiboot information")


def _put(room: Placement, data: bytes, what: str) -> int:
    start = room.low(len(data), what)
    room.memory.write(start, data)
    return start
