"""`info cpuid`: what the guest is told about its CPU, leaf by leaf, with the features' names.

Source: Intel SDM vol. 2A CPUID.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dbgvmm.commands.columns import columns
from dbgvmm.commands.parameters import Value
from dbgvmm.commands.session import Session
from dbgvmm.commands.table import command
from dbgvmm.cpu.features import FEATURE_BITS

_REGISTERS: Final = ("eax", "ebx", "ecx", "edx")
_BASIC: Final = 0
_HYPERVISOR: Final = 0x4000_0000
_EXTENDED: Final = 0x8000_0000
_CACHES: Final = 4
_MOST_SUBLEAVES: Final = 16
_CACHE_KINDS: Final = {1: "data", 2: "instructions", 3: "unified"}
_WAYS_SHIFT: Final = 22
_LINE_MASK: Final = 0xFFF


@dataclass(frozen=True)
class CpuidLine:
    """One leaf. features: those that it reports. words: what else it says."""

    leaf: int
    subleaf: int
    eax: int
    ebx: int
    ecx: int
    edx: int
    features: tuple[str, ...]
    words: str


@dataclass(frozen=True)
class CpuidReport:
    """Several leaves."""

    lines: tuple[CpuidLine, ...]

    def __str__(self) -> str:
        rows = [
            (
                f"{line.leaf:08x}" + (f".{line.subleaf}" if line.subleaf else ""),
                *(f"{value:08x}" for value in (line.eax, line.ebx, line.ecx, line.edx)),
                line.words,
            )
            for line in self.lines
        ]
        table = columns(rows, ("leaf", *_REGISTERS, ""))
        features = [f"{line.leaf:08x}: {' '.join(line.features)}" for line in self.lines if line.features]
        return "\n".join([table, *features])


@command("info cpuid", aliases=("cpuid",))
def info_cpuid(session: Session, leaf: Value | None = None, subleaf: Value | None = None) -> CpuidReport:
    """Show what CPUID tells the guest: all leaves, or LEAF (and SUBLEAF) as the guest would read them.

    For example:

        info cpuid
        info cpuid 7
        info cpuid 0x80000001
    """
    if leaf is not None:
        return CpuidReport((_line(session, leaf & 0xFFFF_FFFF, 0 if subleaf is None else subleaf & 0xFFFF_FFFF),))
    lines: list[CpuidLine] = []
    for first in (_BASIC, _HYPERVISOR, _EXTENDED):
        top = _line(session, first, 0)
        if first and top.eax >> 28 != first >> 28:
            continue  # this CPU has no such range
        lines.append(top)
        for number in range(first + 1, top.eax + 1):
            line = _line(session, number, 0)
            if line.eax | line.ebx | line.ecx | line.edx:
                lines.append(line)
            for sub in range(1, _MOST_SUBLEAVES) if number == _CACHES else ():
                more = _line(session, number, sub)
                if not more.eax:
                    break
                lines.append(more)
    return CpuidReport(tuple(lines))


def _line(session: Session, leaf: int, subleaf: int) -> CpuidLine:
    machine = session.machine
    registers = machine.cpuid.query(leaf, subleaf, machine.cpu)
    found = [
        (register, bit, name)
        for name, (of, register, bit) in FEATURE_BITS.items()
        if of == leaf and not subleaf and registers[register] >> bit & 1
    ]
    return CpuidLine(leaf, subleaf, *registers, tuple(name for _, _, name in sorted(found)), _words(leaf, registers))


def _words(leaf: int, registers: tuple[int, int, int, int]) -> str:
    eax, ebx, ecx, edx = registers
    match leaf:
        case 0:
            return f"last leaf {eax:#x}, {_text(ebx, edx, ecx)}"
        case 1:
            family = (eax >> 8 & 0xF) + (eax >> 20 & 0xFF if eax >> 8 & 0xF == 0xF else 0)
            model = eax >> 4 & 0xF | eax >> 12 & 0xF0
            return f"family {family:#x}, model {model:#x}, stepping {eax & 0xF}"
        case 4:
            ways, line, sets = (ebx >> _WAYS_SHIFT) + 1, (ebx & _LINE_MASK) + 1, ecx + 1
            kind = _CACHE_KINDS.get(eax & 0x1F)
            return f"L{eax >> 5 & 7} {kind}, {ways * line * sets >> 10} KiB, {ways} ways" if kind else ""
        case 0x15:
            return f"TSC at {ecx * ebx // eax:,} Hz" if eax else ""
        case 0x16:
            return f"{eax & 0xFFFF} MHz"
        case _ if leaf == _HYPERVISOR:
            return f"last leaf {eax:#x}, {_text(ebx, ecx, edx)}"
        case _ if leaf == _EXTENDED:
            return f"last leaf {eax:#x}"
        case 0x8000_0002 | 0x8000_0003 | 0x8000_0004:
            return _text(eax, ebx, ecx, edx)
        case 0x8000_0008:
            return f"{eax & 0xFF} physical, {eax >> 8 & 0xFF} linear address bits"
        case _:
            return ""


def _text(*words: int) -> str:
    data = b"".join(word.to_bytes(4, "little") for word in words).rstrip(b"\0")
    return repr(data.decode("latin-1")) if data else ""
