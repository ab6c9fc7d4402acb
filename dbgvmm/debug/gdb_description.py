"""The target description for gdb: which registers there are, in which order and of which types.

Names, order and types of the first three features are gdb's own, which it demands (gdb/features/i386/64bit-core.xml,
64bit-sse.xml, 64bit-segments.xml). The system registers are a feature of ours; gdb shows any that it is told of.
The architecture is x86-64 whatever mode the guest is in; registers that a mode lacks read as zero-extended values.

Source: GDB manual, "Target Descriptions" and "i386 Features".
"""

from __future__ import annotations

from typing import Final

from dbgvmm.cpu.bits import CR0, CR4, EFER, RFLAGS, BitNames
from dbgvmm.debug import gdb_structures as structures
from dbgvmm.debug import registers
from dbgvmm.debug.register_row import RegisterRow

SYSTEM_FEATURE: Final = "org.dbgvmm.system"
"""A name outside org.gnu.gdb: what gdb does not know, it shows with the types given here. So are the three below."""
TABLE_FEATURE: Final = "org.dbgvmm.tables"
DEBUG_FEATURE: Final = "org.dbgvmm.debug"
MSR_FEATURE: Final = "org.dbgvmm.msr"

_CORE: Final = (
    *registers.GENERAL, registers.RIP, registers.EFLAGS, *registers.SELECTORS, *registers.X87, *registers.X87_CONTROL,
)  # fmt: skip
_SSE: Final = (*registers.XMM, registers.MXCSR)
_GENERAL: Final = (*_CORE, *_SSE, *registers.BASES)
_SYSTEM: Final = (
    *registers.SYSTEM, *structures.TABLE_REGISTERS, *structures.DEBUG_REGISTERS, *structures.MSR_REGISTERS,
)  # fmt: skip
GDB_REGISTERS: Final = (*_GENERAL, *_SYSTEM)
"""Every register at the place that is its number in the protocol."""
IN_G_PACKET: Final = len(_GENERAL)
"""So many are sent whenever the guest has stopped; the others when they are asked for."""

_MXCSR_BITS: Final = ("IE", "DE", "ZE", "OE", "UE", "PE", "DAZ", "IM", "DM", "ZM", "OM", "UM", "PM")
_TYPES: Final = {
    "rbp": "data_ptr", "rsp": "data_ptr", "rip": "code_ptr", "eflags": "i386_eflags", "mxcsr": "i386_mxcsr",
    "fs_base": "int", "gs_base": "int", "cr0": "cr0_flags", "cr4": "cr4_flags", "efer": "efer_flags",
    "cr2": "data_ptr", "k_gs_base": "data_ptr", "cr3": "uint64", "cr8": "uint64", **structures.REGISTER_TYPES,
}  # fmt: skip
_VECTOR: Final = """\
<vector id="v4f" type="ieee_single" count="4"/>
<vector id="v2d" type="ieee_double" count="2"/>
<vector id="v16i8" type="int8" count="16"/>
<vector id="v8i16" type="int16" count="8"/>
<vector id="v4i32" type="int32" count="4"/>
<vector id="v2i64" type="int64" count="2"/>
<union id="vec128">
<field name="v4_float" type="v4f"/>
<field name="v2_double" type="v2d"/>
<field name="v16_int8" type="v16i8"/>
<field name="v8_int16" type="v8i16"/>
<field name="v4_int32" type="v4i32"/>
<field name="v2_int64" type="v2i64"/>
<field name="uint128" type="uint128"/>
</union>
"""


def target_description() -> str:
    """target.xml."""
    mxcsr = [(name, bit, bit) for bit, name in enumerate(_MXCSR_BITS)] + [("FZ", 15, 15)]
    parts = (
        '<?xml version="1.0"?>\n<!DOCTYPE target SYSTEM "gdb-target.dtd">\n<target version="1.0">\n',
        "<architecture>i386:x86-64</architecture>\n",
        _feature("org.gnu.gdb.i386.core", _flags("i386_eflags", 4, _fields(RFLAGS)), _CORE),
        _feature("org.gnu.gdb.i386.sse", _VECTOR + _flags("i386_mxcsr", 4, mxcsr), _SSE),
        _feature("org.gnu.gdb.i386.segments", "", registers.BASES),
        _feature(
            SYSTEM_FEATURE,
            _flags("cr0_flags", 8, _fields(CR0)) + _flags("cr4_flags", 8, _fields(CR4))
            + _flags("efer_flags", 8, _fields(EFER)),
            registers.SYSTEM,
        ),
        _feature(
            TABLE_FEATURE,
            _flags("segment_flags", 2, list(structures.SEGMENT_FIELDS))
            + "".join(structure.xml for structure in structures.TABLE_TYPES),
            structures.TABLE_REGISTERS,
        ),
        _feature(
            DEBUG_FEATURE,
            "".join(_flags(name, 8, _fields(names)) for name, names in structures.DEBUG_FLAGS),
            structures.DEBUG_REGISTERS,
        ),
        _feature(MSR_FEATURE, "", structures.MSR_REGISTERS),
        "</target>\n",
    )  # fmt: skip
    return "".join(parts)


def _feature(name: str, types: str, rows: tuple[RegisterRow, ...]) -> str:
    lines = "".join(
        f'<reg name="{row.name}" bitsize="{row.bits}" type="{_type(row)}"{_group(row)}{_kept(row)}/>\n' for row in rows
    )
    return f'<feature name="{name}">\n{types}{lines}</feature>\n'


def _type(row: RegisterRow) -> str:
    if row.name in _TYPES:
        return _TYPES[row.name]
    if row in registers.X87:
        return "i387_ext"
    if row in registers.XMM:
        return "vec128"
    return "int" if row in registers.X87_CONTROL else f"int{row.bits}"


def _group(row: RegisterRow) -> str:
    if row in registers.X87_CONTROL:
        return ' group="float"'
    return ' group="vector"' if row is registers.MXCSR else ' group="system"' if row in _SYSTEM else ""


def _kept(row: RegisterRow) -> str:
    """Registers that need not be put back after gdb has called a function of the guest's. (gdb 13 does so all the same.)"""
    return ' save-restore="no"' if row in _SYSTEM else ""


def _fields(names: type[BitNames]) -> list[tuple[str, int, int]]:
    """(name, first bit, last bit) of each field, lowest first. The bit that is always 1 has no name in gdb."""
    fields = [
        (name, (mask & -mask).bit_length() - 1, mask.bit_length() - 1)
        for name, mask in vars(names).items()
        if name.isupper() and isinstance(mask, int) and name != "FIXED"
    ]
    return sorted(fields, key=lambda field: field[1])


def _flags(name: str, size: int, fields: list[tuple[str, int, int]]) -> str:
    lines = "".join(f'<field name="{field}" start="{first}" end="{last}"/>\n' for field, first, last in fields)
    return f'<flags id="{name}" size="{size}">\n{lines}</flags>\n'
