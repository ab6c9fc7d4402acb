"""Where Linux' image is in memory: its mapping in the last 2 GiB of the address space, and its banner.

The kernel is linked at __START_KERNEL_map (arch/x86/include/asm/page_64_types.h) and KASLR moves it within the first GiB
from there; its page tables tell where it really is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from dbgvmm.cpu.state import VCpu
from dbgvmm.guest_os.reading import TABLE_ADDRESS
from dbgvmm.hardware.layout import PAGE_SIZE
from dbgvmm.hardware.memory import PhysicalMemory
from dbgvmm.hardware.paging import PTE

KERNEL_MAP: Final = 0xFFFF_FFFF_8000_0000
_LARGE: Final = 2 << 20
_TABLES: Final = 512
_PTI_AND_PCID: Final = 0x1FFF
"""CR3 bits that tell the user half of a pair of page tables from the kernel's, and the PCID (asm/processor-flags.h)."""
_BANNER: Final = re.compile(rb"Linux version (\d+)\.(\d+)[^\n\0]{1,500}\n\0")


@dataclass(frozen=True)
class Extent:
    """A stretch of the image that is contiguous both in linear and in physical memory."""

    va: int
    gpa: int
    size: int


@dataclass(frozen=True)
class KernelImage:
    """cr3: page tables that map the kernel. banner: linear address of the text that begins with "Linux version"."""

    cr3: int
    extents: tuple[Extent, ...]
    banner: int
    text: str
    release: tuple[int, int]

    @property
    def start(self) -> int:
        """The lowest mapped address."""
        return self.extents[0].va

    @property
    def end(self) -> int:
        """The first address behind the image."""
        return self.extents[-1].va + self.extents[-1].size


def mapped_extents(ram: PhysicalMemory, cr3: int) -> tuple[Extent, ...]:
    """What of RAM the tables at `cr3` map in the GiB in which the kernel's image may be."""
    pages = [*_pages(ram, cr3)]
    found: list[Extent] = []
    for va, gpa, size in pages:
        size = min(size, ram.size - gpa)
        if size <= 0:
            continue
        last = found[-1] if found else None
        if last is not None and last.va + last.size == va and last.gpa + last.size == gpa:
            found[-1] = Extent(last.va, last.gpa, last.size + size)
        else:
            found.append(Extent(va, gpa, size))
    return tuple(found)


def _pages(ram: PhysicalMemory, cr3: int) -> list[tuple[int, int, int]]:
    """(linear, physical, size) of each page, in order."""
    words, limit = ram.u64, ram.size
    top = words[(cr3 & TABLE_ADDRESS | 511 << 3) >> 3] if cr3 & TABLE_ADDRESS < limit else 0
    pointers = top & TABLE_ADDRESS
    if not top & PTE.P or pointers >= limit:
        return []
    directory_entry = words[(pointers | 510 << 3) >> 3]
    directory = directory_entry & TABLE_ADDRESS
    if not directory_entry & PTE.P or directory_entry & PTE.PS or directory >= limit:
        return []
    found = []
    for index in range(_TABLES):
        entry = words[directory >> 3 | index]
        va = KERNEL_MAP + index * _LARGE
        if not entry & PTE.P:
            continue
        table = entry & TABLE_ADDRESS
        if entry & PTE.PS:
            found.append((va, table & -_LARGE, _LARGE))
        elif table < limit:
            for number, leaf in enumerate(words[table >> 3 : (table >> 3) + _TABLES]):
                if leaf & PTE.P:
                    found.append((va + number * PAGE_SIZE, leaf & TABLE_ADDRESS, PAGE_SIZE))
    return found


def kernel_half(cr3: int) -> int:
    """The page tables for kernel code, if `cr3` is the other one of a pair under page table isolation."""
    return cr3 & ~_PTI_AND_PCID


def find_image(ram: PhysicalMemory, cpu: VCpu) -> KernelImage | None:
    """The image of the Linux that runs, None if none is mapped (yet)."""
    if not cpu.long_mode_active or not cpu.in_64bit_code and cpu.cpl == 0:
        return None
    best, extents = cpu.cr3, mapped_extents(ram, cpu.cr3)
    other = kernel_half(cpu.cr3)
    if other != cpu.cr3 & TABLE_ADDRESS:
        # With page table isolation, user code runs on tables that map next to nothing of the kernel.
        theirs = mapped_extents(ram, other)
        if _size(theirs) > _size(extents):
            best, extents = other, theirs
    for extent in extents:
        match = _BANNER.search(ram.bytes[extent.gpa : extent.gpa + extent.size])
        if match is not None:
            text = match[0].rstrip(b"\n\0").decode("ascii", "replace")
            release = int(match[1]), int(match[2])
            return KernelImage(best & TABLE_ADDRESS, extents, extent.va + match.start(), text, release)
    return None


def _size(extents: tuple[Extent, ...]) -> int:
    return sum(extent.size for extent in extents)
