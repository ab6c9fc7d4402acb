"""What is remembered of the last fault that the guest got, for whoever asks why (debug/inside/faults.py)."""

from __future__ import annotations

from typing import NamedTuple

from dbgvmm.cpu.faults import GuestFault


class Delivery(NamedTuple):
    """A fault that the guest got: of the instruction at `rip`, after `when` instructions, at CPL `cpl`.

    Of a page fault: entry_index is where in RAM's quadwords the entry lies that the walk ended at (-1: outside RAM), and
    `entry` what it said then.
    """

    fault: GuestFault
    rip: int
    when: int
    cpl: int
    entry_index: int
    entry: int
