"""Multiboot 1: the boot protocol of GRUB, and of most kernels that people write to learn how.

Source: Multiboot Specification 0.6.96, 3.1 (header), 3.2 (machine state), 3.3 (boot information format).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntFlag

from dbgvmm.boot.elf_image import MAGIC as ELF_MAGIC
from dbgvmm.boot.elf_image import ElfImage, clear
from dbgvmm.boot.layout import Placement
from dbgvmm.boot.multiboot_info import write_boot_information
from dbgvmm.boot.request import BootRequest
from dbgvmm.boot.segments import code32, data32, flat_registers, gdt_bytes
from dbgvmm.boot.state import BootError, BootState, CpuMode, Memory
from dbgvmm.cpu.bits import CR0

SEARCH_BYTES = 8192
HEADER_MAGIC = 0x1BAD_B002
BOOTLOADER_MAGIC = 0x2BAD_B002
CODE_SELECTOR = 0x08
DATA_SELECTOR = 0x10
MASK32 = 0xFFFF_FFFF
REQUIREMENTS_MASK = 0xFFFF
"""Of the header's flags, those a loader has to understand or else give up."""

_PREFIX = struct.Struct("<III")
_ADDRESSES = struct.Struct("<IIIII")


class HeaderFlag(IntFlag):
    """The flags of the Multiboot header."""

    PAGE_ALIGN = 1 << 0
    """Modules start on page boundaries: they always do here."""
    MEMORY_INFO = 1 << 1
    """Tell the amount of memory: always told here."""
    VIDEO_MODE = 1 << 2
    """A video mode is preferred. It is a wish; the text mode there is gets told."""
    ADDRESSES = 1 << 16
    """The header's own load addresses count, whatever format the file has: the "a.out kludge"."""


UNDERSTOOD = HeaderFlag.PAGE_ALIGN | HeaderFlag.MEMORY_INFO | HeaderFlag.VIDEO_MODE


@dataclass(frozen=True, slots=True)
class MultibootHeader:
    """The header found in a kernel file. The five addresses count only with HeaderFlag.ADDRESSES."""

    offset: int
    """Where in the file the header is."""
    flags: int
    header_addr: int = 0
    load_addr: int = 0
    load_end_addr: int = 0
    bss_end_addr: int = 0
    entry_addr: int = 0


def find_header(image: bytes) -> MultibootHeader | None:
    """The first valid header in the first 8 KiB, on a multiple of 4 bytes."""
    head = image[:SEARCH_BYTES]
    for offset in range(0, len(head) - _PREFIX.size + 1, 4):
        magic, flags, checksum = _PREFIX.unpack_from(head, offset)
        if magic == HEADER_MAGIC and (magic + flags + checksum) & MASK32 == 0:
            if not flags & HeaderFlag.ADDRESSES:
                return MultibootHeader(offset, flags)
            if offset + _PREFIX.size + _ADDRESSES.size > len(head):
                raise BootError("truncated Multiboot header: its addresses end behind the file or its first 8 KiB")
            return MultibootHeader(offset, flags, *_ADDRESSES.unpack_from(head, offset + _PREFIX.size))
    return None


def load_multiboot(request: BootRequest, memory: Memory) -> BootState:
    """Loads a Multiboot kernel. Raises BootError when it is none, asks for too much or does not fit.

    ELF64 files are loaded like ELF32 ones, by physical address, as long as they lie below 4 GiB; the entry is still in
    32-bit mode. The initrd becomes the one module. ESP is 0: the kernel has to set its own stack.
    """
    header = find_header(request.image)
    if header is None:
        raise BootError("no Multiboot header in the first 8 KiB")
    unknown = header.flags & REQUIREMENTS_MASK & ~UNDERSTOOD
    if unknown:
        raise BootError(f"the Multiboot header requires flags {unknown:#x}, not in Multiboot 1: clear them")
    room = Placement(memory)
    elf: ElfImage | None = None
    if header.flags & HeaderFlag.ADDRESSES:
        pieces = [_load_by_header(request.image, header, room)]
        entry = header.entry_addr
    elif request.image.startswith(ELF_MAGIC):
        elf = ElfImage(request.image)
        elf.load(room)
        pieces = [(part.physical, part.physical + part.memory_size) for part in elf.segments]
        entry = elf.physical_of(elf.entry)
    else:
        raise BootError("a Multiboot kernel that is not ELF needs load addresses: set bit 16 of its header's flags")
    if not any(start <= entry < end for start, end in pieces):
        raise BootError(f"the kernel's entry {entry:#x} is not in what it loads: check ENTRY in the linker script")

    code, data = code32(CODE_SELECTOR), data32(DATA_SELECTOR)
    table = gdt_bytes([code, data])
    gdt = room.low(len(table), "GDT", align=8)
    memory.write(gdt, table)
    info = write_boot_information(room, request)
    symbols = elf is not None and elf.has_symbols()
    name = elf.symbol_at(elf.entry) if elf is not None else None
    return BootState(
        mode=CpuMode.PROTECTED_FLAT32,
        rip=entry,
        gpr={"rax": BOOTLOADER_MAGIC, "rbx": info},
        cr0=CR0.PE | CR0.ET,
        cr3=0,
        cr4=0,
        efer=0,
        segments=flat_registers(code, data),
        gdt_base=gdt,
        gdt_limit=len(table) - 1,
        entry_name=name or "multiboot_entry",
        symbols_file=request.path if symbols else None,
        protocol="multiboot",
    )


def _load_by_header(image: bytes, header: MultibootHeader, room: Placement) -> tuple[int, int]:
    """Loads the file where its header says (specification 3.1.3); gives the start and end of what is then taken."""
    first = header.offset - (header.header_addr - header.load_addr)
    if header.load_addr > header.header_addr or first < 0:
        raise BootError(
            f"Multiboot load_addr {header.load_addr:#x} does not fit header_addr {header.header_addr:#x}: "
            f"the header is at offset {header.offset:#x} of the file"
        )
    size = header.load_end_addr - header.load_addr if header.load_end_addr else len(image) - first
    if size <= 0 or (header.bss_end_addr and header.bss_end_addr < header.load_addr + size):
        raise BootError("the Multiboot header's addresses are not in order: load_addr < load_end_addr <= bss_end_addr")
    if first + size > len(image):
        raise BootError(f"truncated Multiboot kernel: its header wants {first + size} bytes, the file has {len(image)}")
    whole = max(header.bss_end_addr - header.load_addr, size)
    room.claim(header.load_addr, whole, "kernel")
    room.memory.write(header.load_addr, image[first : first + size])
    clear(room, header.load_addr + size, whole - size)
    return header.load_addr, header.load_addr + whole
