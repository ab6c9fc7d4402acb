"""`disassemble`: guest code as people read it, and what it became in the translation cache."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import capstone  # type: ignore[import-untyped]  # it has no type information
from iced_x86 import Mnemonic

from dbgvmm.bt import tcdata
from dbgvmm.bt.cache import TranslationCache
from dbgvmm.bt.emission import EXIT
from dbgvmm.bt.units import CALLOUT, FIX_SPILL, INDIRECT, Site, TranslationUnit
from dbgvmm.commands.columns import columns
from dbgvmm.commands.errors import CommandError
from dbgvmm.commands.parameters import Address, Count
from dbgvmm.commands.session import Session
from dbgvmm.commands.sites import describe_site, find_unit
from dbgvmm.commands.table import command
from dbgvmm.cpu.bits import GPR, MASK32, MASK64
from dbgvmm.cpu.state import Mode
from dbgvmm.hardware.layout import DATA_VA, PAGE_SIZE, TC_OFFSET, TC_VA, USER_DATA_VA
from dbgvmm.mmu.linear import NotMapped

_LONGEST: Final = 15
_TEN: Final = Count(10)
_RIP_RELATIVE: Final = re.compile(r"\[rip ([-+]) (0x[0-9a-f]+|\d+)\]")
_DATA_WORDS: Final = {
    tcdata.BUDGET: "budget",
    tcdata.SPILL_RAX: "saved rax",
    tcdata.SPILL_RCX: "saved rcx",
    tcdata.SPILL_ANY: "saved register",
    tcdata.PENDING: "pending",
    tcdata.TSC_BASE: "TSC base",
    tcdata.VIRTUAL_IOPL: "IOPL",
}
_POPF: Final = frozenset((Mnemonic.POPF, Mnemonic.POPFD, Mnemonic.POPFQ))
_MODES = {
    Mode.LONG64: capstone.CS_MODE_64,
    Mode.PROTECTED32: capstone.CS_MODE_32,
    Mode.COMPAT32: capstone.CS_MODE_32,
}


@dataclass(frozen=True)
class InstructionLine:
    """One instruction. `target`: the symbol of the address that it names, "" without one."""

    address: int
    place: str
    code: bytes
    mnemonic: str
    operands: str
    target: str

    @property
    def text(self) -> str:
        """Mnemonic and operands, with the target's symbol."""
        text = f"{self.mnemonic} {self.operands}".rstrip()
        return f"{text} <{self.target}>" if self.target else text

    def __str__(self) -> str:
        return f"{self.place}: {self.text}"


@dataclass(frozen=True)
class Listing:
    """A stretch of guest code. `current`: the address that is marked, the next instruction's."""

    lines: tuple[InstructionLine, ...]
    current: int | None

    def __str__(self) -> str:
        return columns(
            ("=>" if line.address == self.current else "", f"{line.place}:", line.code.hex(), line.text)
            for line in self.lines
        )


@dataclass(frozen=True)
class TranslatedLine:
    """One instruction in the TC. `note`: what an exit there is for, and which registers are spilled."""

    address: int
    code: bytes
    text: str
    note: str


@dataclass(frozen=True)
class Translation:
    """A unit: each guest instruction with the TC instructions that stand for it; `stubs` are its exits."""

    unit: str
    pairs: tuple[tuple[InstructionLine, tuple[TranslatedLine, ...]], ...]
    stubs: tuple[TranslatedLine, ...]

    def __str__(self) -> str:
        rows: list[tuple[str, str, str, str]] = []
        for guest, translated in self.pairs:
            left = str(guest)
            for line in translated:
                rows.append((left, f"{line.address:x}", line.text, line.note))
                left = ""
            if not translated:
                rows.append((left, "", "", ""))
        rows += [("", f"{line.address:x}", line.text, line.note) for line in self.stubs]
        return f"{self.unit}\n{columns(rows, ('guest', 'TC', 'translation', ''))}"


def instructions_at(session: Session, address: int, count: int) -> list[InstructionLine]:
    """Up to `count` instructions from `address` (an offset in CS outside 64-bit mode) as the CPU would run them now.

    Fewer, if the code ends in an unmapped page or in bytes that are no instruction.
    """
    machine = session.machine
    cpu = machine.cpu
    linear = address if cpu.in_64bit_code else address + cpu.segs[1].base & MASK32
    code = _code_bytes(session, linear, count * _LONGEST)
    decoder = capstone.Cs(capstone.CS_ARCH_X86, _MODES.get(cpu.mode, capstone.CS_MODE_16))
    return [
        InstructionLine(at, session.name(at), bytes(raw), mnemonic, operands, _target(session, raw, mnemonic, operands))
        for at, raw, mnemonic, operands in _decode(decoder, code, address, count)
    ]


def _code_bytes(session: Session, linear: int, length: int) -> bytes:
    data = b""
    while length > 0:
        size = min(length, PAGE_SIZE - linear % PAGE_SIZE)
        try:
            data += session.machine.memory.peek(linear, size)
        except NotMapped:
            break
        linear = linear + size & MASK64
        length -= size
    return data


