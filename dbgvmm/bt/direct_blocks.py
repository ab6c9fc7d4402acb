"""Blocks of code that runs in place: where their instructions start, found once and kept until their bytes change.

The frames that they lie on are traced, as those of translated code are. So no store to such code goes by unnoticed, and
the engine, which would end a block in its middle for one and not say so, gets to see none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from iced_x86 import Decoder, Instruction, Mnemonic

from dbgvmm.bt import classify
from dbgvmm.bt.classify import Classifier
from dbgvmm.bt.stepper import Stepper
from dbgvmm.hardware.layout import PAGE_SHIFT, PAGE_SIZE
from dbgvmm.mmu.access import FETCH, USER
from dbgvmm.mmu.mmu import ShadowMmu
from dbgvmm.mmu.trace_kinds import IN_PLACE

_SENSITIVE: Final = frozenset(
    (classify.CALLOUT, classify.INVALID, classify.POPF, classify.STI, classify.RDTSC, classify.PAUSE, classify.WIDE_EXCHANGE)
)
_REMEMBERED: Final = 1 << 16
_Key = tuple[int, int, int]
"""Guest-physical address, size, and the second page's frame number if the block crosses into one (else 0)."""


class Block(NamedTuple):
    """Straight-line code as the engine cuts it.

    offsets: where its instructions start; none if one of them must not run in place. iterates: the last one is a string
    instruction with a repeat prefix, each further iteration of which is a block of its own.
    """

    offsets: tuple[int, ...]
    iterates: bool


NOTHING: Final = Block((), False)


class DirectBlocks:
    """What is known of CPL-3 code that runs in place."""

    def __init__(
        self, mmu: ShadowMmu, classifier: Classifier, flush_tlb: Callable[[], None], forget_all_code: Callable[[], None]
    ) -> None:
        self._mmu = mmu
        self._flush_tlb = flush_tlb
        self._forget_all_code = forget_all_code
        self._classifier = classifier
        self._known: dict[_Key, Block] = {}
        self._on_frame: dict[int, set[_Key]] = {}
        self._frames: dict[int, int] = {}
        mmu.writes.on_in_place_write = self._written

    def find(self, address: int, size: int) -> Block:
        """The block that the engine is about to run."""
        frame = self._frame(address >> PAGE_SHIFT)
        crosses = (address & PAGE_SIZE - 1) + size > PAGE_SIZE
        second = self._frame((address >> PAGE_SHIFT) + 1) if crosses else 0
        if frame < 0 or second < 0:
            return NOTHING
        key = frame << PAGE_SHIFT | address & PAGE_SIZE - 1, size, second
        block = self._known.get(key)
        return self._learn(key, crosses) if block is None else block

    def remapped(self) -> None:
        """The monitor has been at work since the last block: shadow entries may have changed."""
        self._frames.clear()

    def clear(self) -> None:
        """Forget everything: memory was replaced."""
        for frame in self._on_frame:
            self._mmu.traces.remove(frame, IN_PLACE)
        self._known.clear()
        self._on_frame.clear()

    def _frame(self, page: int) -> int:
        """The frame of a page that code is run from; -1 if there is none, or it is not RAM."""
        frame = self._frames.get(page)
        if frame is None:
            walk = self._mmu.walk(page << PAGE_SHIFT, FETCH | USER)
            frame = -1 if walk is None or walk[0] >= self._mmu.ram.size else walk[0] >> PAGE_SHIFT
            self._frames[page] = frame
        return frame

    def _learn(self, key: _Key, crosses: bool) -> Block:
        gpa, size, second = key
        data, frames = self._mmu.ram.bytes, (gpa >> PAGE_SHIFT, second) if crosses else (gpa >> PAGE_SHIFT,)
        first = min(size, PAGE_SIZE - (gpa & PAGE_SIZE - 1))
        start = second << PAGE_SHIFT
        block = self._decode(bytes(data[gpa : gpa + first]) + bytes(data[start : start + size - first]))
        if len(self._known) >= _REMEMBERED:
            self.clear()
        self._known[key] = block
        for frame in frames:
            if frame not in self._on_frame:
                self._on_frame[frame] = set()
                self._mmu.traces.add(frame, IN_PLACE)
                self._flush_tlb()  # this is not an exit, behind which it would be done
            self._on_frame[frame].add(key)
        return block

    def _decode(self, data: bytes) -> Block:
        offsets, iterates = [], False
        for instruction in Decoder(64, data):
            if instruction.mnemonic != Mnemonic.SYSCALL and self._class(instruction) in _SENSITIVE:
                return NOTHING
            offsets.append(instruction.ip)
            iterates = Stepper.is_repeated(instruction)
        return Block(tuple(offsets), iterates)

    def _class(self, instruction: Instruction) -> int:
        kind = self._classifier.classes.get(instruction.code)
        return self._classifier.learn(instruction) if kind is None else kind

    def _written(self, frame: int, by_engine: bool) -> None:
        """Bytes of a traced frame changed. by_engine: it carried out the store itself, and knows."""
        for key in self._on_frame.pop(frame, ()):
            self._known.pop(key, None)
        self._mmu.traces.remove(frame, IN_PLACE)
        if not by_engine:
            self._forget_all_code()
