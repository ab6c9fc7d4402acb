"""The page tables of kernels that are entered in 64-bit mode: every address is its own, for the first 4 GiB.

2 MiB pages throughout, so six pages of tables do. Source: Intel SDM vol. 3A, 4.5 (4-level paging), table 4-15 ff.
"""

from __future__ import annotations

import struct
from enum import IntFlag

from dbgvmm.boot.layout import PAGE, Placement

LARGE_PAGE = 2 << 20
ENTRIES = 512
IDENTITY_GIB = 4
IDENTITY_END = IDENTITY_GIB << 30
HIGHER_HALF_BASE = 0xFFFF_FFFF_8000_0000
"""Where the "kernel" code model links kernels: the topmost 2 GiB (System V ABI for AMD64, 3.5.1)."""
HIGHER_HALF_SIZE = 2 << 30


class Entry(IntFlag):
    """The bits of a page-table entry that these tables use."""

    P = 1 << 0
    RW = 1 << 1
    PS = 1 << 7


def build_tables(room: Placement, higher_half: bool) -> int:
    """Writes the tables into low memory and gives the value for CR3.

    With `higher_half` the 2 GiB at HIGHER_HALF_BASE also map to physical 0 and up, by the same page directories.
    """
    pages = 2 + IDENTITY_GIB + (1 if higher_half else 0)
    pml4 = room.low(pages * PAGE, "page tables", align=PAGE)
    pdpt = pml4 + PAGE
    directories = [pdpt + PAGE * (1 + gib) for gib in range(IDENTITY_GIB)]
    upper_pdpt = directories[-1] + PAGE

    top = {0: pdpt}
    if higher_half:
        top[ENTRIES - 1] = upper_pdpt
        _write_table(room, upper_pdpt, {ENTRIES - 2: directories[0], ENTRIES - 1: directories[1]})
    _write_table(room, pml4, top)
    _write_table(room, pdpt, dict(enumerate(directories)))
    for gib, directory in enumerate(directories):
        frames = {index: (gib * ENTRIES + index) * LARGE_PAGE for index in range(ENTRIES)}
        _write_table(room, directory, frames, large=True)
    return pml4


def _write_table(room: Placement, gpa: int, targets: dict[int, int], large: bool = False) -> None:
    """Writes one table whose present entries are `targets` (index to physical address), tables or 2 MiB pages."""
    flags = int(Entry.P | Entry.RW | (Entry.PS if large else 0))
    entries = (targets[index] | flags if index in targets else 0 for index in range(ENTRIES))
    room.memory.write(gpa, struct.pack(f"<{ENTRIES}Q", *entries))
