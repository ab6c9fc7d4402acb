"""A breakpoint of one address space: its condition, which runs in the translation."""

from __future__ import annotations

from typing import Final

from dbgvmm.bt.probes import Probe
from dbgvmm.cpu.state import VCpu
from dbgvmm.debug.agent_compiler import compile_conditions
from dbgvmm.debug.gdb_description import GDB_REGISTERS
from gdbstub.agent import Op, decode

CR3_TABLE: Final = 0x000F_FFFF_FFFF_F000
_NUMBER: Final = next(number for number, row in enumerate(GDB_REGISTERS) if row.name == "cr3")


class InAddressSpace:
    """Holds while CR3 points to this top-level table. Implements `CompiledCondition`."""

    def __init__(self, cpu: VCpu, cr3: int) -> None:
        self._cpu = cpu
        self._table = cr3 & CR3_TABLE
        self.probe: Probe | None = compile_conditions((decode(self._program()),))

    def __call__(self) -> bool:
        return self._cpu.cr3 & CR3_TABLE == self._table

    def _program(self) -> bytes:
        register = bytes((Op.REG,)) + _NUMBER.to_bytes(2, "big")
        return b"".join((
            register, _constant(CR3_TABLE), bytes((Op.BIT_AND,)), _constant(self._table), bytes((Op.EQUAL, Op.END)),
        ))  # fmt: skip


def _constant(value: int) -> bytes:
    return bytes((Op.CONST64,)) + value.to_bytes(8, "big")
