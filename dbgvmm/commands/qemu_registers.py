"""The CPU's state as QEMU's monitor prints it (`info registers`), which people's scripts take apart line by line.

Source: the output of QEMU 7.2; a test compares.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from dbgvmm.cpu.bits import CR0, RFLAGS, SegmentAttributes, SReg
from dbgvmm.cpu.state import Mode, Segment, TableRegister
from dbgvmm.debug.registers import read_register
from dbgvmm.machine import Machine

_WIDE: Final = (
    ("rax", "rbx", "rcx", "rdx"), ("rsi", "rdi", "rbp", "rsp"), ("r8", "r9", "r10", "r11"), ("r12", "r13", "r14", "r15"),
)  # fmt: skip
_NARROW: Final = _WIDE[:2]
_FLAGS: Final = (
    ("D", RFLAGS.DF), ("O", RFLAGS.OF), ("S", RFLAGS.SF), ("Z", RFLAGS.ZF), ("A", RFLAGS.AF), ("P", RFLAGS.PF),
    ("C", RFLAGS.CF),
)  # fmt: skip
_RESERVED: Final = "Reserved"
_LONG_TYPES: Final = {
    0: "<hiword>", 2: "LDT", 9: "TSS64-avl", 11: "TSS64-busy", 12: "CallGate64", 14: "IntGate64", 15: "TrapGate64",
}  # fmt: skip
_LEGACY_TYPES: Final = {
    1: "TSS16-avl", 2: "LDT", 3: "TSS16-busy", 4: "CallGate16", 5: "TaskGate", 6: "IntGate16", 7: "TrapGate16",
    9: "TSS32-avl", 11: "TSS32-busy", 12: "CallGate32", 14: "IntGate32", 15: "TrapGate32",
}  # fmt: skip
_EMPTY_TAG: Final = 3


def qemu_registers(machine: Machine) -> str:
    """The lines of `info registers`, of a CPU in whatever mode."""
    return "\n".join(_lines(machine))


def _lines(machine: Machine) -> Iterator[str]:
    cpu = machine.cpu
    wide = cpu.mode is Mode.LONG64
    yield ""
    yield f"CPU#{cpu.index}"
    yield from _general(machine, wide)
    for index, name in ((index, SReg.names[index].upper()) for index in range(6)):
        yield _segment(machine, name, cpu.segs[index], wide)
    yield _segment(machine, "LDT", cpu.ldtr, wide)
    yield _segment(machine, "TR", cpu.tr, wide)
    digits = 16 if cpu.long_mode_active else 8
    yield _table("GDT", cpu.gdtr, digits)
    yield _table("IDT", cpu.idtr, digits)
    yield f"CR0={cpu.cr0:08x} CR2={cpu.cr2:0{digits}x} CR3={cpu.cr3:0{digits}x} CR4={cpu.cr4:08x}"
    yield "".join(f"DR{number}={cpu.dr[number]:016x} " for number in range(4))
    yield f"DR6={cpu.dr[6]:016x} DR7={cpu.dr[7]:016x}"
    yield f"EFER={cpu.efer:016x}"
    yield from _floating(machine)
    yield from _vectors(machine, 16 if wide else 8)


def _general(machine: Machine, wide: bool) -> Iterator[str]:
    cpu = machine.cpu
    digits, mask = (16, (1 << 64) - 1) if wide else (8, (1 << 32) - 1)
    for row in _WIDE if wide else _NARROW:
        names = [(name.upper() if wide else f"E{name[1:].upper()}", read_register(machine, name) & mask) for name in row]
        yield " ".join(f"{name:<3}={value:0{digits}x}" for name, value in names)
    pointer, flags = ("RIP", "RFL") if wide else ("EIP", "EFL")
    letters = "".join(letter if cpu.rflags & bit else "-" for letter, bit in _FLAGS)
    yield (
        f"{pointer}={cpu.rip & mask:0{digits}x} {flags}={cpu.rflags:08x} [{letters}] CPL={cpu.cpl}"
        f" II={int(cpu.interrupt_shadow)} A20={int(machine.board.a20.enabled)} SMM=0 HLT={int(cpu.halted)}"
    )


def _segment(machine: Machine, name: str, segment: Segment, wide: bool) -> str:
    cpu = machine.cpu
    attributes = segment.attributes
    granular = bool(attributes & SegmentAttributes.G)
    high_limit = segment.limit >> (28 if granular else 16) & 0xF
    # The descriptor's second word without what belongs to the base.
    flags = (attributes & 0xFF) << 8 | (attributes & 0xF000) << 8 | high_limit << 16
    line = f"{name:<3}={segment.selector:04x} {segment.base:0{16 if wide else 8}x} {segment.limit:08x} {flags:08x}"
    if not cpu.cr0 & CR0.PE or not segment.present:
        return line
    return f"{line} DPL={segment.dpl} {_kind(attributes, cpu.long_mode_active)}"


def _kind(attributes: int, long_mode: bool) -> str:
    bits = SegmentAttributes
    if not attributes & bits.S:
        return (_LONG_TYPES if long_mode else _LEGACY_TYPES).get(attributes & bits.type_mask, _RESERVED)
    accessed = "A" if attributes & bits.ACCESSED else "-"
    if attributes & bits.CODE:
        size = "CS64" if attributes & bits.L else "CS32" if attributes & bits.DB else "CS16"
        letters = ("C" if attributes & bits.conforming else "-") + ("R" if attributes & bits.readable else "-")
    else:
        size = "DS  " if attributes & bits.DB or long_mode else "DS16"
        letters = ("E" if attributes & bits.EXPAND_DOWN else "-") + ("W" if attributes & bits.WRITABLE else "-")
    return f"{size} [{letters}{accessed}]"


def _table(name: str, table: TableRegister, digits: int) -> str:
    return f"{name}=     {table.base:0{digits}x} {table.limit:08x}"


def _floating(machine: Machine) -> Iterator[str]:
    status, tags = read_register(machine, "fstat"), read_register(machine, "ftag")
    top = status >> 11 & 7
    valid = sum(1 << number for number in range(8) if tags >> 2 * number & 3 != _EMPTY_TAG)
    yield (
        f"FCW={read_register(machine, 'fctrl'):04x} FSW={status:04x} [ST={top}] FTW={valid:02x}"
        f" MXCSR={read_register(machine, 'mxcsr'):08x}"
    )
    # By the registers' own numbers, where ours are counted from the top of the stack.
    values = [read_register(machine, f"st{number - top & 7}") for number in range(8)]
    yield from _pairs(f"FPR{number}={value & (1 << 64) - 1:016x} {value >> 64:04x}" for number, value in enumerate(values))


def _vectors(machine: Machine, number: int) -> Iterator[str]:
    values = [read_register(machine, f"xmm{index}") for index in range(number)]
    yield from _pairs(f"XMM{index:02}={value >> 64:016x} {value & (1 << 64) - 1:016x}" for index, value in enumerate(values))


def _pairs(texts: Iterable[str]) -> Iterator[str]:
    items = iter(texts)
    for first in items:
        yield f"{first} {next(items)}"
