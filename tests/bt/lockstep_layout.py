"""The little long-mode world that lockstep programs run in, the same bytes for both machines.

One physical image: descriptor tables, exception handlers (each is `hlt`), page tables, three pages of code, some pages of
data and a stack. The code and data frames are mapped at several *bases*, chosen so that RIP-relative operands fall on
either side of what fits a sign-extended 32-bit displacement.
"""

from __future__ import annotations

import struct
from functools import cache
from typing import Final

RAM_SIZE: Final = 1 << 20
PAGE: Final = 4096

SYSTEM: Final = 0xFFFF_C000_0000_0000
"""Where the first MiB of physical memory is mapped for the supervisor."""
GDT: Final = 0x1000
IDT: Final = 0x2000
TSS: Final = 0x3000
HANDLERS: Final = 0x4000
HANDLER_SIZE: Final = 16
IST_STACK: Final = 0x5000
ENTRY_STUB: Final = 0x6000
ENTRY_FRAME: Final = 0x7000
TABLES: Final = 0x4_0000
CODE_FRAME: Final = 0x2_0000
CODE_PAGES: Final = 3
DATA_FRAME: Final = 0x3_0000

KERNEL_CODE: Final = 0x08
KERNEL_DATA: Final = 0x10
USER_DATA: Final = 0x1B
USER_CODE: Final = 0x23
TASK: Final = 0x28
GDT_LIMIT: Final = 0x37
TSS_LIMIT: Final = 0x67

# Offsets from a base.
DATA: Final = 0x1_0000
DATA_PAGES: Final = 4
READ_ONLY: Final = DATA + DATA_PAGES * PAGE
HOLE: Final = READ_ONLY + PAGE
SUPERVISOR: Final = HOLE + PAGE
STACK: Final = SUPERVISOR + PAGE
STACK_PAGES: Final = 2
END: Final = STACK + STACK_PAGES * PAGE

LOW: Final = 0x40_0000
EDGE: Final = 0x7FFF_0000
"""Code below 2 GiB, its data from 2 GiB on."""
USER_HALF: Final = 0x7F12_3456_0000
DIRECT_MAP: Final = 0xFFFF_8880_1234_0000
UPPER_EDGE: Final = 0xFFFF_FFFF_7FFF_0000
"""Code just below the topmost 2 GiB, its data in them."""
KERNEL: Final = 0xFFFF_FFFF_8100_0000
BASES: Final = (LOW, EDGE, USER_HALF, DIRECT_MAP, UPPER_EDGE, KERNEL)

_P, _W, _U, _A, _D, _G, _NX = 1, 2, 4, 0x20, 0x40, 0x100, 1 << 63
_FRAME: Final = 0x000F_FFFF_FFFF_F000
ROOT: Final = TABLES


class _Tables:
    """A builder of 4-level page tables (SDM vol. 3A, 4.5)."""

    def __init__(self, words: memoryview) -> None:
        self._words = words
        self._next = ROOT + PAGE

    def map(self, va: int, frame: int, flags: int) -> None:
        table = ROOT
        for shift in (39, 30, 21):
            at = (table + 8 * (va >> shift & 511)) >> 3
            if not self._words[at]:
                self._words[at] = self._next | _P | _W | _U | _A
                self._next += PAGE
            table = self._words[at] & _FRAME
        self._words[(table + 8 * (va >> 12 & 511)) >> 3] = frame | flags


def _map_base(tables: _Tables, base: int, user: int) -> None:
    writable = _P | _W | _A | _D | user
    for page in range(CODE_PAGES):
        tables.map(base + page * PAGE, CODE_FRAME + page * PAGE, writable)
    offsets = [*range(DATA, READ_ONLY, PAGE), *range(STACK, END, PAGE)]
    for offset in offsets:
        tables.map(base + offset, DATA_FRAME + offset - DATA, writable | _NX)
    tables.map(base + READ_ONLY, DATA_FRAME + READ_ONLY - DATA, _P | _A | user | _NX)
    tables.map(base + SUPERVISOR, DATA_FRAME + SUPERVISOR - DATA, _P | _W | _A | _D | _NX)


def _descriptors() -> bytes:
    flat = [0, 0x00AF_9B00_0000_FFFF, 0x00CF_9300_0000_FFFF, 0x00CF_F300_0000_FFFF, 0x00AF_FB00_0000_FFFF]
    base = SYSTEM + TSS
    low = TSS_LIMIT | (base & 0xFF_FFFF) << 16 | 0x8B << 40 | (base >> 24 & 0xFF) << 56
    return struct.pack("<7Q", *flat, low, base >> 32)


def _gate(vector: int) -> bytes:
    """An interrupt gate to the vector's handler, on stack IST1 (SDM vol. 3A, 6.14.1)."""
    handler = SYSTEM + HANDLERS + vector * HANDLER_SIZE
    low = handler & 0xFFFF | KERNEL_CODE << 16 | 1 << 32 | 0xEE00 << 32 | (handler >> 16 & 0xFFFF) << 48
    return struct.pack("<QQ", low, handler >> 32)


@cache
def image(cpl: int) -> bytes:
    """Physical memory for programs that run at `cpl` (0 or 3), without the program."""
    memory = bytearray(RAM_SIZE)
    words = memoryview(memory).cast("Q")
    tables = _Tables(words)
    for frame in range(0, 1 << 20, PAGE):
        tables.map(SYSTEM + frame, frame, _P | _W | _A | _D | _G)
    for base in BASES:
        _map_base(tables, base, _U if cpl else _G)
    for frame in range(DATA_FRAME, DATA_FRAME + END - DATA, 8):
        words[frame >> 3] = frame * 0x9E37_79B9_7F4A_7C15 & (1 << 64) - 1
    memory[GDT : GDT + GDT_LIMIT + 1] = _descriptors()
    struct.pack_into("<Q", memory, TSS + 36, SYSTEM + IST_STACK + PAGE)
    for vector in range(32):
        memory[IDT + 16 * vector : IDT + 16 * vector + 16] = _gate(vector)
        memory[HANDLERS + HANDLER_SIZE * vector] = 0xF4  # hlt
    memory[ENTRY_STUB : ENTRY_STUB + 2] = b"\x48\xcf"  # iretq
    del words
    return bytes(memory)


def program_image(cpl: int, code: bytes, offset: int) -> bytearray:
    """`image` with `code` at `offset` of the code pages."""
    if offset + len(code) > CODE_PAGES * PAGE:
        raise ValueError(f"{len(code)} bytes of code do not fit behind offset {offset:#x}")
    memory = bytearray(image(cpl))
    memory[CODE_FRAME + offset : CODE_FRAME + offset + len(code)] = code
    return memory
