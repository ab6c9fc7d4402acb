"""Looking at guest memory: `x`, `xp`, `peek`, `translate`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from dbgvmm.commands.columns import columns
from dbgvmm.commands.disassembly import Listing, instructions_at
from dbgvmm.commands.errors import CommandError
from dbgvmm.commands.parameters import Address, Count, Format
from dbgvmm.commands.session import Session
from dbgvmm.commands.table import command
from dbgvmm.cpu.bits import MASK64
from dbgvmm.debug.expressions.types import U64
from dbgvmm.hardware.layout import PAGE_SIZE
from dbgvmm.hardware.paging import PTE
from dbgvmm.mmu.linear import NotMapped
from dbgvmm.mmu.walk import WalkLevel

SIZES: Final = {"b": 1, "h": 2, "w": 4, "g": 8}
"""Letters for sizes, as in gdb's formats."""
_FORMAT: Final = re.compile(r"([0-9]{0,9})([a-z]*)")
_LETTERS: Final = frozenset("xduotacsi")
_LONGEST_STRING: Final = 4096
_MOST_BYTES: Final = 1 << 20
_MOST_LINES: Final = 10_000
_PEEKED: Final = Count(64)
_ENTRY_BITS: Final = (
    (PTE.P, "P"), (PTE.W, "W"), (PTE.U, "U"), (PTE.PWT, "PWT"), (PTE.PCD, "PCD"), (PTE.A, "A"), (PTE.D, "D"),
    (PTE.G, "G"), (PTE.NX, "NX"),
)  # fmt: skip

Reader = Callable[[int, int], bytes]
"""(address, length) -> bytes; raises CommandError."""


@dataclass(frozen=True)
class MemoryUnits:
    """Memory as units of `size` bytes; `letter` is the format they are shown in."""

    address: int
    size: int
    letter: str
    values: tuple[int, ...]
    names: tuple[str, ...]
    as_qemu: bool = False

    def __str__(self) -> str:
        if self.as_qemu and self.letter == "x":
            return self._as_qemu()
        per_line = (
            1 if self.letter == "a" else 16 // self.size if self.letter not in "dut" else 16 // self.size // 2 or 1
        )
        texts = [_shown(value, self.size, self.letter) for value in self.values]
        if self.letter == "a":
            texts = list(self.names)
        rows = [
            (f"{self.address + at * self.size & MASK64:#x}:", *texts[at : at + per_line])
            for at in range(0, len(texts), per_line)
        ]
        return columns(rows, right=range(1, per_line + 1) if self.letter != "a" else ())

    def _as_qemu(self) -> str:
        """Behind an address of sixteen digits, as scripts that read QEMU's monitor want it."""
        texts = [_shown(value, self.size, self.letter) for value in self.values]
        per_line = 8 if self.size == 1 else 16 // self.size
        return "\n".join(
            f"{self.address + at * self.size & MASK64:016x}: {' '.join(texts[at : at + per_line])}"
            for at in range(0, len(texts), per_line)
        )


@dataclass(frozen=True)
class MemoryStrings:
    """Zero-terminated strings, with their addresses."""

    strings: tuple[tuple[int, bytes], ...]

    def __str__(self) -> str:
        return columns((f"{address:#x}:", _quoted(text)) for address, text in self.strings)


@dataclass(frozen=True)
class MemoryBytes:
    """Bytes from an address."""

    address: int
    data: bytes

    def __str__(self) -> str:
        lines = []
        for at in range(0, len(self.data), 16):
            part = self.data[at : at + 16]
            text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in part)
            lines.append((f"{self.address + at & MASK64:#x}:", part.hex(" "), text))
        return columns(lines)


