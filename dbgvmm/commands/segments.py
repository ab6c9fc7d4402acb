"""Segments and descriptor tables: GDT, LDT, IDT, TSS.

Source: Intel SDM vol. 3A 3.4.5 (descriptors), 6.10 and 6.14.1 (IDT), 7.2.1 and 7.7 (TSS).
"""

from __future__ import annotations

from dataclasses import dataclass

from dbgvmm.commands.columns import columns
from dbgvmm.commands.errors import CommandError
from dbgvmm.commands.session import Session
from dbgvmm.commands.table import command
from dbgvmm.cpu.bits import MASK64, SegmentAttributes, SReg, SystemType, Vector
from dbgvmm.cpu.descriptors import attributes_of, base_of, limit_of
from dbgvmm.mmu.linear import NotMapped

_SYSTEM_TYPES = {value: name.replace("_", " ").lower() for name, value in vars(SystemType).items() if name.isupper()}
_WIDE_TYPES = frozenset((SystemType.LDT, SystemType.TSS_AVAILABLE, SystemType.TSS_BUSY, SystemType.CALL_GATE))
_GATE_TYPES = frozenset((SystemType.INTERRUPT_GATE, SystemType.TRAP_GATE, SystemType.TASK_GATE))
_MOST_GDT_ENTRIES = 64
_LOCAL = 1 << 2
_STACKS_IN_TSS64 = 4
_IST1_IN_TSS64 = 36
_MAP_BASE_IN_TSS = 102
_SMALLEST_TSS = 104


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
        if not self.lines:
            return self.title
        rows = [
            (line.name, f"{line.selector:04x}", f"{line.base:x}", f"{line.limit:x}", line.words) for line in self.lines
        ]
        return f"{self.title}\n{columns(rows, ('', 'selector', 'base', 'limit', 'attributes'), right=(2, 3))}"


@dataclass(frozen=True)
class TaskStack:
    """A stack of the TSS. vectors: those whose gates switch to it (IST only)."""

    name: str
    pointer: int
    place: str
    vectors: tuple[int, ...] = ()


@dataclass(frozen=True)
class TaskState:
    """The task-state segment that TR points to. io_map: offset of the I/O permission bitmap, behind the limit if there is
    none."""

    selector: int
    base: int
    limit: int
    bits: int
    stacks: tuple[TaskStack, ...]
    io_map: int

    def __str__(self) -> str:
        rows = [
            (stack.name, stack.place, f"for {', '.join(map(Vector.name_of, stack.vectors))}" if stack.vectors else "")
            for stack in self.stacks
        ]
        io = f"at offset {self.io_map:#x}" if self.io_map <= self.limit else "none: ports are for IOPL alone"
        head = f"TSS {self.selector:#x} ({self.bits} bits) at {self.base:#x}, limit {self.limit:#x}"
        return f"{head}\n{columns([*rows, ('I/O map', io)])}"


@dataclass(frozen=True)
class GateLine:
    """One gate of the IDT. ist: the interrupt stack, 0 for none."""

    vector: int
    name: str
    selector: int
    handler: int
    place: str
    words: str
    dpl: int
    ist: int


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
    gdtr = session.machine.cpu.gdtr
    title = f"GDT at {gdtr.base:#x}, limit {gdtr.limit:#x}"
    return Descriptors(title, _descriptors(session, gdtr.base, gdtr.limit, "GDT", 0))


@command("info ldt")
def info_ldt(session: Session) -> Descriptors:
    """Show the LDT's entries (the first 64), those that are zero left out.

    For example:

        info ldt
    """
    ldtr = session.machine.cpu.ldtr
    if not ldtr.selector & ~3:
        return Descriptors("no LDT is loaded", ())
    title = f"LDT {ldtr.selector:#x} at {ldtr.base:#x}, limit {ldtr.limit:#x}"
    return Descriptors(title, _descriptors(session, ldtr.base, ldtr.limit, "LDT", _LOCAL))


