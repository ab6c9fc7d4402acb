"""A kernel in ELF: its segments, notes and symbols, and loading it by physical address.

pyelftools reads the format; what is here is what loaders ask of it, and the checks that a file from outside needs.
Source: System V ABI, chapters 4 and 5; the AMD64 supplement.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import NoteSection, SymbolTableSection
from elftools.elf.segments import NoteSegment

from dbgvmm.boot.layout import Placement
from dbgvmm.boot.state import BootError

MAGIC = b"\x7fELF"
ZERO_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class LoadSegment:
    """A PT_LOAD program header. Addresses and sizes in bytes."""

    offset: int
    virtual: int
    physical: int
    file_size: int
    memory_size: int

    def holds(self, virtual: int) -> bool:
        """Whether the linear address `virtual` lies in this segment."""
        return self.virtual <= virtual < self.virtual + self.memory_size


@dataclass(frozen=True, slots=True)
class ElfNote:
    """One note: who defines its type, the type, the content."""

    owner: str
    type: int
    content: bytes


class ElfImage:
    """An x86 executable in ELF32 or ELF64. Raises BootError when the file is anything else, or cut short."""

    def __init__(self, image: bytes) -> None:
        self._image = image
        try:
            self._elf = ELFFile(BytesIO(image))
            machine, kind = self._elf["e_machine"], self._elf["e_type"]
            self.bits: int = self._elf.elfclass
            self.entry: int = self._elf["e_entry"]
            self.segments = list(self._read_segments())
        except (ELFError, UnicodeDecodeError) as error:
            raise BootError(f"damaged or truncated ELF file ({error}): build or copy it again") from error
        if machine not in ("EM_386", "EM_X86_64"):
            raise BootError(f"ELF file for another machine ({machine}): build the kernel for x86")
        if kind not in ("ET_EXEC", "ET_DYN"):
            raise BootError(f"ELF file of type {kind} is not linked: link it into an executable")
        if not self.segments:
            raise BootError("ELF file without a PT_LOAD segment: there is nothing to load; check the linker script")

    def load(self, room: Placement) -> None:
        """Copies each segment to its physical address and clears the rest of it. Raises BootError outside of RAM."""
        for segment in self.segments:
            room.claim(segment.physical, segment.memory_size, "kernel segment")
            room.memory.write(segment.physical, self._image[segment.offset : segment.offset + segment.file_size])
            clear(room, segment.physical + segment.file_size, segment.memory_size - segment.file_size)

    def physical_of(self, virtual: int) -> int:
        """The physical address at which the linear address `virtual` is loaded; `virtual` itself if in no segment."""
        for segment in self.segments:
            if segment.holds(virtual):
                return virtual - segment.virtual + segment.physical
        return virtual

    def notes(self) -> Iterator[ElfNote]:
        """The notes, from PT_NOTE segments and, for linker scripts that make none, from note sections."""
        try:
            for holder in (*self._elf.iter_segments(), *self._elf.iter_sections()):
                if isinstance(holder, (NoteSegment, NoteSection)):
                    for note in holder.iter_notes():
                        if isinstance(note["n_type"], int):
                            yield ElfNote(str(note["n_name"]), note["n_type"], bytes(note["n_descdata"]))
        except (ELFError, UnicodeDecodeError) as error:
            raise BootError(f"damaged ELF notes ({error}): build or copy the kernel again") from error

    def has_symbols(self) -> bool:
        """Whether the file has a symbol table."""
        return self._symbol_table() is not None

    def symbol_at(self, address: int) -> str | None:
        """The name of a symbol whose value is exactly `address`; global ones are preferred."""
        table = self._symbol_table()
        if table is None:
            return None
        named = [symbol for symbol in table.iter_symbols() if symbol["st_value"] == address and symbol.name]
        named.sort(key=lambda symbol: symbol["st_info"]["bind"] != "STB_GLOBAL")
        return str(named[0].name) if named else None

    def _symbol_table(self) -> SymbolTableSection | None:
        section = self._elf.get_section_by_name(".symtab")
        return section if isinstance(section, SymbolTableSection) else None

    def _read_segments(self) -> Iterator[LoadSegment]:
        for header in self._elf.iter_segments("PT_LOAD"):
            segment = LoadSegment(
                header["p_offset"], header["p_vaddr"], header["p_paddr"], header["p_filesz"], header["p_memsz"]
            )
            if segment.offset + segment.file_size > len(self._image):
                raise BootError(
                    f"ELF file is truncated: a segment ends at {segment.offset + segment.file_size:#x}, "
                    f"the file at {len(self._image):#x}: copy it again"
                )
            if segment.file_size > segment.memory_size:
                raise BootError(
                    f"ELF segment at {segment.physical:#x} is larger in the file than in memory: build it again"
                )
            if segment.memory_size:
                yield segment


def clear(room: Placement, gpa: int, size: int) -> None:
    """Zeroes `size` bytes at `gpa`: a machine that is booted again has old contents there."""
    for start in range(gpa, gpa + size, ZERO_CHUNK):
        room.memory.write(start, bytes(min(ZERO_CHUNK, gpa + size - start)))