@dataclass(frozen=True)
class Translation:
    """The guest's page walk of an address. `gpa` is None where it ends early, and `problem` says why."""

    va: int
    levels: tuple[WalkLevel, ...]
    gpa: int | None
    page_size: int
    rights: str
    problem: str

    def __str__(self) -> str:
        rows = [
            (
                level.name,
                f"[{level.index}]",
                f"at {level.entry_gpa:#x}",
                f"{level.entry:016x}",
                entry_words(level.entry),
            )
            for level in self.levels
        ]
        if self.gpa is None:
            end = f"{self.va:#x} is not mapped: {self.problem}"
        elif not self.levels:
            end = f"{self.va:#x} -> physical {self.gpa:#x} (paging is off)"
        else:
            end = f"{self.va:#x} -> physical {self.gpa:#x}, a page of {_page_size(self.page_size)}, {self.rights}"
        return f"{columns(rows)}\n{end}" if rows else end


def entry_words(entry: int) -> str:
    """A page-table entry's bits by name (Intel SDM vol. 3A tables 4-15 to 4-20; PS and PAT share a bit)."""
    if not entry & PTE.P:
        return "not present"
    words = [name for bit, name in _ENTRY_BITS if entry & bit]
    return " ".join([*words, "PS/PAT"] if entry & PTE.PS else words)


def _page_size(size: int) -> str:
    return f"{size >> 30} GiB" if size >= 1 << 30 else f"{size >> 20} MiB" if size >= 1 << 20 else f"{size >> 10} KiB"


def _shown(value: int, size: int, letter: str) -> str:
    signed = value - (1 << 8 * size) if value >> 8 * size - 1 else value
    match letter:
        case "d":
            return str(signed)
        case "u":
            return str(value)
        case "o":
            return f"{value:#o}"
        case "t":
            return f"{value:0{8 * size}b}"
        case "c":
            return f"{signed} {_quoted(bytes((value & 0xFF,)))}"
        case _:
            return f"0x{value:0{2 * size}x}"


def _quoted(text: bytes) -> str:
    return '"' + text.decode("latin-1").encode("unicode_escape").decode("ascii").replace('"', '\\"') + '"'


def _virtual(session: Session) -> Reader:
    def read(address: int, length: int) -> bytes:
        try:
            return session.machine.memory.peek(address, length)
        except NotMapped as error:
            raise CommandError(str(error)) from error

    return read


def _physical(session: Session) -> Reader:
    def read(address: int, length: int) -> bytes:
        try:
            return session.machine.ram.read(address, length)
        except IndexError as error:
            raise CommandError(str(error)) from error

    return read


@command("x", repeats=True)
def x(session: Session, fmt: Format, address: Address | None = None) -> MemoryUnits | MemoryStrings | Listing:
    """Examine memory at a linear ADDRESS (behind what was shown last), as gdb's x does.

    FMT is a repeat count, a letter and a size: x/4xg $rsp. Letters: x hexadecimal, d signed, u unsigned, o octal,
    t binary, a address with its symbol, c character, s string, i instruction. Sizes: b 1, h 2, w 4, g 8 bytes. What is
    left out is as it was the last time. `$_` is then the last address, `$__` what is there.

    For example:

        x/8gx $rsp
        x/5i $rip
        x/s 0x100000
    """
    return examine(session, fmt, address)


@command("xp", repeats=True)
def xp(session: Session, fmt: Format, address: Address | None = None) -> MemoryUnits | MemoryStrings | Listing:
    """Examine memory at a physical ADDRESS; FMT is that of x, but without i.

    For example:

        xp/4xg 0x1000
    """
    if "i" in fmt:
        raise CommandError("xp does not disassemble: instructions are fetched from linear addresses; use x/i")
    return examine(session, fmt, address, _physical(session))


