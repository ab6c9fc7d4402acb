"""How memory is accessed, and what a page fault was: the numbers that the parts of the MMU exchange.

An access is an int made of page-fault error-code bits (Intel SDM vol. 3A, 4.7), so that the error code of the engine's
fault can be used as it is, and the bits W and U have the places that they have in a page-table entry.
"""

from __future__ import annotations

from typing import Final

from dbgvmm.cpu.bits import PageFaultError

READ: Final = 0
WRITE: Final = PageFaultError.W
USER: Final = PageFaultError.U
FETCH: Final = PageFaultError.I
IMPLICIT: Final = 1 << 8
"""A supervisor access to a system table (GDT, IDT, TSS ...): EFLAGS.AC does not switch SMAP off (SDM vol. 3A 4.6.1)."""

HIDDEN: Final = 0
"""`on_page_fault`: the shadow was not filled yet; resume the guest."""
TRUE: Final = 1
"""`on_page_fault`: the guest's own tables cause the fault; deliver it with `fault_error`."""
TRACE: Final = 2
"""`on_page_fault`: a permitted write to a traced frame at `trace_gpa`; emulate the instruction or open the page."""

PHYSICAL_BITS: Final = 37
"""MAXPHYADDR of the guest's CPU: its physical addresses end where the monitor's memory begins."""
FRAME_MASK: Final = (1 << PHYSICAL_BITS - 12) - 1
"""Bits of a frame number."""
