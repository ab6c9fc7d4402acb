"""The trace area: memory of the monitor's that probes write records to, without an exit, until somebody takes them.

What a record looks like is between who makes a probe and who takes its records; they lie one behind the other.
"""

from __future__ import annotations

from typing import Final

from dbgvmm.bt.tcdata import TRACE_NEXT, TcData
from dbgvmm.hardware.layout import PAGE_SIZE, TRACE_OFFSET, TRACE_PAGES
from dbgvmm.hardware.memory import FramePool

TRACE_SIZE: Final = TRACE_PAGES * PAGE_SIZE


class TraceArea:
    """The area as the monitor sees it."""

    def __init__(self, frames: FramePool, data: TcData) -> None:
        self._bytes = frames.block.bytes[TRACE_OFFSET : TRACE_OFFSET + TRACE_SIZE]
        self._words = data.words

    @property
    def used(self) -> int:
        """Bytes of records that nobody has taken."""
        return self._words[TRACE_NEXT >> 3]

    def take(self) -> bytes:
        """All records since the last time, oldest first. Only at an exit, or while the guest stands still."""
        used = self.used
        self._words[TRACE_NEXT >> 3] = 0
        return bytes(self._bytes[:used])


__all__ = ["TRACE_SIZE", "TraceArea"]
