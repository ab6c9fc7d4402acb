"""What an IRETQ in the TC compares its frame with: the selectors of the last return that the monitor checked."""

from __future__ import annotations

from collections.abc import Mapping

from dbgvmm.bt.sync import StateSync
from dbgvmm.bt.tcdata import RETURN_CS, RETURN_SS, ZERO, TcData
from dbgvmm.cpu.state import VCpu
from dbgvmm.hardware.layout import DATA_VA, MASK64


class ReturnSelectors:
    """The words of the data page that hold CS, SS and their descriptors, negated."""

    def __init__(self, cpu: VCpu, data: TcData, sync: StateSync) -> None:
        self.cpu = cpu
        self.data = data
        self.sync = sync
        self.every_return_leaves = False
        """No IRETQ is carried out in the TC: somebody wants to see them all."""
        self.forget()

    def remember(self, descriptors: Mapping[int, int]) -> None:
        """Let translated IRETQs return to the current CS and SS: `descriptors`, by offset in the GDT, were just checked."""
        if self.every_return_leaves:
            return
        cpu, words = self.cpu, self.data.words
        for index, at in ((1, RETURN_CS >> 3), (2, RETURN_SS >> 3)):
            selector = cpu.segs[index].selector
            offset = selector & ~7
            words[at] = -selector & MASK64
            words[at + 1] = cpu.gdtr.base + offset & MASK64 if offset else DATA_VA + ZERO
            words[at + 2] = -descriptors[offset] & MASK64 if offset else 0
        self.sync.return_selectors = cpu.segs[1].selector, cpu.segs[2].selector, cpu.gdtr.base

    def show_all(self, wanted: bool) -> None:
        """Have every IRETQ carried out by the monitor, the long way; or only those that have to be. The guest cannot tell."""
        self.every_return_leaves = wanted
        self.forget()

    def forget(self) -> None:
        """CS, SS or GDTR changed: what IRETQ in the TC compares with is not known any more."""
        self.sync.return_selectors = None
        words = self.data.words
        for at in (RETURN_CS >> 3, RETURN_SS >> 3):
            # A null selector still equals the first word; so the descriptor compared with must differ from its word.
            words[at], words[at + 1], words[at + 2] = 0, DATA_VA + ZERO, 1