def examine(
    session: Session, fmt: str, address: int | None, read: Reader | None = None
) -> MemoryUnits | MemoryStrings | Listing:
    """What x shows, at linear addresses or what `read` reads. Raises CommandError."""
    read = read or _virtual(session)
    repeat, letter, size_letter = _parse_format(fmt, session.examined_format)
    start = session.examined_to if address is None else address
    session.examined_format = letter, size_letter
    if letter in "is" and repeat > _MOST_LINES:
        raise CommandError(f"{repeat} are more than {_MOST_LINES}: ask for less")
    if letter == "i":
        lines = instructions_at(session, start, repeat)
        if not lines:
            read(start, 1)
            raise CommandError(f"the bytes at {start:#x} are no instruction")
        session.examined_to = lines[-1].address + len(lines[-1].code) & MASK64
        return Listing(tuple(lines), session.machine.cpu.rip)
    if letter == "s":
        return _strings(session, start, repeat, read)
    size = SIZES[size_letter]
    if repeat * size > _MOST_BYTES:
        raise CommandError(f"{repeat} units of {size} bytes are more than {_MOST_BYTES}: ask for less")
    data = read(start, repeat * size)
    values = tuple(int.from_bytes(data[at : at + size], "little") for at in range(0, len(data), size))
    session.examined_to = start + len(data) & MASK64
    session.values.variables |= {"_": (start + len(data) - size & MASK64, U64), "__": (values[-1], U64)}
    names = tuple(session.name(value) for value in values) if letter == "a" else ()
    return MemoryUnits(start, size, letter, values, names, session.as_qemu)


def _strings(session: Session, start: int, repeat: int, read: Reader) -> MemoryStrings:
    found: list[tuple[int, bytes]] = []
    for _ in range(repeat):
        text = b""
        while b"\0" not in text and len(text) < _LONGEST_STRING:
            at = start + len(text) & MASK64
            text += read(at, PAGE_SIZE - at % PAGE_SIZE)
        text = text[:_LONGEST_STRING].partition(b"\0")[0]
        found.append((start, text))
        start = start + len(text) + 1 & MASK64
    session.examined_to = start
    return MemoryStrings(tuple(found))


def _parse_format(fmt: str, last: tuple[str, str]) -> tuple[int, str, str]:
    """(repeat, letter, size letter). Raises CommandError."""
    match = _FORMAT.fullmatch(fmt)
    if match is None or (match[1] and not int(match[1])):
        raise CommandError(f"{fmt!r} is no format: a count, a letter of {''.join(sorted(_LETTERS))}, a size of bhwg")
    letter, size = last
    sized = False
    for item in match[2]:
        if item in SIZES:
            size, sized = item, True
        elif item in _LETTERS:
            letter = item
        else:
            raise CommandError(
                f"{item!r} is no letter of a format: use one of {''.join(sorted(_LETTERS))} and one of bhwg"
            )
    if letter == "a" and not sized:
        size = "g"
    if letter == "c" and not sized:
        size = "b"
    return int(match[1] or 1), letter, size


@command("peek")
def peek(session: Session, address: Address, length: Count = _PEEKED) -> MemoryBytes:
    """Show LENGTH (64) bytes at a linear ADDRESS, in hexadecimal and as text.

    For example:

        peek 0x100000
        peek $rsp 32
    """
    if length > _MOST_BYTES:
        raise CommandError(f"{length} bytes are more than {_MOST_BYTES}: ask for less")
    return MemoryBytes(address, _virtual(session)(address, length))


@command("translate", aliases=("info walk",))
def translate(session: Session, address: Address) -> Translation:
    """Show the guest's page walk of a linear ADDRESS.

    Every level's entry, then the physical address and the rights. `info shadow` shows what the hardware uses.

    For example:

        translate $rip
    """
    try:
        report = session.machine.memory.translate(address)
    except NotMapped as error:
        raise CommandError(str(error)) from error
    rights = [
        "user" if report.user else "supervisor",
        "writable" if report.writable else "read-only",
        "executable" if report.executable else "no-execute",
        *(["global"] if report.is_global else []),
    ]
    return Translation(address, report.levels, report.gpa, report.page_size, ", ".join(rights), report.problem)
