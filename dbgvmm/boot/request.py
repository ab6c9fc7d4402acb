"""What a person asks to have booted: the kernel file, its command line, its initial RAM disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dbgvmm.boot.state import BootError

LARGEST_FILE = 1 << 30


@dataclass(frozen=True, slots=True)
class Initrd:
    """A file handed to the kernel: Linux calls it initrd, Multiboot and PVH call it a module."""

    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class BootRequest:
    """A kernel's bytes and what goes with them."""

    path: Path
    image: bytes
    cmdline: bytes = b""
    """Without its terminating zero."""
    initrd: Initrd | None = None
    vga_text: bool = False
    """Whether the machine has a VGA in 80x25 text mode, which kernels are then told."""

    @classmethod
    def from_files(cls, path: Path, cmdline: str, initrd: Path | None, vga_text: bool = False) -> BootRequest:
        """Reads the files. Raises BootError when one cannot be read or the command line has a zero byte."""
        if "\0" in cmdline:
            raise BootError("the kernel command line contains a zero byte: take it out")
        disk = Initrd(initrd.name, _read(initrd, "initrd")) if initrd is not None else None
        return cls(path, _read(path, "kernel"), cmdline.encode(), disk, vga_text)


def _read(path: Path, what: str) -> bytes:
    try:
        if path.is_file() and path.stat().st_size > LARGEST_FILE:
            raise BootError(f"{what} {path}: larger than 1 GiB, so this is no {what}: name another file")
        return path.read_bytes()
    except OSError as error:
        raise BootError(f"{what} {path}: {error.strerror}") from error
