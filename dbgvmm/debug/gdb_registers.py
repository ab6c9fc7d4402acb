"""The registers of gdb's `g` packet at once: gdb asks for them at every stop, so this is quick."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Final

from dbgvmm.cpu.bits import MASK32, MASK64, SReg
from dbgvmm.debug.gdb_layouts import LONG, Layout
from dbgvmm.debug.registers import ENCODING_ORDER, GDB_ORDER, SELECTORS, X87, X87_CONTROL, XMM
from dbgvmm.hardware.engine import RegisterBatch
from dbgvmm.hardware.fpu import FPU_REGISTERS

if TYPE_CHECKING:
    from dbgvmm.machine import Machine

_SLOT: Final = 16


def _stretches(order: Sequence[int]) -> tuple[slice, ...]:
    """Slices of the bytes of quadwords that put them into `order`."""
    starts = [at for at, number in enumerate(order) if not at or number != order[at - 1] + 1]
    ends = [*starts[1:], len(order)]
    return tuple(slice(8 * order[start], 8 * order[end - 1] + 8) for start, end in zip(starts, ends, strict=True))


_GENERAL: Final = _stretches([ENCODING_ORDER.index(name) for name in GDB_ORDER])
_selected_segments = itemgetter(*(SReg.names.index(row.name) for row in SELECTORS))
_INTEGERS: Final = struct.Struct("<Q7I")
_CONTROL: Final = struct.Struct("<" + "I12x" * len(X87_CONTROL))
_CONTROL_OUT: Final = struct.Struct(f"<{len(X87_CONTROL)}I")
_X87: Final = struct.Struct("10s6x" * len(X87))
_BASES: Final = struct.Struct("<QQ")
_CONTROL_AT: Final = _SLOT * len(X87)
_XMM_AT: Final = _CONTROL_AT + _SLOT * len(X87_CONTROL)
_MXCSR_AT: Final = _XMM_AT + _SLOT * len(XMM)


class GeneralRegisters:
    """Reads gdb's general, x87, SSE and segment registers, in the description's order."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        names = [*(row.name for row in (*X87, *X87_CONTROL, *XMM)), "mxcsr"]
        self._batch = RegisterBatch([FPU_REGISTERS[name][0] for name in names])

    def read(self, layout: Layout) -> bytes:
        """Their raw bytes, one behind the other. Those of 64-bit code quickly; of other code as they come."""
        if layout is not LONG:
            return b"".join(row.read(self._machine).to_bytes(row.bits // 8, "little") for row in layout.general)
        return self._read_long()

    def _read_long(self) -> bytes:
        machine = self._machine
        cpu = machine.cpu
        segments = cpu.segs
        values = machine.engine.read_registers(self._batch)
        general = machine.engine.context.gpr.tobytes()
        return b"".join((
            *[general[stretch] for stretch in _GENERAL],
            _INTEGERS.pack(
                cpu.rip & MASK64, cpu.rflags & MASK32,
                *[segment.selector for segment in _selected_segments(segments)],
            ),
            *_X87.unpack_from(values),
            _CONTROL_OUT.pack(*_CONTROL.unpack_from(values, _CONTROL_AT)),
            values[_XMM_AT : _MXCSR_AT + 4],
            _BASES.pack(segments[SReg.FS].base, segments[SReg.GS].base),
        ))  # fmt: skip
