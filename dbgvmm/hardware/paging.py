"""Bits of a page-table entry, as the engine's own MMU (and a guest in 4-level or PAE mode) reads them.

Intel SDM vol. 3A, 4.5.4, tables 4-14 to 4-20.
"""

from __future__ import annotations

from typing import Final


class PTE:
    """Page-table entry bits. `PS` is meaningful in PDPTEs and PDEs, `PAT` in PTEs (same position)."""

    P: Final = 1 << 0
    W: Final = 1 << 1
    U: Final = 1 << 2
    PWT: Final = 1 << 3
    PCD: Final = 1 << 4
    A: Final = 1 << 5
    D: Final = 1 << 6
    PS: Final = 1 << 7
    PAT: Final = 1 << 7
    G: Final = 1 << 8
    NX: Final = 1 << 63
    ADDRESS: Final = 0x000F_FFFF_FFFF_F000
    LARGE_PAT: Final = 1 << 12
