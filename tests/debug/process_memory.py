"""Memory of a process for tests: ELF files loaded as a kernel loads them, behind page tables in a PhysicalMemory."""

from __future__ import annotations

from pathlib import Path

from elftools.elf.elffile import ELFFile

from dbgvmm.debug.symbols.spaces import SpaceReader
from dbgvmm.hardware.memory import PhysicalMemory
from dbgvmm.hardware.paging import PTE
from dbgvmm.mmu.walk import FourLevel

_PAGE = 4096


class ProcessMemory:
    """A user address space. cr3: of its tables."""

    def __init__(self, size: int = 16 << 20) -> None:
        self.ram = PhysicalMemory(size)
        self._next = _PAGE
        self.cr3 = self._frame()
        self.paging = FourLevel(self.ram, lambda: False)
        self.read = SpaceReader(self.paging, self.ram, self.cr3)

    def _frame(self) -> int:
        self._next += _PAGE
        return self._next - _PAGE

    def map(self, address: int, rights: int = PTE.U | PTE.W) -> int:
        """The frame at a linear page, made if it is not there."""
        table = self.cr3
        for shift in (39, 30, 21):
            at = table + 8 * (address >> shift & 511)
            entry = self.ram.u64[at >> 3]
            if not entry & PTE.P:
                entry = self._frame() | PTE.P | PTE.W | PTE.U
                self.ram.u64[at >> 3] = entry
            table = entry & PTE.ADDRESS
        at = table + 8 * (address >> 12 & 511) >> 3
        if not self.ram.u64[at] & PTE.P:
            self.ram.u64[at] = self._frame() | PTE.P | rights
        return self.ram.u64[at] & PTE.ADDRESS

    def write(self, address: int, data: bytes) -> None:
        """Store bytes, mapping what is not mapped."""
        for offset, value in enumerate(data):
            self.ram.bytes[self.map(address + offset & -_PAGE) + (address + offset) % _PAGE] = value

    def load(self, path: Path, bias: int) -> None:
        """Map whole pages of the file for each segment, as Linux does."""
        content = path.read_bytes()
        with ELFFile.load_from_path(str(path)) as elf:
            for segment in elf.iter_segments():
                if segment["p_type"] == "PT_LOAD":
                    start = segment["p_vaddr"] & -_PAGE
                    file_at = segment["p_offset"] - (segment["p_vaddr"] - start)
                    end = segment["p_offset"] + segment["p_filesz"] + _PAGE - 1 & -_PAGE
                    for page in range(0, end - file_at, _PAGE):
                        frame = self.map(bias + start + page)
                        part = content[file_at + page : file_at + page + _PAGE]
                        self.ram.bytes[frame : frame + len(part)] = part
