"""Whether a file is the program that runs: by its build id in the guest's memory or, without one, by its functions' bytes.

A kernel patches itself (alternatives, static keys, ftrace), so some bytes of a function may differ legally: what is said is
a measure. Another build of the same source, on the other hand, has most functions elsewhere, and nearly all bytes differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from elftools.elf.elffile import ELFFile

from dbgvmm.cpu.bits import MASK64
from dbgvmm.debug.symbols.build_id import build_id_in
from dbgvmm.debug.symbols.damage import reading
from dbgvmm.debug.symbols.files import SymbolFile
from dbgvmm.debug.symbols.image import image_at
from dbgvmm.debug.symbols.image_symbols import ImageSymbols
from dbgvmm.debug.symbols.table import Symbol, SymbolError
from dbgvmm.mmu.linear import NotMapped

if TYPE_CHECKING:
    from dbgvmm.machine import Machine

SAMPLES: Final = 128
"""Functions that are compared."""
_LONGEST_SAMPLE, _SHORTEST_SAMPLE = 256, 16
"""Bytes of each."""
_DIFFERENT: Final = 4
"""A function differs if more than one byte in so many does, a file if more than one function in so many does."""
_EXECUTABLE: Final = 1

Read = Callable[[int, int], bytes]
"""read(linear address, length): as many bytes as there are."""


@dataclass(frozen=True)
class Match:
    """What the comparison says. state: "matches", "differs" or "unknown". functions: that were compared; differing: of them
    (0 and 0 if the build id decided). text: one line for people."""

    state: str
    functions: int
    differing: int
    text: str

    def __str__(self) -> str:
        return self.text


class _Segment(NamedTuple):
    address: int
    physical: int
    content: bytes


def compare(file: SymbolFile, read: Read, loaded_at: Read | None = None) -> Match:
    """Compare a file with the guest's memory. loaded_at: reads physical memory, while the kernel is where the loader put it.

    Raises SymbolError if the file cannot be read any more.
    """
    by_id = _by_build_id(file, read)
    if by_id is not None:
        return by_id
    segments = _code(file)
    if not segments:
        return Match("unknown", 0, 0, "not compared: the file has no code, only names")
    compared = differing = 0
    for symbol in _samples(file, segments):
        own, there = _both(file, symbol, segments, read, loaded_at)
        if len(there) < _SHORTEST_SAMPLE:
            continue
        compared += 1
        differing += sum(a != b for a, b in zip(own, there, strict=False)) * _DIFFERENT > len(there)
    if not compared:
        return Match("unknown", 0, 0, "not compared: none of its functions is mapped now")
    text = f"{differing} of {compared} sampled functions' bytes differ"
    if differing * _DIFFERENT > compared:
        return Match("differs", compared, differing, f"does not match what is in memory: {text}")
    return Match("matches", compared, differing, f"matches: {text}")


def _by_build_id(file: SymbolFile, read: Read) -> Match | None:
    own = file.build_id
    if own is None or not own.address:
        return None
    there = build_id_in(read(own.address + file.offset & MASK64, own.length))
    if not there:
        return None
    if there == own.text:
        return Match("matches", 0, 0, f"matches: build id {there}")
    return Match("differs", 0, 0, f"does not match what is in memory: build id {own.text}, there {there}")


def _code(file: SymbolFile) -> list[_Segment]:
    if not file.is_elf:
        return []
    with (
        reading(f"symbols {file.path}: the ELF file", "give another file"),
        ELFFile.load_from_path(str(file.path)) as elf,
    ):
        return [
            _Segment(segment["p_vaddr"], segment["p_paddr"], segment.data())
            for segment in elf.iter_segments()
            if segment["p_type"] == "PT_LOAD" and segment["p_flags"] & _EXECUTABLE and segment["p_filesz"]
        ]


def _samples(file: SymbolFile, segments: Sequence[_Segment]) -> Iterator[Symbol]:
    """Functions from all over the file, always the same ones."""
    functions = [
        symbol for symbol in file
        if symbol.kind == "code" and symbol.end - symbol.address >= _SHORTEST_SAMPLE
        and _segment_of(symbol.address - file.offset & MASK64, segments) is not None
    ]  # fmt: skip
    step = max(1, len(functions) // SAMPLES)
    yield from functions[::step][:SAMPLES]


def _segment_of(address: int, segments: Sequence[_Segment]) -> _Segment | None:
    return next((item for item in segments if item.address <= address < item.address + len(item.content)), None)


def _both(
    file: SymbolFile, symbol: Symbol, segments: Sequence[_Segment], read: Read, loaded_at: Read | None
) -> tuple[bytes, bytes]:
    """A function's bytes in the file and in memory, as many as are in both."""
    address = symbol.address - file.offset & MASK64
    segment = _segment_of(address, segments)
    assert segment is not None
    inside = address - segment.address
    own = segment.content[inside : inside + min(symbol.end - symbol.address, _LONGEST_SAMPLE)]
    there = read(symbol.address, len(own))
    if not there and loaded_at is not None:
        there = loaded_at(segment.physical + inside, len(own))
    return own[: len(there)], there


def compare_with_guest(file: SymbolFile, machine: Machine, read: Read | None = None) -> Match:
    """`compare` with what the machine has in memory now. read: another address space's; the current one's without.

    Before the guest's first instruction a kernel in ELF is looked for where it was loaded, as nothing maps it yet.
    """
    ram = machine.ram

    def read_current(address: int, length: int) -> bytes:
        try:
            return machine.memory.peek_some(address, length)
        except NotMapped:
            return b""

    def read_loaded(address: int, length: int) -> bytes:
        return bytes(ram.bytes[address : address + length])

    fresh = machine.last_stop is None and not machine.running and _is_elf(machine)
    try:
        return compare(file, read or read_current, read_loaded if fresh else None)
    except SymbolError as error:
        return Match("unknown", 0, 0, f"not compared: {error}")


def compare_image(symbols: ImageSymbols, read: Read) -> Match:
    """Whether the image that some symbols were read from is still mapped where it was."""
    if image_at(symbols.image.address, read) == symbols.image:
        return Match("matches", 0, 0, "read from memory")
    return Match("differs", 0, 0, "read from memory, where something else is now: `symbols remove` it")


def _is_elf(machine: Machine) -> bool:
    if machine.kernel is None:
        return False
    try:
        with machine.kernel.open("rb") as file:
            return file.read(4) == b"\x7fELF"
    except OSError:
        return False
