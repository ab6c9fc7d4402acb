"""`AddressSpace`: guest memory through page tables of one's choice, for those who read a guest's own structures.

What a guest left in memory may be damaged, so everything read here is bounded and every miss is `NotReadable`.
"""

from __future__ import annotations

from typing import Final

from dbgvmm.cpu.bits import is_canonical
from dbgvmm.hardware.layout import PAGE_OFFSET_MASK, PAGE_SIZE
from dbgvmm.hardware.memory import PhysicalMemory
from dbgvmm.hardware.paging import PTE

TABLE_ADDRESS: Final = 0xF_FFFF_FFFF_F000
_LARGE_SHIFTS: Final = (30, 21)


class NotReadable(LookupError):
    """An address that is not mapped to RAM. The message says which."""


def translate(ram: PhysicalMemory, cr3: int, va: int) -> int | None:
    """The guest-physical address of `va` by the 4-level tables at `cr3`, without any effect; None if not mapped to RAM."""
    words, limit = ram.u64, ram.size
    table = cr3 & TABLE_ADDRESS
    for shift in (39, 30, 21, 12):
        at = table | (va >> shift & 511) << 3
        if at >= limit:
            return None
        entry = words[at >> 3]
        if not entry & PTE.P:
            return None
        if shift == 12 or (entry & PTE.PS and shift in _LARGE_SHIFTS):
            size = 1 << shift
            gpa = entry & TABLE_ADDRESS & -size | va & size - 1
            return gpa if gpa < limit else None
        table = entry & TABLE_ADDRESS
    return None


class AddressSpace:
    """Guest memory at linear addresses, through the 4-level page tables at guest-physical `cr3`.

    Translations are kept until `forget` is called: to be called whenever the guest may have run.
    """

    def __init__(self, ram: PhysicalMemory, cr3: int) -> None:
        self.ram = ram
        self.cr3 = cr3
        self._bytes = ram.bytes
        self._pages: dict[int, int] = {}

    def forget(self) -> None:
        """The guest has run, or somebody has written to memory: walk the tables anew."""
        self._pages.clear()

    def physical(self, va: int) -> int:
        """The guest-physical address of `va`. Raises NotReadable."""
        page = self._pages.get(va >> 12)
        if page is None:
            found = translate(self.ram, self.cr3, va) if is_canonical(va) else None
            if found is None:
                raise NotReadable(f"{va:#x} is not mapped to RAM")
            page = self._pages[va >> 12] = found & ~PAGE_OFFSET_MASK
        return page | va & PAGE_OFFSET_MASK

    def read(self, va: int, size: int) -> bytes:
        """`size` bytes. Raises NotReadable."""
        offset = va & PAGE_OFFSET_MASK
        if offset + size <= PAGE_SIZE:
            gpa = self.physical(va)
            return bytes(self._bytes[gpa : gpa + size])
        parts = []
        while size > 0:
            piece = min(size, PAGE_SIZE - (va & PAGE_OFFSET_MASK))
            gpa = self.physical(va)
            parts.append(self._bytes[gpa : gpa + piece])
            va += piece
            size -= piece
        return b"".join(parts)

    def unsigned(self, va: int, size: int) -> int:
        """A little-endian number of `size` bytes. Raises NotReadable."""
        return int.from_bytes(self.read(va, size), "little")

    def u32(self, va: int) -> int:
        """Four bytes."""
        return int.from_bytes(self.read(va, 4), "little")

    def u64(self, va: int) -> int:
        """Eight bytes: a pointer."""
        return int.from_bytes(self.read(va, 8), "little")

    def text(self, va: int, limit: int) -> str:
        """The characters up to a NUL, at most `limit` of them; what is no text is shown escaped. Raises NotReadable."""
        found = bytearray()
        while len(found) < limit:
            piece = self.read(va + len(found), min(limit - len(found), PAGE_SIZE - (va + len(found) & PAGE_OFFSET_MASK)))
            head, nul, _ = piece.partition(b"\0")
            found += head
            if nul:
                break
        return printable(bytes(found))


def printable(data: bytes) -> str:
    """Bytes of a guest as text that cannot disturb a terminal: UTF-8 and tabs, anything else escaped."""
    text = data.decode("utf-8", "backslashreplace")
    return text if text.isprintable() else "".join(_shown(char) for char in text)


def _shown(char: str) -> str:
    return char if char.isprintable() or char == "\t" else char.encode("unicode_escape").decode("ascii")
