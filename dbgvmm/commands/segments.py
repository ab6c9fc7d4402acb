"""Segments, descriptor tables and MSRs.

Source: Intel SDM vol. 3A 3.4.5 (descriptors), 6.10 and 6.14.1 (IDT), 7.2 (TSS); vol. 4 (MSRs).
"""

from __future__ import annotations

from dataclasses import dataclass

from dbgvmm.commands.columns import columns
from dbgvmm.commands.errors import CommandError
from dbgvmm.commands.registers import NamedValue, NamedValues
from dbgvmm.commands.session import Session
from dbgvmm.commands.table import command
from dbgvmm.cpu.bits import MASK64, MSR, SegmentAttributes, SReg, SystemType, Vector
from dbgvmm.cpu.descriptors import attributes_of, base_of, limit_of
from dbgvmm.cpu.faults import GuestFault
from dbgvmm.mmu.linear import NotMapped

_SYSTEM_TYPES = {value: name.replace("_", " ").lower() for name, value in vars(SystemType).items() if name.isupper()}
_WIDE_TYPES = frozenset((SystemType.LDT, SystemType.TSS_AVAILABLE, SystemType.TSS_BUSY, SystemType.CALL_GATE))
_GATE_TYPES = frozenset((SystemType.INTERRUPT_GATE, SystemType.TRAP_GATE, SystemType.TASK_GATE))
_MOST_GDT_ENTRIES = 64


@dataclass(frozen=True)
class DescriptorLine:
    """A segment register with its hidden part, or an entry of a descriptor table."""

    name: str
    selector: int
    base: int
    limit: int
    words: str


@dataclass(frozen=True)
class Descriptors:
    """Several of them, and where they are."""

    title: str
    lines: tuple[DescriptorLine, ...]

    def __str__(self) -> str:
        rows = [
            (line.name, f"{line.selector:04x}", f"{line.base:x}", f"{line.limit:x}", line.words) for line in self.lines
        ]
        return f"{self.title}\n{columns(rows, ('', 'selector', 'base', 'limit', 'attributes'), right=(2, 3))}"


@dataclass(frozen=True)
class GateLine:
    """One gate of the IDT."""

    vector: int
    name: str
    selector: int
    place: str
    words: str


@dataclass(frozen=True)
class Gates:
    """The IDT's gates that are present."""

    title: str
    lines: tuple[GateLine, ...]

    def __str__(self) -> str:
        rows = [
            (f"{line.vector:02x}", line.name, f"{line.selector:04x}", line.place, line.words) for line in self.lines
        ]
        return f"{self.title}\n{columns(rows, ('vector', '', 'selector', 'handler', 'gate'))}"


@command("info segments")
def info_segments(session: Session) -> Descriptors:
    """Show the segment registers with what they hide: base, limit and attributes.

    For example:

        info segments
    """
    cpu = session.machine.cpu
    named = [(SReg.names[index], cpu.segs[index]) for index in (SReg.CS, SReg.SS, SReg.DS, SReg.ES, SReg.FS, SReg.GS)]
    lines = [
        DescriptorLine(name, segment.selector, segment.base, segment.limit, _attributes(segment.attributes))
        for name, segment in [*named, ("ldtr", cpu.ldtr), ("tr", cpu.tr)]
    ]
    return Descriptors(f"CPL {cpu.cpl}, {cpu.mode.value}", tuple(lines))