def _decode(decoder: capstone.Cs, code: bytes, address: int, count: int) -> list[tuple[int, bytes, str, str]]:
    at = 0
    found: list[tuple[int, bytes, str, str]] = []
    for start, size, mnemonic, operands in decoder.disasm_lite(code, address, count):
        found.append((start, code[at : at + size], mnemonic, operands))
        at += size
    return found


def _target(session: Session, raw: bytes, mnemonic: str, operands: str) -> str:
    """The symbol of a branch's target."""
    if not mnemonic.startswith(("call", "j", "loop")) or not operands.startswith("0x"):
        return ""
    return session.symbols.describe(int(operands, 16))


@command("disassemble", aliases=("disas",), repeats=True)
def disassemble(session: Session, address: Address | None = None, count: Count = _TEN) -> Listing:
    """Show COUNT (10) guest instructions from ADDRESS (the next one), in the CPU's current mode.

    For example:

        disassemble
        disas kmain 20
    """
    rip = session.machine.cpu.rip
    start = rip if address is None else address
    lines = instructions_at(session, start, count)
    if not lines:
        raise CommandError(f"there is no code at {session.name(start)}: {_why_not(session, start)}")
    return Listing(tuple(lines), rip)


def _why_not(session: Session, address: int) -> str:
    try:
        return f"its bytes are {session.machine.memory.peek(address, 1).hex()}..., no instruction"
    except NotMapped as error:
        return str(error)


@command("disassemble tc", aliases=("disas tc",))
def disassemble_tc(session: Session, address: Address | None = None) -> Translation:
    """Show the translation unit at ADDRESS (the next instruction) beside its guest code.

    ADDRESS is a guest address or one in the TC. A note says what an exit is for, and which registers are spilled there.

    For example:

        disassemble tc kmain
    """
    machine = session.machine
    unit = find_unit(session, machine.cpu.rip if address is None else address)
    # From the bytes that were translated: the guest may have mapped something else there since.
    decoder = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    guest = [
        InstructionLine(at, session.name(at), raw, mnemonic, operands, _target(session, raw, mnemonic, operands))
        for at, raw, mnemonic, operands in _decode(decoder, unit.guest_bytes, unit.guest_rip, 0)
    ]
    offset = unit.tc_start - TC_VA + TC_OFFSET
    code = bytes(machine.engine.frames.block.bytes[offset : offset + unit.tc_end - unit.tc_start])
    first_stub = _first_stub(machine.cache, unit)
    pairs: dict[int, list[TranslatedLine]] = {}
    stubs: list[TranslatedLine] = []
    for at, raw, mnemonic, operands in _decode(decoder, code, unit.tc_start, 0):
        mark = unit.mark_at(at)
        note = _note(session, machine.cache.sites.get(at + len(raw)), mark.fix)
        text = _with_names(f"{mnemonic} {operands}".rstrip(), at + len(raw))
        line = TranslatedLine(at, raw, text, note)
        (stubs if at >= first_stub else pairs.setdefault(mark.guest_offset, [])).append(line)
    offsets = [line.address - unit.guest_rip & MASK64 for line in guest]
    # A mark behind the last instruction belongs to it: what is left to do once it has retired.
    shown = [
        (line, tuple(item for key in sorted(pairs) if _owner(offsets, key) == at for item in pairs[key]))
        for at, line in zip(offsets, guest, strict=True)
    ]
    return Translation(f"{unit}, {'user' if unit.page.user else 'kernel'}", tuple(shown), tuple(stubs))


def _with_names(text: str, behind: int) -> str:
    """RIP-relative operands in the TC's data page by the names of their words."""
    match = _RIP_RELATIVE.search(text)
    if match is None:
        return text
    offset = behind + (int(match[2], 16) if match[1] == "+" else -int(match[2], 16)) - DATA_VA & MASK64
    name = _DATA_WORDS.get(offset if offset < PAGE_SIZE else offset - (USER_DATA_VA - DATA_VA))
    return text if name is None else f"{text[: match.start()]}[{name}]{text[match.end() :]}"


def _owner(offsets: list[int], key: int) -> int:
    return max((offset for offset in offsets if offset <= key), default=0)


def _first_stub(cache: TranslationCache, unit: TranslationUnit) -> int:
    """Where the exits behind the unit's code begin. An exit that ends the code is part of it, as popf's is not."""
    behind = sorted(unit.sites)
    if behind:
        first = cache.sites[behind[0]]
        instruction = first.instruction
        if first.kind == INDIRECT or (
            first.kind == CALLOUT and instruction is not None and instruction.mnemonic not in _POPF
        ):
            del behind[0]
    return behind[0] - len(EXIT) if behind else unit.tc_end


def _note(session: Session, site: Site | None, fix: int) -> str:
    if site is not None:
        return describe_site(session, site)
    spilled = [name for bit, name in ((1, "rax"), (2, "rcx")) if fix < FIX_SPILL and fix & bit]
    if fix >= FIX_SPILL:
        spilled = [next(name.lower() for name, number in vars(GPR).items() if number == fix - FIX_SPILL)]
    return f"{', '.join(spilled)} spilled" if spilled else ""
