"""The TC's data page: the few words that translated code and the monitor share.

Translated code reaches them RIP-relative. Offsets are in bytes from the start of the page.
"""

from __future__ import annotations

from typing import Final

from dbgvmm.hardware.layout import DATA_OFFSET, MONITOR_PA
from dbgvmm.hardware.memory import FramePool

BUDGET: Final = 0x00
"""Signed: instructions left until the clock wants to be asked, less `MARGIN`."""
SPILL_RAX: Final = 0x08
SPILL_RCX: Final = 0x10
SPILL_ANY: Final = 0x18
PENDING: Final = 0x20
"""Byte, not 0: sti and popf must leave. INTERRUPT_WAITS: for IF. IOPL_SET: popf may clear the virtual IOPL."""
INTERRUPT_WAITS: Final = 1
IOPL_SET: Final = 2
TSC_BASE: Final = 0x30
"""The TSC that BUDGET = 0 stands for."""
VIRTUAL_IOPL: Final = 0x38
"""Byte: what pushf must add to bits 15:8 of the hardware's flags, whose IOPL is 1 in the kernel, to show the guest's."""
RETURN_CS: Final = 0x40
"""Six words about the CS and SS that an IRETQ to the same level must have: minus the selector, the descriptor's address,
minus the descriptor, for CS and then for SS. All 0: not known, every IRETQ is a callout."""
RETURN_SS: Final = 0x58
ZERO: Final = 0x70
"""Stays 0: the descriptor of a null SS."""
PROBE_RAX: Final = 0x80
PROBE_RCX: Final = 0x88
PROBE_RDX: Final = 0x90
PROBE_RBX: Final = 0x98
PROBE_FLAGS: Final = 0xA0
"""What probes (probes.py) use: the guest's four registers, and its flags as LAHF and SETO AL leave them in AX."""
USUAL_FLAGS_8: Final = 0x100
USUAL_FLAGS_16: Final = 0x200
"""Tables of 256 bytes: 0 for the values of RFLAGS bits 15:8 and 23:16 that IRETQ in the TC may load."""
PROBE_BUFFER: Final = 0xA8
PROBE_COUNT: Final = 0xB0
"""For a probe that records: where the trace area is, as it sees it; and what LIMIT - BUDGET lacks to be the count."""
LIMIT: Final = 0xB8
"""Signed: the instruction count at which the clock wants to be asked, less `MARGIN`."""
TRACE_NEXT: Final = 0xC0
"""Bytes of the trace area that are used (trace_area.py)."""
PROBE_RSP: Final = 0xC8
PROBE_PUSHED: Final = 0xE8
"""The guest's RSP while a probe has a stack of its own, and the word that it pushes there."""
GUEST_CR3: Final = 0xF0
"""The guest's CR3, for probes: the hardware's is a shadow root."""
ALIASES: Final = 0x300
MAX_ALIASES: Final = 8
"""For each alias of a watched page (aliases.py), four words: the page's address and the alias' for the kernel, and for the
user. Where the alias may not be used, both are 0."""
PROBE_STACK: Final = 0x400
"""Words for the values that a probe computes with, up to 0x800."""
PROBE_STACK_WORDS: Final = 128
_UNUSUAL: Final = 0x1B_7100
"""TF, IOPL, NT, RF, VM, VIF, VIP."""

MARGIN: Final = 16
"""A unit checks the budget after at most this many of its instructions: so the check cannot come too late."""


def alias_words(number: int, user: bool) -> tuple[int, int]:
    """Offsets of an alias' two words: the page it stands for, and where it is."""
    at = ALIASES + 32 * number + 16 * user
    return at, at + 8


class TcData:
    """The data page as Python sees it."""

    def __init__(self, frames: FramePool) -> None:
        start = DATA_OFFSET
        assert frames.block.base == MONITOR_PA
        page = frames.block.bytes[start : start + 4096]
        self.signed = page.cast("q")
        self.words = page.cast("Q")
        self.bytes = page
        for table, shift in ((USUAL_FLAGS_8, 8), (USUAL_FLAGS_16, 16)):
            page[table : table + 256] = bytes(int(value & _UNUSUAL >> shift & 0xFF != 0) for value in range(256))
