"""Changing guest memory: `poke`, `poke-physical`, `fill`, `patch`, `patch undo`.

All of it is written as a debugger writes: read-only pages too, and what the monitor has derived from it is renewed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from dbgvmm.commands.columns import columns
from dbgvmm.commands.disassembly import instructions_at
from dbgvmm.commands.errors import CommandError
from dbgvmm.commands.memory import SIZES
from dbgvmm.commands.parameters import Address, Count, ExpressionWord, Format, Place, Value
from dbgvmm.commands.patterns import pattern_of
from dbgvmm.commands.session import Session
from dbgvmm.commands.table import command
from dbgvmm.cpu.bits import MASK64
from dbgvmm.debug.patches import Patch, PatchError, nops
from dbgvmm.mmu.linear import NotMapped

_MOST_FILLED: Final = 1 << 30
_PIECE: Final = 1 << 20
_MOST_PATCHED: Final = 4096
_DIGITS: Final = re.compile(r"(?:[0-9a-fA-F]{2})+")
_NOP: Final = "nop"


@dataclass(frozen=True)
class Written:
    """Bytes that were written, how many and where."""

    address: int
    length: int
    physical: bool
    done: Literal["written", "filled"] = "written"

    def __str__(self) -> str:
        return f"{self.length} bytes {self.done} at {'physical ' if self.physical else ''}{self.address:#x}"


def check_physical(session: Session, address: int, length: int) -> None:
    """Raise CommandError for a range that is not in RAM."""
    size = session.machine.ram.size
    if address + length > size:
        where = address if address >= size else size
        raise CommandError(f"physical {where:#x} is outside RAM, which ends at {size:#x}")


@command("poke", aliases=("write",))
def poke(session: Session, fmt: Format, address: Address, *value: Value) -> Written:
    """Write VALUEs to a linear ADDRESS.

    poke/b, poke/h, poke/w and poke/g say how many bytes each has: 1, 2, 4, 8 (8, if not said). Read-only pages are
    written too, and translations of code that changes are thrown away.

    For example:

        poke/w 0x5000 1 2 3
    """
    data = _poked(fmt, value)
    try:
        session.machine.memory.poke(address, data)
    except NotMapped as error:
        raise CommandError(str(error)) from error
    return Written(address, len(data), False)


@command("poke-physical")
def poke_physical(session: Session, fmt: Format, address: Address, *value: Value) -> Written:
    """Write VALUEs to a physical ADDRESS of RAM; FMT is that of poke.

    For example:

        poke-physical/b 0x5000 0x90
    """
    data = _poked(fmt, value)
    check_physical(session, address, len(data))
    session.machine.mmu.guest_write(address, data)
    return Written(address, len(data), True)


def _poked(fmt: str, values: tuple[int, ...]) -> bytes:
    if fmt not in ("", *SIZES):
        raise CommandError(f"{fmt!r} is no size: use one of b, h, w and g")
    size = SIZES[fmt or "g"]
    if not values:
        raise CommandError("a VALUE is missing: give what to write")
    for value in values:
        if value >> 8 * size and value < MASK64 + 1 - (1 << 8 * size - 1):
            raise CommandError(f"{value:#x} does not fit into {size} bytes")
    return b"".join((value & (1 << 8 * size) - 1).to_bytes(size, "little") for value in values)


@command("fill")
def fill(session: Session, address: Address, length: Count, *pattern: ExpressionWord, phys: bool = False) -> Written:
    """Fill LENGTH bytes at ADDRESS with PATTERN, again and again, or with 0.

    PATTERN are values as those of `find`. `--phys`: ADDRESS is physical.

    For example:

        fill 0x5000 0x1000
        fill 0x5000 16 0xdeadbeef
        fill 0x5000 64 "ab" --phys
    """
    machine = session.machine
    if length > _MOST_FILLED:
        raise CommandError(f"{length:#x} bytes are more than {_MOST_FILLED:#x}: fill in several steps")
    data = b"".join(pattern_of(session, word, "") for word in pattern) or b"\0"
    if phys:
        check_physical(session, address, length)
    else:
        _check_mapped(session, address, length)
    piece = data * max(_PIECE // len(data), 1)
    for at in range(0, length, len(piece)):
        part = piece[: min(len(piece), length - at)]
        if phys:
            machine.mmu.guest_write(address + at, part)
        else:
            machine.memory.poke(address + at & MASK64, part)
    return Written(address, length, phys, "filled")


def _check_mapped(session: Session, address: int, length: int) -> None:
    """Raise CommandError if a part is not mapped: nothing is written then."""
    at = 0
    while at < length:
        try:
            at += len(session.machine.memory.peek_some(address + at & MASK64, min(_PIECE, length - at)))
        except NotMapped as error:
            raise CommandError(f"{error}; nothing was written") from error


@dataclass(frozen=True)
class PatchLine:
    """A patch. in_place: its bytes are there (in the address space that is in use now)."""

    number: int
    address: int
    place: str
    old: bytes
    new: bytes
    in_place: bool

    def __str__(self) -> str:
        return f"patch {self.number} at {self.place}: {self.old.hex()} -> {self.new.hex()}"


@dataclass(frozen=True)
class PatchList:
    """All patches."""

    lines: tuple[PatchLine, ...]

    def __str__(self) -> str:
        rows = [
            (str(line.number), line.place, line.old.hex(" "), line.new.hex(" "), "" if line.in_place else "not in place")
            for line in self.lines
        ]
        return columns(rows, ("number", "at", "old", "new", "")) if rows else "no patches: patch ADDRESS BYTES"


@dataclass(frozen=True)
class PatchesUndone:
    """The numbers of patches that were taken back."""

    numbers: tuple[int, ...]

    def __str__(self) -> str:
        return f"{len(self.numbers)} patch{'es'[: 2 * (len(self.numbers) > 1)]} undone"


def _line(session: Session, number: int, patch: Patch) -> PatchLine:
    try:
        in_place = session.machine.memory.peek(patch.address, len(patch.new)) == patch.new
    except NotMapped:
        in_place = False
    return PatchLine(number, patch.address, session.name(patch.address), patch.old, patch.new, in_place)


@command("patch", aliases=("info patches",))
def patch_(session: Session, address: Place | None = None, *bytes: ExpressionWord) -> PatchLine | PatchList:
    """Replace code or data at ADDRESS by BYTES; without an ADDRESS, list the patches.

    What was there is remembered. BYTES are hexadecimal digits as a listing shows them (`0f0b`, `90 90`), "text", `nop` for
    a no-operation in place of the one instruction there, or `nop N` for N bytes of them.

    For example:

        patch kmain nop
        patch $rip 31c0c3
        patch kmain nop 5
        patch
    """
    patches = session.machine.patches
    if address is None:
        return PatchList(tuple(_line(session, number, patch) for number, patch in patches.made.items()))
    data = _patched(session, address, bytes)
    try:
        number = patches.make(address, data)
    except NotMapped as error:
        raise CommandError(str(error)) from error
    return _line(session, number, patches.made[number])


def _patched(session: Session, address: int, words: tuple[ExpressionWord, ...]) -> bytes:
    if not words:
        raise CommandError("BYTES are missing: hexadecimal digits as `0f0b`, or `nop`")
    if words[0] == _NOP and len(words) <= 2:
        return nops(_nop_length(session, address, words[1:]))
    data = b""
    for word in words:
        if word.startswith('"'):
            data += pattern_of(session, word, "")
        elif _DIGITS.fullmatch(word.removeprefix("0x")):
            data += bytes.fromhex(word.removeprefix("0x"))
        else:
            raise CommandError(f"{word!r} is no bytes: give two hexadecimal digits for each, as `0f0b`, or `nop`")
    if len(data) > _MOST_PATCHED:
        raise CommandError(f"{len(data)} bytes are more than {_MOST_PATCHED}: `load` takes files")
    return data


def _nop_length(session: Session, address: int, words: tuple[ExpressionWord, ...]) -> int:
    if words:
        if not words[0].isdecimal() or not 0 < int(words[0]) <= _MOST_PATCHED:
            raise CommandError(f"{words[0]!r} is no number of bytes from 1 to {_MOST_PATCHED}")
        return int(words[0])
    lines = instructions_at(session, address, 1)
    if not lines:
        raise CommandError(f"there is no instruction at {session.name(address)}: say how many bytes, `nop N`")
    return len(lines[0].code)


@command("patch undo")
def patch_undo(session: Session, *number: Count) -> PatchesUndone:
    """Put back what was there before the patches with these NUMBERs (the last one).

    For example:

        patch undo
        patch undo 1
    """
    patches = session.machine.patches
    chosen = [int(one) for one in number] or list(patches.made)[-1:]
    if not chosen:
        raise CommandError("there are no patches")
    for one in chosen:
        if one not in patches.made:
            raise CommandError(f"there is no patch {one}: `patch` lists them")
    latest_first = tuple(sorted(set(chosen), reverse=True))
    for one in latest_first:
        try:
            patches.undo(one)
        except (PatchError, NotMapped) as error:
            raise CommandError(str(error)) from error
    return PatchesUndone(latest_first)
