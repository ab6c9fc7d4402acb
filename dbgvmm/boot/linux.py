"""Linux bzImage by the 64-bit boot protocol: the kernel's own unpacker runs in the guest.

Source: Documentation/arch/x86/boot.rst, "64-bit Boot Protocol"; Documentation/arch/x86/zero-page.rst.

The zero page, the command line, the GDT and the page tables go into low memory. Linux takes everything below 1 MiB as
lost to the firmware until it has its own tables and has copied the zero page and the command line, so nothing needs to
be reserved for them in the memory map.
"""

from __future__ import annotations

import struct

from dbgvmm.boot.elf_image import clear
from dbgvmm.boot.layout import HIGH_RAM_START, KIB, PAGE, MemoryRange, Placement
from dbgvmm.boot.paging import build_tables
from dbgvmm.boot.request import BootRequest
from dbgvmm.boot.segments import code64, data32, flat_registers, gdt_bytes
from dbgvmm.boot.setup_header import ENTRY64_OFFSET, HEADER_START, Field, SetupHeader, read_setup_header
from dbgvmm.boot.state import BootError, BootState, CpuMode, Memory
from dbgvmm.cpu.bits import CR0, CR4, EFER

BOOT_CS = 0x10
BOOT_DS = 0x18
E820_TABLE = 0x2D0
E820_LINE = struct.Struct("<QQI")
"""addr, size, type."""
UNDEFINED_LOADER = 0xFF
"""`type_of_loader` of a loader that has no number assigned."""
EXT_MEM_K_MAX = 0xFFFF
COLOUR_TEXT_MODE = 3
TEXT_COLUMNS, TEXT_LINES, FONT_POINTS = 80, 25, 16


def load_linux(request: BootRequest, memory: Memory) -> BootState:
    """Loads a bzImage at the address it prefers. Raises BootError when it is none, is too old or does not fit.

    The kernel starts in 64-bit mode, the first 4 GiB mapped to themselves, RSI the address of `boot_params`.
    """
    header = read_setup_header(request.image)
    if len(request.cmdline) > header.cmdline_size:
        raise BootError(
            f"the command line has {len(request.cmdline)} bytes, this kernel takes {header.cmdline_size}: shorten it"
        )
    room = Placement(memory)
    kernel = request.image[header.setup_bytes :]
    base = header.pref_address
    whole = max(header.init_size, len(kernel))
    room.claim(base, whole, "the Linux kernel and the room it unpacks into")
    memory.write(base, kernel)
    clear(room, base + len(kernel), whole - len(kernel))

    cmdline = room.low(len(request.cmdline) + 1, "kernel command line")
    memory.write(cmdline, request.cmdline + b"\0")
    disk = _place_initrd(request, header, room)
    params = room.low(PAGE, "Linux boot_params", align=PAGE)
    memory.write(params, _boot_params(request, header, room, cmdline, disk, base))

    code, data = code64(BOOT_CS), data32(BOOT_DS)
    table = gdt_bytes([code, data])
    gdt = room.low(len(table), "GDT", align=8)
    memory.write(gdt, table)
    return BootState(
        mode=CpuMode.LONG64,
        rip=base + ENTRY64_OFFSET,
        gpr={"rsi": params},
        cr0=CR0.PE | CR0.ET | CR0.PG,
        cr3=build_tables(room, higher_half=False),
        cr4=CR4.PAE,
        efer=EFER.LME | EFER.LMA,
        segments=flat_registers(code, data),
        gdt_base=gdt,
        gdt_limit=len(table) - 1,
        entry_name="startup_64",
        symbols_file=None,
        protocol="linux",
    )


def _place_initrd(request: BootRequest, header: SetupHeader, room: Placement) -> MemoryRange | None:
    """Puts the initrd as high as the kernel and RAM allow, where the kernel's unpacking does not reach."""
    if request.initrd is None or not request.initrd.data:
        return None
    data = request.initrd.data
    start = room.below(header.initrd_addr_max + 1, len(data), "initrd")
    room.memory.write(start, data)
    return MemoryRange(start, len(data))


def _boot_params(
    request: BootRequest, header: SetupHeader, room: Placement, cmdline: int, disk: MemoryRange | None, base: int
) -> bytes:
    """The zero page. All that is not set here stays 0, as the protocol wants it."""
    params = bytearray(PAGE)
    params[HEADER_START : HEADER_START + len(header.raw)] = header.raw
    upper_kib = (room.top - HIGH_RAM_START) // KIB
    Field.EXT_MEM_K.write(params, min(upper_kib, EXT_MEM_K_MAX))
    Field.ALT_MEM_K.write(params, upper_kib)
    Field.TYPE_OF_LOADER.write(params, UNDEFINED_LOADER)
    Field.CODE32_START.write(params, base)
    Field.CMD_LINE_PTR.write(params, cmdline)
    if disk is not None:
        Field.RAMDISK_IMAGE.write(params, disk.start)
        Field.RAMDISK_SIZE.write(params, disk.size)
    if request.vga_text:
        Field.VIDEO_MODE.write(params, COLOUR_TEXT_MODE)
        Field.VIDEO_COLUMNS.write(params, TEXT_COLUMNS)
        Field.VIDEO_LINES.write(params, TEXT_LINES)
        Field.VIDEO_IS_VGA.write(params, 1)
        Field.VIDEO_POINTS.write(params, FONT_POINTS)
    Field.E820_ENTRIES.write(params, len(room.ranges))
    for index, line in enumerate(room.ranges):
        E820_LINE.pack_into(params, E820_TABLE + index * E820_LINE.size, line.start, line.size, line.type)
    return bytes(params)
