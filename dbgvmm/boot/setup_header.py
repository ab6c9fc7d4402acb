"""The setup header of a Linux bzImage: reading it, and the checks that make a file a kernel we can start.

Source: Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header"; Documentation/arch/x86/zero-page.rst.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import Enum, IntFlag

from dbgvmm.boot.state import BootError

SECTOR = 512
HEADER_START = 0x1F1
BOOT_FLAG = 0xAA55
MAGIC = int.from_bytes(b"HdrS", "little")
OLDEST_64BIT = 0x020C
DEFAULT_SETUP_SECTS = 4
ENTRY64_OFFSET = 0x200
"""The 64-bit entry point, from the start of the protected-mode part."""


class Field(Enum):
    """Fields of `struct boot_params`: offset and struct format.

    The setup header is a part of it, and is at the same offset in the kernel file.
    """

    EXT_MEM_K = 0x002, "<H"
    VIDEO_MODE = 0x006, "<B"
    VIDEO_COLUMNS = 0x007, "<B"
    VIDEO_LINES = 0x00E, "<B"
    VIDEO_IS_VGA = 0x00F, "<B"
    VIDEO_POINTS = 0x010, "<H"
    ALT_MEM_K = 0x1E0, "<I"
    E820_ENTRIES = 0x1E8, "<B"
    SETUP_SECTS = 0x1F1, "<B"
    SYSSIZE = 0x1F4, "<I"
    BOOT_FLAG = 0x1FE, "<H"
    JUMP_DISTANCE = 0x201, "<B"
    """The second byte of the jump over the header: how far the header reaches past 0x202."""
    HEADER = 0x202, "<I"
    VERSION = 0x206, "<H"
    TYPE_OF_LOADER = 0x210, "<B"
    LOADFLAGS = 0x211, "<B"
    CODE32_START = 0x214, "<I"
    RAMDISK_IMAGE = 0x218, "<I"
    RAMDISK_SIZE = 0x21C, "<I"
    CMD_LINE_PTR = 0x228, "<I"
    INITRD_ADDR_MAX = 0x22C, "<I"
    XLOADFLAGS = 0x236, "<H"
    CMDLINE_SIZE = 0x238, "<I"
    PREF_ADDRESS = 0x258, "<Q"
    INIT_SIZE = 0x260, "<I"

    def __init__(self, offset: int, layout: str) -> None:
        self.offset = offset
        self.layout = layout

    @property
    def end(self) -> int:
        """The first offset behind the field."""
        return self.offset + struct.calcsize(self.layout)

    def read(self, data: bytes) -> int:
        """The field's value in `data`."""
        return int(struct.unpack_from(self.layout, data, self.offset)[0])

    def write(self, data: bytearray, value: int) -> None:
        """Sets the field in `data`."""
        struct.pack_into(self.layout, data, self.offset, value)


class LoadFlag(IntFlag):
    """`loadflags`."""

    LOADED_HIGH = 1 << 0


class XLoadFlag(IntFlag):
    """`xloadflags`."""

    KERNEL_64 = 1 << 0
    """There is a 64-bit entry point."""


@dataclass(frozen=True, slots=True)
class SetupHeader:
    """What a loader of the 64-bit protocol goes by. Addresses are guest-physical, sizes in bytes."""

    raw: bytes
    """The header as it is in the file, from HEADER_START on."""
    setup_bytes: int
    """Size of the real-mode part; the protected-mode part follows it in the file."""
    initrd_addr_max: int
    cmdline_size: int
    pref_address: int
    init_size: int


def is_bzimage(image: bytes) -> bool:
    """Whether the file has the marks of a Linux kernel image."""
    if len(image) < Field.HEADER.end:
        return False
    return Field.BOOT_FLAG.read(image) == BOOT_FLAG and Field.HEADER.read(image) == MAGIC


def read_setup_header(image: bytes) -> SetupHeader:
    """Reads and checks the header. Raises BootError when the file is no kernel for the 64-bit boot protocol."""
    if not is_bzimage(image):
        raise BootError("not a Linux kernel image: no setup header (HdrS at 0x202)")
    end = Field.HEADER.offset + Field.JUMP_DISTANCE.read(image)
    if len(image) < max(end, Field.INIT_SIZE.end):
        raise BootError("truncated Linux kernel image: the file ends within the setup header; copy it again")
    version = Field.VERSION.read(image)
    if version < OLDEST_64BIT:
        number = f"{version >> 8}.{version & 0xFF:02}"
        raise BootError(f"Linux boot protocol {number} is too old: use a kernel from 3.8 on (2.12)")
    if not Field.XLOADFLAGS.read(image) & XLoadFlag.KERNEL_64:
        raise BootError("this Linux kernel has no 64-bit entry point: use one built for x86-64")
    if not Field.LOADFLAGS.read(image) & LoadFlag.LOADED_HIGH:
        raise BootError("this Linux kernel is a zImage, made for low memory: build bzImage instead")
    setup_bytes = ((Field.SETUP_SECTS.read(image) or DEFAULT_SETUP_SECTS) + 1) * SECTOR
    wanted = setup_bytes + Field.SYSSIZE.read(image) * 16
    # syssize counts in units of 16 bytes, so the last one may be cut short; anything more is missing.
    if len(image) <= max(wanted - 16, setup_bytes + ENTRY64_OFFSET):
        raise BootError(f"truncated Linux kernel image: {wanted} bytes expected, {len(image)} there; copy it again")
    return SetupHeader(
        raw=image[HEADER_START:end],
        setup_bytes=setup_bytes,
        initrd_addr_max=Field.INITRD_ADDR_MAX.read(image),
        cmdline_size=Field.CMDLINE_SIZE.read(image),
        pref_address=Field.PREF_ADDRESS.read(image),
        init_size=Field.INIT_SIZE.read(image),
    )