@command("info gdt")
def info_gdt(session: Session) -> Descriptors:
    """Show the GDT's entries (the first 64), those that are zero left out.

    For example:

        info gdt
    """
    cpu = session.machine.cpu
    entries = min((cpu.gdtr.limit + 1) // 8, _MOST_GDT_ENTRIES)
    table = _read(session, cpu.gdtr.base, entries * 8, "GDT")
    lines: list[DescriptorLine] = []
    index = 0
    while index < entries:
        raw = int.from_bytes(table[index * 8 : index * 8 + 8], "little")
        attributes, base, selector = attributes_of(raw), base_of(raw), index * 8
        kind = attributes & SegmentAttributes.type_mask
        index += 1
        if cpu.long_mode_active and not attributes & SegmentAttributes.S and kind in _WIDE_TYPES and index < entries:
            base |= int.from_bytes(table[index * 8 : index * 8 + 4], "little") << 32
            index += 1
        if raw:
            lines.append(DescriptorLine("", selector, base, limit_of(raw), _attributes(attributes)))
    return Descriptors(f"GDT at {cpu.gdtr.base:#x}, limit {cpu.gdtr.limit:#x}", tuple(lines))


@command("info idt")
def info_idt(session: Session) -> Gates:
    """Show the IDT's gates that are present, with their handlers' symbols.

    For example:

        info idt
    """
    cpu = session.machine.cpu
    size = 16 if cpu.long_mode_active else 8
    entries = min((cpu.idtr.limit + 1) // size, 256)
    table = _read(session, cpu.idtr.base, entries * size, "IDT")
    lines = []
    for vector in range(entries):
        gate = int.from_bytes(table[vector * size : vector * size + size], "little")
        if gate >> 47 & 1:
            lines.append(_gate(session, vector, gate))
    return Gates(f"IDT at {cpu.idtr.base:#x}, limit {cpu.idtr.limit:#x}", tuple(lines))


def _gate(session: Session, vector: int, gate: int) -> GateLine:
    offset = gate & 0xFFFF | gate >> 32 & 0xFFFF_0000
    if session.machine.cpu.long_mode_active:
        offset |= gate >> 32 & 0xFFFF_FFFF_0000_0000 & MASK64
    kind = gate >> 40 & 0x1F
    words = [_SYSTEM_TYPES[kind] if kind in _GATE_TYPES else f"type {kind:#x}, which no IDT may hold"]
    words.append(f"DPL {gate >> 45 & 3}")
    if session.machine.cpu.long_mode_active and gate >> 32 & 7:
        words.append(f"IST {gate >> 32 & 7}")
    name = Vector.name_of(vector)
    return GateLine(
        vector, "" if name.startswith("vector") else name, gate >> 16 & 0xFFFF, session.name(offset), ", ".join(words)
    )


def _read(session: Session, base: int, length: int, what: str) -> bytes:
    try:
        return session.machine.memory.peek(base, length)
    except NotMapped as error:
        raise CommandError(f"the {what} cannot be read: {error}") from error


def _attributes(attributes: int) -> str:
    if attributes & SegmentAttributes.S or not attributes:
        words = SegmentAttributes.describe(attributes)
    else:
        kind = attributes & SegmentAttributes.type_mask
        rest = SegmentAttributes.describe(attributes & ~SegmentAttributes.type_mask)
        words = f"{_SYSTEM_TYPES.get(kind, f'system type {kind}')}, {rest}"
    return words if attributes & SegmentAttributes.P else f"{words} (not present)".removeprefix("0 ")


@command("info msrs")
def info_msrs(session: Session) -> NamedValues:
    """Show every MSR that this CPU has and that can be read.

    For example:

        info msrs
    """
    named = sorted((index, name) for name, index in vars(MSR).items() if name.isupper() and isinstance(index, int))
    values = ((index, name, _read_msr(session, index)) for index, name in named)
    return NamedValues(
        tuple(NamedValue(f"{index:08x}", value, name) for index, name, value in values if value is not None)
    )


def _read_msr(session: Session, index: int) -> int | None:
    """The MSR, or None if it cannot be read. A look of ours must not count as a try of the guest's."""
    msrs = session.machine.msrs
    tries = msrs.unknown_msrs.get(index)
    try:
        return msrs.read(session.machine.cpu, index)
    except GuestFault:
        if tries is None:
            msrs.unknown_msrs.pop(index, None)
        else:
            msrs.unknown_msrs[index] = tries
        return None


@command("info unknown-msrs")
def info_unknown_msrs(session: Session) -> NamedValues | str:
    """Show the MSRs that the guest tried to use and that this CPU has not.

    For example:

        info unknown-msrs
    """
    unknown = session.machine.msrs.unknown_msrs
    if not unknown:
        return "the guest used no unknown MSR"
    return NamedValues(tuple(NamedValue(f"{index:08x}", unknown[index], "tries") for index in sorted(unknown)))
