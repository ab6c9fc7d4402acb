"""Tells from a file's content how it wants to be booted, and boots it so."""

from __future__ import annotations

from pathlib import Path

from dbgvmm.boot.elf64 import load_elf64
from dbgvmm.boot.elf_image import MAGIC as ELF_MAGIC
from dbgvmm.boot.elf_image import ElfImage
from dbgvmm.boot.linux import load_linux
from dbgvmm.boot.multiboot import find_header, load_multiboot
from dbgvmm.boot.pvh import load_pvh, pvh_entry
from dbgvmm.boot.request import BootRequest
from dbgvmm.boot.setup_header import is_bzimage
from dbgvmm.boot.state import BootError, BootState, Memory

MULTIBOOT2_MAGIC = (0xE852_50D6).to_bytes(4, "little")
MULTIBOOT2_SEARCH_BYTES = 32768
COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bzip2",
    b"\x02\x21\x4c\x18": "lz4",
    b"\x04\x22\x4d\x18": "lz4",
}


def load_kernel(
    path: Path, memory: Memory, cmdline: str = "", initrd: Path | None = None, vga_text: bool = False
) -> BootState:
    """Loads the kernel in the file `path` into `memory` and gives the CPU's first state.

    The content decides how: a Linux bzImage, a Multiboot header, an ELF file with a PVH note, a 64-bit ELF file without
    one, in this order. `vga_text` tells the kernel of a VGA in text mode. Raises BootError, which names the file.
    """
    request = BootRequest.from_files(path, cmdline, initrd, vga_text)
    try:
        return _load(request, memory)
    except BootError as error:
        raise BootError(f"{path}: {error}") from error


def _load(request: BootRequest, memory: Memory) -> BootState:
    image = request.image
    if is_bzimage(image):
        return load_linux(request, memory)
    if find_header(image) is not None:
        return load_multiboot(request, memory)
    if not image.startswith(ELF_MAGIC):
        raise BootError(f"not a kernel: {_guess(image)}")
    elf = ElfImage(image)
    if pvh_entry(elf) is not None:
        return load_pvh(request, memory, elf)
    hint = _multiboot2_hint(image)
    if elf.bits != 64:
        raise BootError(f"a 32-bit ELF file needs a Multiboot header in its first 8 KiB, or a PVH note{hint}")
    try:
        return load_elf64(request, memory, elf)
    except BootError as error:
        raise BootError(f"{error}{hint}") from error


def _guess(image: bytes) -> str:
    """What the file might be instead, so that the message helps."""
    for magic, name in COMPRESSED.items():
        if image.startswith(magic):
            return f"the file is packed with {name}: unpack it first"
    if not image:
        return "the file is empty"
    return "no Linux bzImage, no Multiboot header, no ELF file"


def _multiboot2_hint(image: bytes) -> str:
    if MULTIBOOT2_MAGIC in image[:MULTIBOOT2_SEARCH_BYTES]:
        return " (it has a Multiboot 2 header, which is not supported: add a Multiboot 1 header or a PVH note)"
    return ""
