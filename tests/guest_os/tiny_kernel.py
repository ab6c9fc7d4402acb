"""A few megabytes of guest memory with page tables, in which tests build the tables of a kernel by hand."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from dbgvmm.guest_os.linux.image import KERNEL_MAP, Extent, KernelImage
from dbgvmm.guest_os.linux.kallsyms import Kallsyms
from dbgvmm.guest_os.linux.names import NameTable
from dbgvmm.guest_os.reading import AddressSpace
from dbgvmm.hardware.memory import PhysicalMemory

CR3 = 0x1000
IMAGE = KERNEL_MAP + (16 << 20)
"""Where the large page at physical 2 MiB is mapped."""
PHYSICAL = 2 << 20
SIZE = 2 << 20
PRESENT, LARGE = 3, 0x80
BANNER = b"Linux version 6.1.0-test (someone@somewhere) #1 SMP\n\0"


class TinyKernel:
    """`put` stores at a linear address of the image; `take` gives unused room in it."""

    def __init__(self) -> None:
        self.ram = PhysicalMemory(4 << 20)
        self.word(CR3 + 8 * 511, 0x2000 | PRESENT)
        self.word(0x2000 + 8 * 510, 0x3000 | PRESENT)
        self.word(0x3000 + 8 * 8, PHYSICAL | PRESENT | LARGE)
        self.space = AddressSpace(self.ram, CR3)
        self._next = IMAGE + 0x1000

    def word(self, gpa: int, value: int) -> None:
        self.ram.u64[gpa >> 3] = value

    def put(self, va: int, data: bytes) -> int:
        self.ram.write(va - IMAGE + PHYSICAL, data)
        return va

    def put64(self, va: int, value: int) -> None:
        self.put(va, struct.pack("<Q", value))

    def take(self, size: int, alignment: int = 8) -> int:
        start = -(-self._next // alignment) * alignment
        self._next = start + size
        assert self._next <= IMAGE + SIZE
        return start

    def place(self, data: bytes, alignment: int = 8) -> int:
        return self.put(self.take(len(data), alignment), data)

    def image(self) -> KernelImage:
        return KernelImage(CR3, (Extent(IMAGE, PHYSICAL, SIZE),), 0, "", (6, 1))


def names(addresses: dict[str, int]) -> NameTable:
    """A table of symbols that are all code."""
    return NameTable(Kallsyms([*addresses], "T" * len(addresses), [*addresses.values()]), "test", IMAGE + SIZE)


class BtfBuilder:
    """Builds BTF. Types are numbered from 1; members are (name, type, byte offset), or with (bit offset, bits) instead."""

    def __init__(self) -> None:
        self._strings = bytearray(b"\0")
        self._types: list[bytes] = []
        self.u8, self.u16, self.u32, self.u64 = (self._int(f"u{8 * size}", size) for size in (1, 2, 4, 8))
        self.pointer = self.add("", 2, 0, 0)

    def string(self, text: str) -> int:
        if not text:
            return 0
        at = len(self._strings)
        self._strings += text.encode() + b"\0"
        return at

    def add(self, name: str, kind: int, count: int, size_or_type: int, rest: bytes = b"", flag: bool = False) -> int:
        info = kind << 24 | count | (1 << 31 if flag else 0)
        self._types.append(struct.pack("<III", self.string(name), info, size_or_type) + rest)
        return len(self._types)

    def _int(self, name: str, size: int) -> int:
        return self.add(name, 1, 0, size, struct.pack("<I", 8 * size))

    def array(self, element: int, count: int) -> int:
        return self.add("", 3, 0, 0, struct.pack("<III", element, self.u32, count))

    def typedef(self, name: str, target: int) -> int:
        return self.add(name, 8, 0, target)

    def structure(self, name: str, size: int, members: Sequence[tuple[str, int, int | tuple[int, int]]], kind: int = 4) -> int:
        bitfields = any(isinstance(place, tuple) for _, _, place in members)
        packed = b""
        for member, number, place in members:
            offset = place[1] << 24 | place[0] if isinstance(place, tuple) else 8 * place
            packed += struct.pack("<III", self.string(member), number, offset)
        return self.add(name, kind, len(members), size, packed, bitfields)

    def enum(self, name: str, values: dict[str, int]) -> int:
        packed = b"".join(struct.pack("<Ii", self.string(word), value) for word, value in values.items())
        return self.add(name, 6, len(values), 4, packed)

    def build(self) -> bytes:
        types = b"".join(self._types)
        header = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(self._strings))
        return header + types + bytes(self._strings)
