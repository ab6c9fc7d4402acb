"""A unit's guest code and its translation, instruction by instruction, as people read them."""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import capstone  # type: ignore[import-untyped]  # it has no type information
from iced_x86 import Mnemonic

from dbgvmm.bt import tcdata
from dbgvmm.bt.cache import TranslationCache
from dbgvmm.bt.emission import EXIT
from dbgvmm.bt.units import CALLOUT, FIX_SPILL, INDIRECT, TranslationUnit
from dbgvmm.cpu.bits import GPR, MASK64
from dbgvmm.debug.inside.sites import describe_site
from dbgvmm.hardware.layout import DATA_VA, PAGE_SIZE, TC_OFFSET, TC_VA, USER_DATA_VA

if TYPE_CHECKING:
    from dbgvmm.debug.symbols import Symbols
    from dbgvmm.machine import Machine

_RIP_RELATIVE: Final = re.compile(r"\[rip ([-+]) (0x[0-9a-f]+|\d+)\]")
_DATA_WORDS: Final = {
    tcdata.BUDGET: "budget",
    tcdata.BUDGET + 7: "budget's sign",
    tcdata.SPILL_RAX: "saved rax",
    tcdata.SPILL_RCX: "saved rcx",
    tcdata.SPILL_ANY: "saved register",
    tcdata.PENDING: "pending",
    tcdata.TSC_BASE: "TSC base",
    tcdata.VIRTUAL_IOPL: "IOPL",
}
_POPF: Final = frozenset((Mnemonic.POPF, Mnemonic.POPFD, Mnemonic.POPFQ))


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
class TranslatedLine:
    """One instruction in the TC. `note`: what an exit there is for, and which registers are spilled.

    spilled: those registers. counts: it belongs to the sequence in which the unit counts itself.
    """

    address: int
    code: bytes
    text: str
    note: str
    spilled: tuple[str, ...] = ()
    counts: bool = False


@dataclass(frozen=True)
class UnitCode:
    """Each guest instruction with the TC instructions that stand for it; `stubs` are the exits behind them."""

    pairs: tuple[tuple[InstructionLine, tuple[TranslatedLine, ...]], ...]
    stubs: tuple[TranslatedLine, ...]


def decode_lines(decoder: capstone.Cs, code: bytes, address: int, count: int) -> list[tuple[int, bytes, str, str]]:
    """(address, bytes, mnemonic, operands) of each instruction; count: at most so many, 0 for all."""
    at = 0
    found: list[tuple[int, bytes, str, str]] = []
    for start, size, mnemonic, operands in decoder.disasm_lite(code, address, count):
        found.append((start, code[at : at + size], mnemonic, operands))
        at += size
    return found


def guest_line(symbols: Symbols, address: int, raw: bytes, mnemonic: str, operands: str) -> InstructionLine:
    """A decoded instruction with the names that are known."""
    symbol = symbols.describe(address)
    place = f"{address:#x} <{symbol}>" if symbol else f"{address:#x}"
    branch = mnemonic.startswith(("call", "j", "loop")) and operands.startswith("0x")
    target = symbols.describe(int(operands, 16)) if branch else ""
    return InstructionLine(address, place, raw, mnemonic, operands, target)


def unit_lines(symbols: Symbols, unit: TranslationUnit) -> list[InstructionLine]:
    """The guest's instructions, from the bytes that were translated: it may have mapped something else there since."""
    decoder = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    return [guest_line(symbols, *line) for line in decode_lines(decoder, unit.guest_bytes, unit.guest_rip, 0)]


def counting_range(unit: TranslationUnit) -> range:
    """The TC addresses at which the unit counts itself; none for a precise one, which the monitor counts."""
    if unit.resume_at >= 1 << 64:
        return range(0)
    at = bisect_right(unit.mark_offsets, unit.resume_at - unit.tc_start - 1) - 1
    return range(unit.tc_start + unit.mark_offsets[at], unit.resume_at)


def unit_code(machine: Machine, unit: TranslationUnit) -> UnitCode:
    """Guest code and translation side by side."""
    guest = unit_lines(machine.symbols, unit)
    decoder = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    offset = unit.tc_start - TC_VA + TC_OFFSET
    code = bytes(machine.engine.frames.block.bytes[offset : offset + unit.tc_end - unit.tc_start])
    cache = machine.cache
    first_stub = _first_stub(cache, unit)
    counting = counting_range(unit)
    pairs: dict[int, list[TranslatedLine]] = {}
    stubs: list[TranslatedLine] = []
    for at, raw, mnemonic, operands in decode_lines(decoder, code, unit.tc_start, 0):
        mark = unit.mark_at(at)
        site = cache.sites.get(at + len(raw))
        spilled = _spilled(mark.fix)
        note = describe_site(machine.symbols, site) if site is not None else f"{', '.join(spilled)} spilled" if spilled else ""
        text = _with_names(f"{mnemonic} {operands}".rstrip(), at + len(raw))
        line = TranslatedLine(at, raw, text, note, spilled, at in counting)
        (stubs if at >= first_stub else pairs.setdefault(mark.guest_offset, [])).append(line)
    offsets = [line.address - unit.guest_rip & MASK64 for line in guest]
    # A mark behind the last instruction belongs to it: what is left to do once it has retired.
    shown = [
        (line, tuple(item for key in sorted(pairs) if _owner(offsets, key) == at for item in pairs[key]))
        for at, line in zip(offsets, guest, strict=True)
    ]
    return UnitCode(tuple(shown), tuple(stubs))


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


def _spilled(fix: int) -> tuple[str, ...]:
    if fix >= FIX_SPILL:
        return (next(name.lower() for name, number in vars(GPR).items() if number == fix - FIX_SPILL),)
    return tuple(name for bit, name in ((1, "rax"), (2, "rcx")) if fix & bit)
