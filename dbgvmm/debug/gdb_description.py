"""The target descriptions for gdb: which registers there are, in which order and of which types.

Names, order and types of the first features are gdb's own, which it demands (gdb/features/i386/64bit-core.xml,
64bit-sse.xml, 64bit-segments.xml, 32bit-core.xml, 32bit-sse.xml). The system registers are features of ours; gdb shows any
that it is told of. There is one description for each layout (gdb_layouts.py).

Each names the other architectures as compatible. So gdb keeps to the description whatever kind of file it has been given:
a 64-bit kernel's while the CPU is still in 32-bit mode, or the 32-bit container of one in 64-bit mode.

Source: GDB manual, "Target Descriptions", "Target Description Format" and "i386 Features".
"""

from __future__ import annotations

from typing import Final

from dbgvmm.cpu.bits import CR0, CR4, EFER, RFLAGS, BitNames
from dbgvmm.debug import gdb_structures as structures
from dbgvmm.debug import registers
from dbgvmm.debug.gdb_layouts import LAYOUTS, LONG, REAL, SYSTEM, Layout
from dbgvmm.debug.register_row import RegisterRow

SYSTEM_FEATURE: Final = "org.dbgvmm.system"
"""A name outside org.gnu.gdb: what gdb does not know, it shows with the types given here. So are those below."""
TABLE_FEATURE: Final = "org.dbgvmm.tables"
DEBUG_FEATURE: Final = "org.dbgvmm.debug"
MSR_FEATURE: Final = "org.dbgvmm.msr"
WIDE_FEATURE: Final = "org.dbgvmm.wide"
SEGMENT_FEATURE: Final = "org.dbgvmm.segments"
"""gdb knows the bases of FS and GS by their numbers in 64-bit descriptions only."""

GDB_REGISTERS: Final = LONG.all
"""The registers of 64-bit code, each at the place that is its number in the protocol."""
IN_G_PACKET: Final = len(LONG.general)
"""So many are sent whenever the guest has stopped; the others when they are asked for."""

_MXCSR_BITS: Final = ("IE", "DE", "ZE", "OE", "UE", "PE", "DAZ", "IM", "DM", "ZM", "OM", "UM", "PM")
_TYPES: Final = {
    "rbp": "data_ptr", "rsp": "data_ptr", "rip": "code_ptr",
    "ebp": "data_ptr", "esp": "data_ptr", "eip": "code_ptr", "eflags": "i386_eflags", "mxcsr": "i386_mxcsr",
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


def target_description(layout: Layout = LONG) -> str:
    """target.xml."""
    mxcsr = [(name, bit, bit) for bit, name in enumerate(_MXCSR_BITS)] + [("FZ", 15, 15)]
    compatible = "".join(
        f"<compatible>{other.architecture}</compatible>\n" for other in LAYOUTS if other is not layout
    )
    parts = (
        '<?xml version="1.0"?>\n<!DOCTYPE target SYSTEM "gdb-target.dtd">\n<target version="1.0">\n',
        # Some systems' conventions, which gdb else takes from the file, are unknown for 16-bit code.
        f"<architecture>{layout.architecture}</architecture>\n{'<osabi>none</osabi>' if layout is REAL else ''}{compatible}",
        _feature(layout, "org.gnu.gdb.i386.core", _flags("i386_eflags", 4, _fields(RFLAGS)), layout.core),
        _feature(layout, "org.gnu.gdb.i386.sse", _VECTOR + _flags("i386_mxcsr", 4, mxcsr), layout.sse),
        _feature(layout, "org.gnu.gdb.i386.segments" if layout.wide else SEGMENT_FEATURE, "", registers.BASES),
        _feature(
            layout,
            SYSTEM_FEATURE,
            _flags("cr0_flags", 8, _fields(CR0)) + _flags("cr4_flags", 8, _fields(CR4))
            + _flags("efer_flags", 8, _fields(EFER)),
            registers.SYSTEM,
        ),
        _feature(
            layout,
            TABLE_FEATURE,
            _flags("segment_flags", 2, list(structures.SEGMENT_FIELDS))
            + "".join(_wide_pointers(layout, structure.xml) for structure in structures.TABLE_TYPES),
            structures.TABLE_REGISTERS,
        ),
        _feature(
            layout,
            DEBUG_FEATURE,
            "".join(_flags(name, 8, _fields(names)) for name, names in structures.DEBUG_FLAGS),
            structures.DEBUG_REGISTERS,
        ),
        _feature(layout, MSR_FEATURE, "", structures.MSR_REGISTERS),
        _feature(layout, WIDE_FEATURE, "", layout.halved) if layout.halved else "",
        "</target>\n",
    )  # fmt: skip
    return "".join(parts)


def _feature(layout: Layout, name: str, types: str, rows: tuple[RegisterRow, ...]) -> str:
    lines = "".join(
        f'<reg name="{row.name}" bitsize="{row.bits}" type="{_type_here(layout, row)}"'
        f"{_group(layout, row)}{_kept(layout, row)}/>\n"
        for row in rows
    )
    return f'<feature name="{name}">\n{types}{lines}</feature>\n'


def _type_here(layout: Layout, row: RegisterRow) -> str:
    kind = _type(row)
    return "uint64" if row.bits == 64 and kind in ("data_ptr", "code_ptr") and not layout.wide else kind


def _wide_pointers(layout: Layout, xml: str) -> str:
    """Addresses in structures have 64 bits, also where gdb's pointers have 32."""
    return xml if layout.wide else xml.replace('"data_ptr"', '"uint64"')


def _type(row: RegisterRow) -> str:
    if row.name in _TYPES:
        return _TYPES[row.name]
    if row in registers.X87:
        return "i387_ext"
    if row in registers.XMM:
        return "vec128"
    return "int" if row in registers.X87_CONTROL else f"int{row.bits}"


def _group(layout: Layout, row: RegisterRow) -> str:
    if row in registers.X87_CONTROL:
        return ' group="float"'
    return ' group="vector"' if row is registers.MXCSR else ' group="system"' if _is_extra(layout, row) else ""


def _kept(layout: Layout, row: RegisterRow) -> str:
    """Registers that need not be put back after gdb has called a function of the guest's. (gdb 13 does so all the same.)"""
    return ' save-restore="no"' if _is_extra(layout, row) else ""


def _is_extra(layout: Layout, row: RegisterRow) -> bool:
    return row in SYSTEM or row in layout.halved


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
