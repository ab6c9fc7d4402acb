"""The registers that only an operating system has: descriptor tables, hidden parts of segments, DR0 to DR7, MSRs.

Rows of the register table (registers.py), by flat names: `idtr_base`, `tr_limit`, `cs_attr`, `dr7`, `lstar`. A write that
the CPU would refuse with #GP is refused here, with nothing changed; hidden parts can only be loaded by the guest.

Source: Intel SDM vol. 3A 2.4 (GDTR, IDTR, LDTR, TR), 3.4.3 (hidden parts); vol. 3B 17.2 (debug registers); vol. 4 (MSRs).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Literal

from dbgvmm.cpu.bits import DR6, DR7, MSR, SegmentAttributes, SReg, is_canonical
from dbgvmm.cpu.debug_registers import write_dr
from dbgvmm.cpu.faults import GuestFault, UnsupportedState
from dbgvmm.cpu.state import Segment, VCpu
from dbgvmm.debug.register_row import Read, RegisterError, RegisterRow

if TYPE_CHECKING:
    from dbgvmm.machine import Machine

SegmentOf = Callable[[VCpu], Segment]


def _segment(index: int) -> SegmentOf:
    return lambda cpu: cpu.segs[index]


_SEGMENTS: Final[dict[str, SegmentOf]] = {
    **{name: _segment(SReg.names.index(name)) for name in ("cs", "ss", "ds", "es", "fs", "gs")},
    "ldtr": lambda cpu: cpu.ldtr,
    "tr": lambda cpu: cpu.tr,
}


def _read_only(name: str, bits: int, read: Read, names: type[SegmentAttributes] | None = None) -> RegisterRow:
    def write(machine: Machine, value: int) -> None:
        if value != read(machine):
            raise RegisterError(f"{name} can only be loaded by the guest: it is a copy of a descriptor in memory")

    return RegisterRow(name, bits, read, write, names)


def _segment_rows(name: str, find: SegmentOf) -> tuple[RegisterRow, ...]:
    """Base, limit and attributes; of LDTR and TR the selector too."""
    rows = [
        _read_only(f"{name}_base", 64, lambda machine: find(machine.cpu).base),
        _read_only(f"{name}_limit", 32, lambda machine: find(machine.cpu).limit),
        _read_only(f"{name}_attr", 16, lambda machine: find(machine.cpu).attributes, SegmentAttributes),
    ]
    if name in ("ldtr", "tr"):
        rows.insert(0, _read_only(name, 16, lambda machine: find(machine.cpu).selector))
    return tuple(rows)


def _table_rows(name: Literal["gdtr", "idtr"]) -> tuple[RegisterRow, ...]:
    def write_base(machine: Machine, value: int) -> None:
        if not is_canonical(value):
            raise RegisterError(f"{name}_base cannot be {value:#x}: not a canonical address")
        getattr(machine.cpu, name).base = value

    def write_limit(machine: Machine, value: int) -> None:
        getattr(machine.cpu, name).limit = value

    return (
        RegisterRow(f"{name}_base", 64, lambda machine: int(getattr(machine.cpu, name).base), write_base),
        RegisterRow(f"{name}_limit", 16, lambda machine: int(getattr(machine.cpu, name).limit), write_limit),
    )


def _debug(number: int, names: type[DR6] | type[DR7] | None = None) -> RegisterRow:
    def write(machine: Machine, value: int) -> None:
        if value == machine.cpu.dr[number]:
            return
        try:
            write_dr(machine.cpu, number, value)
        except GuestFault as fault:
            raise RegisterError(f"dr{number} cannot be {value:#x}: {fault}") from fault

    return RegisterRow(f"dr{number}", 64, lambda machine: machine.cpu.dr[number], write, names)


def _msr(name: str, read: Callable[[VCpu], int], index: int) -> RegisterRow:
    def write(machine: Machine, value: int) -> None:
        if value == read(machine.cpu):
            return
        try:
            machine.msrs.write(machine.cpu, index, value)
        except (GuestFault, UnsupportedState) as fault:
            raise RegisterError(f"{name} cannot be {value:#x}: {fault}") from fault

    return RegisterRow(name, 64, lambda machine: read(machine.cpu), write)


def _write_tsc(machine: Machine, value: int) -> None:
    machine.msrs.write(machine.cpu, MSR.TSC, value)


HIDDEN: Final = {name: _segment_rows(name, find) for name, find in _SEGMENTS.items()}
"""What a segment register, LDTR and TR hide, by the register's name."""
TABLES: Final = {"gdtr": _table_rows("gdtr"), "idtr": _table_rows("idtr")}
DEBUG: Final = (*map(_debug, range(4)), _debug(6, DR6), _debug(7, DR7))
MSRS: Final = (
    _msr("star", lambda cpu: cpu.star, MSR.STAR),
    _msr("lstar", lambda cpu: cpu.lstar, MSR.LSTAR),
    _msr("cstar", lambda cpu: cpu.cstar, MSR.CSTAR),
    _msr("sfmask", lambda cpu: cpu.sfmask, MSR.SFMASK),
    _msr("sysenter_cs", lambda cpu: cpu.sysenter_cs, MSR.SYSENTER_CS),
    _msr("sysenter_esp", lambda cpu: cpu.sysenter_esp, MSR.SYSENTER_ESP),
    _msr("sysenter_eip", lambda cpu: cpu.sysenter_eip, MSR.SYSENTER_EIP),
    RegisterRow("tsc", 64, lambda machine: machine.msrs.tsc(machine.cpu), _write_tsc),
    _msr("tsc_aux", lambda cpu: cpu.tsc_aux, MSR.TSC_AUX),
    _msr("pat", lambda cpu: cpu.pat, MSR.PAT),
    _msr("misc_enable", lambda cpu: cpu.misc_enable, MSR.MISC_ENABLE),
    _msr("apic_base", lambda cpu: cpu.apic_base, MSR.APIC_BASE),
    _msr("mtrr_def_type", lambda cpu: cpu.msrs.get(MSR.MTRR_DEF_TYPE, 0), MSR.MTRR_DEF_TYPE),
)
SYSTEM_ROWS: Final = {
    row.name: row
    for rows in (*TABLES.values(), *HIDDEN.values(), DEBUG, MSRS)
    for row in rows
    if row.name not in ("fs_base", "gs_base")  # these two can be set, as MSRs: they are in the general part
}
"""All of them by name."""
