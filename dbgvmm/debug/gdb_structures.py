"""System registers as gdb gets them.

    $idtr.base  $tr.selector  $cs_hidden.limit  $lstar  $dr7

Descriptor tables and the hidden parts of segments are structures: one line each in `info registers`, and `set var
$idtr.limit = 15` writes the field that changed. None of all these is in the `g` packet, which gdb asks for at every stop: it
reads each by itself, and only when it is wanted.

The TSC is not among the MSRs: gdb saves all registers before it calls a function of the guest's and puts them back
afterwards, and time must not be put back. `info time` shows it.

Source: GDB manual, "Target Description Format" (struct and flags types).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from dbgvmm.cpu.bits import DR6, DR7
from dbgvmm.debug.register_row import RegisterError, RegisterRow
from dbgvmm.debug.system_registers import DEBUG, HIDDEN, MSRS, TABLES

if TYPE_CHECKING:
    from dbgvmm.machine import Machine

_HIDING: Final = ("cs", "ss", "ds", "es", "fs", "gs")


@dataclass(frozen=True)
class Structure:
    """A structure type of the description: (field, type) in their order, packed. Its id is `id`."""

    id: str
    fields: tuple[tuple[str, str], ...]

    @property
    def xml(self) -> str:
        """Its element."""
        lines = "".join(f'<field name="{name}" type="{kind}"/>\n' for name, kind in self.fields)
        return f'<struct id="{self.id}">\n{lines}</struct>\n'


def joined(name: str, rows: Sequence[RegisterRow]) -> RegisterRow:
    """Several registers as one, the first in the lowest bits. A write sets those that change: all of them or none."""
    places = [(row, sum(before.bits for before in rows[:index])) for index, row in enumerate(rows)]

    def read(machine: Machine) -> int:
        return sum(row.read(machine) << shift for row, shift in places)

    def write(machine: Machine, value: int) -> None:
        done: list[tuple[RegisterRow, int]] = []
        for row, shift in places:
            old, new = row.read(machine), value >> shift & (1 << row.bits) - 1
            if old == new:
                continue
            try:
                row.write(machine, new)
            except RegisterError:
                for changed, before in reversed(done):
                    changed.write(machine, before)
                raise
            done.append((row, old))

    return RegisterRow(name, sum(row.bits for row in rows), read, write)


TABLE_REGISTERS: Final = (
    *(joined(name, rows) for name, rows in TABLES.items()),
    joined("ldtr", HIDDEN["ldtr"]),
    joined("tr", HIDDEN["tr"]),
    *(joined(f"{name}_hidden", HIDDEN[name]) for name in _HIDING),
)
DEBUG_REGISTERS: Final = DEBUG
MSR_REGISTERS: Final = tuple(row for row in MSRS if row.name != "tsc")

TABLE_TYPES: Final = (
    Structure("descriptor_table", (("base", "data_ptr"), ("limit", "uint16"))),
    Structure(
        "descriptor", (("selector", "uint16"), ("base", "data_ptr"), ("limit", "uint32"), ("attr", "segment_flags"))
    ),
    Structure("hidden_part", (("base", "data_ptr"), ("limit", "uint32"), ("attr", "segment_flags"))),
)
REGISTER_TYPES: Final = {
    "gdtr": "descriptor_table", "idtr": "descriptor_table", "ldtr": "descriptor", "tr": "descriptor",
    **{f"{name}_hidden": "hidden_part" for name in _HIDING},
    **{row.name: "data_ptr" for row in DEBUG if row.fields is None}, "dr6": "dr6_flags", "dr7": "dr7_flags",
    **{row.name: "uint64" for row in MSR_REGISTERS},
    "lstar": "code_ptr", "cstar": "code_ptr", "sysenter_eip": "code_ptr", "sysenter_esp": "data_ptr",
}  # fmt: skip
DEBUG_FLAGS: Final = (("dr6_flags", DR6), ("dr7_flags", DR7))
SEGMENT_FIELDS: Final = (
    ("TYPE", 0, 3), ("S", 4, 4), ("DPL", 5, 6), ("P", 7, 7), ("AVL", 12, 12), ("L", 13, 13), ("DB", 14, 14), ("G", 15, 15),
)  # fmt: skip
"""The type's bits mean one thing in code, another in data, a third in system descriptors: gdb shows the number."""
