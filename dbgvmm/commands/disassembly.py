"""`disassemble`: guest code as people read it, and what it became in the translation cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import capstone  # type: ignore[import-untyped]  # it has no type information

from dbgvmm.commands.columns import columns
from dbgvmm.commands.errors import CommandError
from dbgvmm.commands.parameters import Address, Count
from dbgvmm.commands.session import Session
from dbgvmm.commands.sites import find_unit
from dbgvmm.commands.table import command
from dbgvmm.cpu.bits import MASK32, MASK64
from dbgvmm.cpu.state import Mode
from dbgvmm.debug.inside.code import InstructionLine, TranslatedLine, decode_lines, guest_line, unit_code
from dbgvmm.hardware.layout import PAGE_SIZE
from dbgvmm.mmu.linear import NotMapped

_LONGEST: Final = 15
_TEN: Final = Count(10)
_MODES = {
    Mode.LONG64: capstone.CS_MODE_64,
    Mode.PROTECTED32: capstone.CS_MODE_32,
    Mode.COMPAT32: capstone.CS_MODE_32,
}


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
        guest_line(session.symbols, at, bytes(raw), mnemonic, operands)
        for at, raw, mnemonic, operands in decode_lines(decoder, code, address, count)
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


@command("disassemble", aliases=("disas",), repeats=True)
def disassemble(session: Session, address: Address | None = None, count: Count = _TEN) -> Listing:
    """Show COUNT (10) guest instructions from ADDRESS (the selected frame's next one) on.

    They are read as the CPU would run them now: as 64-, 32- or 16-bit code.

    For example:

        disassemble
        disas kmain 20
    """
    rip = session.pc
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
    code = unit_code(machine, unit)
    return Translation(f"{unit}, {'user' if unit.page.user else 'kernel'}", code.pairs, code.stubs)