def _descriptors(session: Session, base: int, limit: int, what: str, local: int) -> tuple[DescriptorLine, ...]:
    entries = min((limit + 1) // 8, _MOST_GDT_ENTRIES)
    table = _read(session, base, entries * 8, what)
    lines: list[DescriptorLine] = []
    index = 0
    while index < entries:
        raw = int.from_bytes(table[index * 8 : index * 8 + 8], "little")
        attributes, start, selector = attributes_of(raw), base_of(raw), index * 8 | local
        kind = attributes & SegmentAttributes.type_mask
        index += 1
        wide = session.machine.cpu.long_mode_active and not attributes & SegmentAttributes.S and kind in _WIDE_TYPES
        if wide and index < entries:
            start |= int.from_bytes(table[index * 8 : index * 8 + 4], "little") << 32
            index += 1
        if raw:
            lines.append(DescriptorLine("", selector, start, limit_of(raw), _attributes(attributes)))
    return tuple(lines)


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


@command("info tss")
def info_tss(session: Session) -> TaskState:
    """Show the TSS: the stacks of the privilege levels, the interrupt stacks (IST) and whose they are.

    For example:

        info tss
    """
    cpu = session.machine.cpu
    tr = cpu.tr
    if not tr.selector & ~3:
        raise CommandError("no TSS is loaded: TR is null until the guest has executed LTR")
    if tr.limit + 1 < _SMALLEST_TSS:
        raise CommandError(f"the TSS at {tr.base:#x} has a limit of {tr.limit:#x}: too small for what is in one")
    raw = _read(session, tr.base, _SMALLEST_TSS, "TSS")
    if cpu.long_mode_active:
        vectors = _ist_users(session)
        places = [(f"RSP{level}", _STACKS_IN_TSS64 + 8 * level, 0) for level in range(3)]
        places += [(f"IST{number}", _IST1_IN_TSS64 + 8 * (number - 1), number) for number in range(1, 8)]
        stacks = [_stack(session, name, raw[at : at + 8], vectors.get(ist, ())) for name, at, ist in places]
    else:
        stacks = [_stack(session, f"ESP{level}", raw[4 + 8 * level : 8 + 8 * level], ()) for level in range(3)]
    bits = 64 if cpu.long_mode_active else 32
    io_map = int.from_bytes(raw[_MAP_BASE_IN_TSS : _MAP_BASE_IN_TSS + 2], "little")
    return TaskState(tr.selector, tr.base, tr.limit, bits, tuple(stacks), io_map)


def _stack(session: Session, name: str, raw: bytes, vectors: tuple[int, ...]) -> TaskStack:
    pointer = int.from_bytes(raw, "little")
    return TaskStack(name, pointer, session.name(pointer), vectors)


def _ist_users(session: Session) -> dict[int, tuple[int, ...]]:
    """The vectors of each interrupt stack."""
    try:
        gates = info_idt(session).lines
    except CommandError:
        return {}
    users: dict[int, tuple[int, ...]] = {}
    for gate in gates:
        users[gate.ist] = (*users.get(gate.ist, ()), gate.vector)
    users.pop(0, None)
    return users


def _gate(session: Session, vector: int, gate: int) -> GateLine:
    offset = gate & 0xFFFF | gate >> 32 & 0xFFFF_0000
    if session.machine.cpu.long_mode_active:
        offset |= gate >> 32 & 0xFFFF_FFFF_0000_0000 & MASK64
    kind = gate >> 40 & 0x1F
    words = [_SYSTEM_TYPES[kind] if kind in _GATE_TYPES else f"type {kind:#x}, which no IDT may hold"]
    words.append(f"DPL {gate >> 45 & 3}")
    ist = gate >> 32 & 7 if session.machine.cpu.long_mode_active else 0
    if ist:
        words.append(f"IST {ist}")
    name = Vector.name_of(vector)
    return GateLine(
        vector, "" if name.startswith("vector") else name, gate >> 16 & 0xFFFF, offset, session.name(offset),
        ", ".join(words), gate >> 45 & 3, ist,
    )  # fmt: skip


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


