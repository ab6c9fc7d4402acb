"""Where the monitor lives, in the engine's physical memory and in its 57-bit virtual address space.

A 64-bit guest has 48-bit virtual addresses. The engine runs with CR4.LA57, so everything between the two canonical
halves of the guest is ours: no hole has to be stolen from the guest (Intel SDM vol. 3A, 4.5 "4-level and 5-level
paging"). PML5 slot 0 is the guest's lower half, slot 511 its upper half.
"""

from __future__ import annotations

from typing import Final, NewType

GuestVirtual = NewType("GuestVirtual", int)
"""A linear address as the guest's code uses it."""
GuestPhysical = NewType("GuestPhysical", int)
"""An address in the guest's RAM or MMIO space; also the engine's physical address of that byte."""
MonitorPhysical = NewType("MonitorPhysical", int)
"""An address in the engine's physical memory that belongs to the monitor (page tables, TC, data)."""
TcAddress = NewType("TcAddress", int)
"""A virtual address in the translation cache."""

PAGE_SHIFT: Final = 12
PAGE_SIZE: Final = 1 << PAGE_SHIFT
PAGE_OFFSET_MASK: Final = PAGE_SIZE - 1
MASK64: Final = (1 << 64) - 1

# -- physical
MONITOR_PA: Final = 0x20_0000_0000
"""Start of the monitor's memory: far above any guest RAM that fits into a host (128 GiB)."""
MONITOR_SIZE: Final = 1 << 30
"""Address space reserved for the monitor; only what is touched costs host memory."""

# -- physical, relative to MONITOR_PA
DATA_OFFSET: Final = 0
"""The TC's data page: counters, spilled registers, virtual flags."""
TRACE_OFFSET: Final = 0x1_0000
TRACE_PAGES: Final = 112
"""The trace area: what probes record until the monitor takes it (bt/trace_area.py)."""
TC_OFFSET: Final = 0x10_0000
TC_SIZE: Final = 128 << 20
COUNTERS_OFFSET: Final = TC_OFFSET + TC_SIZE
COUNTERS_SIZE: Final = 16 << 20
"""The counters: words that translated code counts its executions in, while somebody wants them (bt/counter_area.py)."""
FRAMES_OFFSET: Final = COUNTERS_OFFSET + COUNTERS_SIZE
"""From here on: frames for shadow tables and lookup tables, handed out by the frame pool."""

# -- virtual
MONITOR_VA: Final = 0xFF10_0000_0000_0000
MONITOR_PML5_SLOT: Final = MONITOR_VA >> 48 & 511
DATA_VA: Final = MONITOR_VA
"""The data page as code at CPL 0 to 2 sees it."""
USER_DATA_VA: Final = MONITOR_VA + PAGE_SIZE
"""The same page for translated user code (page-level U set)."""
TRACE_VA: Final = MONITOR_VA + 0x1_0000
USER_TRACE_VA: Final = TRACE_VA + TRACE_PAGES * PAGE_SIZE
"""The trace area, in the same two ways."""
TC_VA: Final = MONITOR_VA + 0x20_0000
"""The TC begins on a page table of its own: that table (and those behind it) differs from root to root."""

COUNTERS_VA: Final = MONITOR_VA + (512 << 20)
USER_COUNTERS_VA: Final = COUNTERS_VA + COUNTERS_SIZE
"""The counters, in the same two ways: within reach of RIP-relative operands in the TC."""

CODE_ALIAS_VA: Final = MONITOR_VA + (1 << 30)
"""The monitor's memory from MONITOR_PA to the end of the TC, mapped in every root: to forget compiled code the engine
needs an address that is mapped, and a TC page's own address is mapped only where its window is open."""

TC_TABLES: Final = TC_SIZE >> 21
KERNEL_LOOKUP_VA: Final = 0xFF40_0000_0001_5000
USER_LOOKUP_VA: Final = 0xFF60_0000_0001_5000
"""Bases of the lookup tables: the slot of guest address `a` is the quadword at base + 8 * a (mod 2^64). Their low bits keep
slots off the engine's TLB entries that a small guest's stack and data have (its TLB is direct-mapped, with few entries)."""
LOOKUP_SPAN: Final = 1 << 50
"""The tables reach this far below (upper-half guest addresses) and above (lower half) their base."""

END_OF_USER: Final = 0x0000_8000_0000_0000
"""Behind the lower canonical half, where kernels with an upper half have their user code."""


def is_canonical(address: int) -> bool:
    """Whether a 48-bit CPU accepts the address (Intel SDM vol. 1, 3.3.7.1)."""
    return address < END_OF_USER or address >= 0xFFFF_8000_0000_0000


def is_lookup_slot(address: int) -> bool:
    """Whether a virtual address lies in one of the two lookup tables."""
    return any(base - LOOKUP_SPAN <= address < base + LOOKUP_SPAN for base in (KERNEL_LOOKUP_VA, USER_LOOKUP_VA))
