"""Traces: guest frames whose writes the monitor must see (Adams & Agesen, ASPLOS 2006, section 3).

A traced frame is not writable through any shadow entry, so a write to it faults. (One that is hidden is not mapped at
all.) Removing a trace restores nothing:
the next write faults once more, finds the frame free, and gets W back then.
"""

from __future__ import annotations

from dbgvmm.mmu.regions import RegionTables
from dbgvmm.mmu.rmap import ReverseMap
from dbgvmm.mmu.tlb import TlbState
from dbgvmm.mmu.trace_kinds import HIDE


class Traces:
    """`kinds` maps each traced frame to the reasons (TABLE | CODE | WATCH | HIDE | IN_PLACE)."""

    def __init__(self, kinds: dict[int, int], rmap: ReverseMap, regions: RegionTables, tlb: TlbState, ram_frames: int) -> None:
        self.kinds = kinds
        self._rmap = rmap
        self._regions = regions
        self._tlb = tlb
        self._ram_frames = ram_frames
        self.added = 0

    def add(self, frame: int, kind: int) -> None:
        """Trace the frame for this reason too. MMIO (a frame outside RAM) is never traced."""
        if frame >= self._ram_frames:
            return
        kinds = self.kinds
        old = kinds.get(frame, 0)
        if old & kind:
            return
        kinds[frame] = old | kind
        self.added += 1
        if kind == HIDE:
            self.hide(frame)
        elif not old:
            self.write_protect(frame)

    def hide(self, frame: int) -> None:
        """Make the next access to the frame fault, however it is mapped."""
        self._rmap.drop(frame)
        self._regions.hide(frame)
        self._tlb.flush()

    def show(self, frame: int) -> None:
        """The frame may be mapped again. Leaves fill by faults; tables of whole regions have no faults of their own."""
        self._regions.show(frame)

    def write_protect(self, frame: int) -> None:
        """Make the next write to the frame fault, however it is mapped."""
        had = self._rmap.write_protect(frame)
        if self._regions.write_protect(frame) or had:
            self._tlb.flush()

    def remove(self, frame: int, kind: int) -> None:
        """End the trace for this reason."""
        kinds = self.kinds
        old = kinds.get(frame, 0)
        left = old & ~kind
        if left:
            kinds[frame] = left
        elif frame in kinds:
            del kinds[frame]
        if old & ~left & HIDE:
            self.show(frame)
