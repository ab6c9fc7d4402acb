"""What a loader hands over: the CPU's first state. And what it needs: somewhere to put bytes.

The loaders know nothing of the machine beyond the `Memory` protocol, and the machine needs nothing of the loaders
beyond `BootState`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Protocol

from dbgvmm.boot.segments import BootSegment
from dbgvmm.cpu.bits import RFLAGS


class BootError(Exception):
    """The kernel cannot be loaded. The message is one line that says what to do about it."""


class Memory(Protocol):
    """The guest's RAM, as a loader sees it: one stretch of bytes from guest-physical address 0."""

    @property
    def size(self) -> int:
        """Bytes of RAM."""

    def write(self, gpa: int, data: bytes) -> None:
        """Stores `data` at guest-physical address `gpa`."""

    def read(self, gpa: int, n: int) -> bytes:
        """The `n` bytes at guest-physical address `gpa`."""


class CpuMode(Enum):
    """The mode in which the first instruction runs."""

    REAL = auto()
    """Real-address mode, 16-bit code."""
    PROTECTED_FLAT32 = auto()
    """Protected mode, flat 32-bit segments, paging off."""
    LONG64 = auto()
    """64-bit mode, paging on."""


@dataclass(frozen=True, slots=True)
class BootState:
    """The CPU's state before the kernel's first instruction.

    Whatever a field does not say is as after reset: general registers missing in `gpr` are 0, segment registers missing
    in `segments` keep their reset contents.
    """

    mode: CpuMode
    rip: int
    """Address of the first instruction: linear, and with paging off that is physical."""
    gpr: Mapping[str, int]
    """General registers by their 64-bit names in small letters: "rax" ... "r15"."""
    cr0: int
    cr3: int
    cr4: int
    efer: int
    segments: Mapping[str, BootSegment]
    """By name: "cs", "ds", "es", "ss", "fs", "gs", and "tr" where the protocol asks for one."""
    gdt_base: int
    """Linear address of the descriptor table that the loader built."""
    gdt_limit: int
    """Its limit: the offset of its last byte."""
    entry_name: str
    """What to call the entry point: its symbol where the file has one, else the protocol's name for it."""
    symbols_file: Path | None
    """The file that holds the kernel's symbol table, if the loader knows one."""
    protocol: str
    """How the kernel was started: "linux", "multiboot", "pvh" or "elf64"."""
    rflags: int = RFLAGS.FIXED
    """Interrupts off, unless a loader says otherwise."""
