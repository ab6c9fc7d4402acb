"""The guest's own debug registers: DR0 to DR3 as DR7 arms them, and EFLAGS.TF.

While any of them is armed, every instruction runs in a precise unit of its own and its memory operands are compared
before it: slow (tens of microseconds an instruction), and exact. Intel SDM vol. 3B, chapter 18 "Debug registers".
"""

from __future__ import annotations

from typing import Final

from iced_x86 import Instruction

from dbgvmm.bt.accesses import MemoryAccesses
from dbgvmm.cpu.state import VCpu
from dbgvmm.hardware.layout import MASK64

_EXECUTE: Final = 0
_WRITE: Final = 1
_READ_WRITE: Final = 3
_LENGTHS: Final = (1, 2, 8, 4)


class GuestDebug:
    """What DR7 arms, decoded."""

    def __init__(self, cpu: VCpu, accesses: MemoryAccesses) -> None:
        self._cpu = cpu
        self._accesses = accesses
        self.armed = False
        self._execute: dict[int, int] = {}
        self._data: list[tuple[int, int, bool, int]] = []
        cpu.on_debug_registers_changed = self._changed

    def _changed(self, cpu: VCpu) -> None:
        self._execute.clear()
        self._data.clear()
        dr7 = cpu.dr[7]
        for number in range(4):
            if not dr7 >> 2 * number & 3:
                continue
            kind, length = dr7 >> 16 + 4 * number & 3, _LENGTHS[dr7 >> 18 + 4 * number & 3]
            if kind == _EXECUTE:
                self._execute[cpu.dr[number]] = self._execute.get(cpu.dr[number], 0) | 1 << number
            elif kind in (_WRITE, _READ_WRITE):
                self._data.append((cpu.dr[number] & -length & MASK64, length, kind == _WRITE, 1 << number))
        self.armed = bool(self._execute or self._data)

    def execution_hits(self, rip: int) -> int:
        """DR6 bits of the instruction breakpoints at `rip`."""
        return self._execute.get(rip, 0)

    def data_hits(self, instruction: Instruction) -> int:
        """DR6 bits of the data breakpoints that the instruction at RIP is about to hit."""
        hits = 0
        if self._data:
            for access in self._accesses.of(instruction):
                for start, length, writes_only, bit in self._data:
                    if writes_only and not access.writes:
                        continue
                    if start < access.address + access.size and access.address < start + length:
                        hits |= bit
        return hits
