"""The registers of gdb's `g` packet at once: gdb asks for them at every stop, so this is quick."""

from __future__ import annotations

import struct
from itertools import accumulate
from operator import itemgetter
from typing import TYPE_CHECKING, Final

from dbgvmm.cpu.bits import MASK32, MASK64, SReg
from dbgvmm.debug.gdb_layouts import LONG, Layout
from dbgvmm.debug.registers import BASES, ENCODING_ORDER, GENERAL, MXCSR, SELECTORS, X87, X87_CONTROL, XMM
from dbgvmm.hardware.context import GPR_NUMBERS
from dbgvmm.hardware.engine import RegisterBatch
from dbgvmm.hardware.fpu import FPU_REGISTERS

if TYPE_CHECKING:
    from dbgvmm.machine import Machine

_NUMBERS: Final = {
    **dict(zip(ENCODING_ORDER, GPR_NUMBERS, strict=True)),
    **{name: number for name, (number, _) in FPU_REGISTERS.items()},
}
*_STARTS, _SIZE = accumulate((row.bits // 8 for row in LONG.general), initial=0)
_PLACES: Final = {row.name: start for row, start in zip(LONG.general, _STARTS, strict=True)}
"""Where each register is in the block."""
_CONTROL_SLOT: Final = 8
"""Behind the block: some x87 control registers are wider in the engine than gdb has them, and would overwrite the next."""

_selected_segments = itemgetter(*(SReg.names.index(row.name) for row in SELECTORS))
_INTEGERS: Final = struct.Struct("<Q7I")
_CONTROL: Final = struct.Struct(f"<{len(X87_CONTROL)}I")
_CONTROL_SLOTS: Final = struct.Struct("<" + "I4x" * len(X87_CONTROL))
_BASES: Final = struct.Struct("<QQ")
_INTEGERS_AT: Final = _PLACES["rip"]
_CONTROL_AT: Final = _PLACES[X87_CONTROL[0].name]
_BASES_AT: Final = _PLACES[BASES[0].name]


class GeneralRegisters:
    """Reads gdb's general, x87, SSE and segment registers, in the description's order."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        in_place = [(_NUMBERS[row.name], _PLACES[row.name]) for row in (*GENERAL, *X87, *XMM, MXCSR)]
        apart = [(_NUMBERS[row.name], _SIZE + _CONTROL_SLOT * slot) for slot, row in enumerate(X87_CONTROL)]
        self._batch = RegisterBatch([*in_place, *apart], _SIZE + _CONTROL_SLOT * len(apart))

    def read(self, layout: Layout) -> bytes:
        """Their raw bytes, one behind the other. Those of 64-bit code quickly; of other code as they come."""
        if layout is not LONG:
            return b"".join(row.read(self._machine).to_bytes(row.bits // 8, "little") for row in layout.general)
        return self._read_long()

    def _read_long(self) -> bytes:
        machine = self._machine
        cpu = machine.cpu
        segments = cpu.segs
        machine.engine.read_registers(self._batch)
        block = self._batch.values
        _INTEGERS.pack_into(
            block, _INTEGERS_AT,
            cpu.rip & MASK64, cpu.rflags & MASK32, *[segment.selector for segment in _selected_segments(segments)],
        )  # fmt: skip
        _CONTROL.pack_into(block, _CONTROL_AT, *_CONTROL_SLOTS.unpack_from(block, _SIZE))
        _BASES.pack_into(block, _BASES_AT, segments[SReg.FS].base, segments[SReg.GS].base)
        return block[:_SIZE].tobytes()
