"""Which registers gdb is told of, and under which numbers: a layout for 64-bit, one for 32-bit, one for 16-bit code.

gdb takes the size of an instruction, of a pointer and of the `g` packet from the description's architecture, so one
description cannot be right for a boot loader and for the kernel that it starts. The general registers differ (names, number,
order: gdb's own files i386/32bit-core.xml and 64bit-core.xml); the system registers are the same everywhere, since the same
CPU has them. Addresses in them stay 64 bits wide.

Source: GDB manual, "i386 Features".
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

from dbgvmm.cpu.bits import MASK32
from dbgvmm.cpu.state import Mode
from dbgvmm.debug import gdb_structures as structures
from dbgvmm.debug import registers
from dbgvmm.debug.register_row import RegisterRow

_OLD: Final = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")
"""In the order that gdb wants of a 32-bit CPU, which is that of their encoding."""
_OLD_XMM: Final = 8


def _half(name: str, row: RegisterRow) -> RegisterRow:
    """A register's lower 32 bits. What is written is extended by zeros, as the CPU does."""
    return RegisterRow(name, 32, lambda machine: row.read(machine) & MASK32, row.write, row.fields)


@dataclass(frozen=True)
class Layout:
    """One way to number the registers: `general`, SYSTEM and `halved`, in this order."""

    architecture: str
    """As BFD calls it."""
    core: tuple[RegisterRow, ...]
    sse: tuple[RegisterRow, ...]
    pc: str
    sp: str
    fp: str
    wide: bool
    """Pointers have 64 bits."""
    title: str

    @cached_property
    def general(self) -> tuple[RegisterRow, ...]:
        """Those of the `g` packet."""
        return (*self.core, *self.sse, *registers.BASES)

    @cached_property
    def all(self) -> tuple[RegisterRow, ...]:
        """Every register at the place that is its number in the protocol."""
        return (*self.general, *SYSTEM, *self.halved)

    @cached_property
    def halved(self) -> tuple[RegisterRow, ...]:
        """RIP and RSP, of which 32-bit code sees half: scripts say `$rip` and `$rsp` whatever the mode."""
        return () if self.wide else (registers.RIP, registers.REGISTERS["rsp"])

    @cached_property
    def expedited(self) -> tuple[int, int, int]:
        """The numbers of program counter, stack pointer and frame pointer."""
        names = [row.name for row in self.core]
        return names.index(self.pc), names.index(self.sp), names.index(self.fp)


    def describe(self, number: int) -> tuple[str, str, str]:
        """A register's name, the group that it is shown in, and what it is for, in lldb's words ("" if it is none of
        pc, sp, fp, flags)."""
        row = self.all[number]
        generic = {self.pc: "pc", self.sp: "sp", self.fp: "fp", "eflags": "flags"}
        if row in registers.X87 or row in registers.X87_CONTROL or row in self.sse:
            group = "Floating Point Registers"
        else:
            group = "General Purpose Registers" if row in self.core else "System Registers"
        return row.name, group, generic.get(row.name, "")


SYSTEM: Final = (
    *registers.SYSTEM, *structures.TABLE_REGISTERS, *structures.DEBUG_REGISTERS, *structures.MSR_REGISTERS,
)  # fmt: skip
_REST: Final = (*registers.SELECTORS, *registers.X87, *registers.X87_CONTROL)
_NARROW_CORE: Final = (
    *(_half(name, registers.REGISTERS["r" + name[1:]]) for name in _OLD),
    _half("eip", registers.RIP),
    registers.EFLAGS,
    *_REST,
)
_NARROW_SSE: Final = (*registers.XMM[:_OLD_XMM], registers.MXCSR)

LONG: Final = Layout(
    "i386:x86-64",
    (*registers.GENERAL, registers.RIP, registers.EFLAGS, *_REST), (*registers.XMM, registers.MXCSR),
    "rip", "rsp", "rbp", wide=True, title="64-bit code",
)  # fmt: skip
"""64-bit code; also what a debugger gets that cannot follow."""
PROTECTED: Final = Layout("i386", _NARROW_CORE, _NARROW_SSE, "eip", "esp", "ebp", wide=False, title="32-bit code")
"""32-bit code."""
REAL: Final = Layout("i8086", _NARROW_CORE, _NARROW_SSE, "eip", "esp", "ebp", wide=False, title="16-bit code")
"""16-bit code: other instructions, the same registers. `eip` is the offset in CS, whose base is `$cs_hidden.base`."""
LAYOUTS: Final = (LONG, PROTECTED, REAL)

OF_MODE: Final = {
    Mode.LONG64: LONG,
    Mode.COMPAT32: PROTECTED,
    Mode.PROTECTED32: PROTECTED,
    Mode.COMPAT16: REAL,
    Mode.PROTECTED16: REAL,
    Mode.REAL: REAL,
}
