"""Probes: code of a debugger's that runs in front of a guest instruction, in the translation itself.

A breakpoint whose condition is a probe costs no exit while the condition does not hold. The guest's state is put aside,
the probe's body computes, and the guest goes on or leaves (PROBE) in front of the instruction, its state put back.

What the body reads may not be mapped in the shadow, or not allowed to the guest at its CPL. It then faults, which is
nobody's fault but the probe's: it leaves, and whoever owns the breakpoint evaluates it in the monitor, where reading
touches no A bit and needs no right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dbgvmm.bt import units
from dbgvmm.bt.emission import I32, LOAD_FLAGS, SAVE_FLAGS, STORE_RAX, STORE_RCX, U32, U64, Emission
from dbgvmm.bt.tcdata import PROBE_BUFFER, PROBE_COUNT, PROBE_FLAGS, PROBE_RAX, PROBE_RBX, PROBE_RCX, PROBE_RDX
from dbgvmm.bt.units import Site, TranslationUnit
from dbgvmm.hardware.layout import DATA_VA, MASK64, TRACE_VA, USER_DATA_VA, USER_TRACE_VA

MAX_BODY: Final = 2048
"""Bytes of a body: a unit with the probes that it may have must fit into a TC page."""

_STORE_RDX: Final = b"\x48\x89\x15"
_STORE_RBX: Final = b"\x48\x89\x1d"
_MOV_RBX: Final = b"\x48\xbb"
_MOV_RAX: Final = b"\x48\xb8"
_STORE_AT_RBX: Final = b"\x48\x89\x83"
_SET_AT_RBX: Final = b"\x48\xc7\x83"
"""mov [rbx + ...], rax; mov qword [rbx + ...], immediate"""
_TEST_RAX: Final = b"\x48\x85\xc0"
_JZ: Final = b"\x74"
_JNZ_NEAR: Final = b"\x0f\x85"
_RESTORE: Final = b"".join((
    b"\x48\x8b\x83", U32.pack(PROBE_FLAGS),  # mov rax, [rbx + ...]
    LOAD_FLAGS,
    b"\x48\x8b\x83", U32.pack(PROBE_RAX),
    b"\x48\x8b\x8b", U32.pack(PROBE_RCX),
    b"\x48\x8b\x93", U32.pack(PROBE_RDX),
    b"\x48\x8b\x9b", U32.pack(PROBE_RBX),
))  # fmt: skip


@dataclass(frozen=True)
class Probe:
    """body: position-independent code that ends at its end with RAX 0 (go on) or not (leave).

    It finds the data page in RBX, the guest's RAX, RCX, RDX and RBX there (`tcdata.PROBE_...`), the guest's other registers
    in place. It may change RAX, RCX, RDX, the flags and words from PROBE_STACK on; it does not write to guest memory.

    records: it writes to the trace area (and finds PROBE_BUFFER and PROBE_COUNT set). If it leaves, it has not.
    """

    body: bytes
    records: bool = False

    def __post_init__(self) -> None:
        if len(self.body) > MAX_BODY:
            raise ValueError(f"a probe of {len(self.body)} bytes: {MAX_BODY} at most")

    def __or__(self, other: Probe) -> Probe:
        """Leave if one of both wants to: then the monitor does what both are for. So what the other one records must be the
        last thing. Raises ValueError if this one records, or if that is too long."""
        if self.records:
            raise ValueError("a probe that records comes last")
        return Probe(self.body + _TEST_RAX + _JNZ_NEAR + U32.pack(len(other.body)) + other.body, other.records)


def emit_probe(out: Emission, probe: Probe, guest: int, number: int) -> None:
    """In front of the instruction at offset `guest`, the unit's number `number`."""
    out.mark(guest, number)
    out.data_ref(STORE_RAX, PROBE_RAX)
    out.data_ref(STORE_RCX, PROBE_RCX)
    out.data_ref(_STORE_RDX, PROBE_RDX)
    out.data_ref(_STORE_RBX, PROBE_RBX)
    code, unit = out.code, out.unit
    code += SAVE_FLAGS
    out.data_ref(STORE_RAX, PROBE_FLAGS)
    code += _MOV_RBX + U64.pack(USER_DATA_VA if out.user else DATA_VA)
    if probe.records:
        code += _MOV_RAX + U64.pack(USER_TRACE_VA if out.user else TRACE_VA)
        code += _STORE_AT_RBX + U32.pack(PROBE_BUFFER)
        counted = unit.length if number >= unit.count_index else 0
        code += _SET_AT_RBX + U32.pack(PROBE_COUNT) + I32.pack(number - counted)
    start = out.at + len(code)
    code += probe.body
    code += _TEST_RAX + _JZ + bytes((len(_RESTORE) + 2,))
    unit.probes += ((start, out.at + len(code)),)
    code += _RESTORE
    out.exit(Site(units.PROBE, unit, unit.guest_rip + guest & MASK64, retired=number))
    code += _RESTORE


def leave_at(unit: TranslationUnit, tc_rip: int) -> int:
    """Where to go on if `tc_rip`, which faulted, is in a probe of the unit: its way out. 0 if it is not."""
    for start, leave in unit.probes:
        if start <= tc_rip < leave:
            return leave
    return 0


__all__ = ["MAX_BODY", "Probe", "emit_probe", "leave_at"]
