"""What stretches of the kernel's half of the address space are for, where the guest itself says so: by symbols, by variables
that symbols lead to, by its list of modules. What would have to be guessed has no name."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from dbgvmm.guest_os import GuestOsError
from dbgvmm.hardware.layout import PAGE_SIZE
from dbgvmm.mmu.slices import NotMapped

if TYPE_CHECKING:
    from dbgvmm.machine import Machine

_KERNEL_HALF: Final = 1 << 63
_IMAGE: Final = (("_text", "_end"), ("text_start", "kernel_end"))
"""Symbols at both ends of a kernel: Linux', our own guests'."""
_LEAST_PAGE_STRUCTURE: Final = 32
"""Bytes of a `struct page` in any Linux for 64 bits, at least: so far the map of page frames reaches for certain."""


@dataclass(frozen=True)
class Region:
    """From `start` to before `end`."""

    start: int
    end: int
    name: str


def known_regions(machine: Machine) -> tuple[Region, ...]:
    """Those of a machine's kernel, lowest first. They do not overlap."""
    modules: list[Region] = []
    with suppress(GuestOsError):  # nobody knows the system; or it has no modules, or none that can be read
        modules += [Region(each.base, each.base + each.size, f"module {each.name}") for each in machine.os.modules().items]
    return without_overlaps([*_image(machine), *_linux_bases(machine), *modules])


def without_overlaps(regions: Sequence[Region]) -> tuple[Region, ...]:
    """In order; one that begins in another, or is empty, is left out."""
    found: list[Region] = []
    for region in sorted(regions, key=lambda region: region.start):
        if region.start < region.end and (not found or region.start >= found[-1].end):
            found.append(region)
    return tuple(found)


def _image(machine: Machine) -> list[Region]:
    """The kernel's own image."""
    for names in _IMAGE:
        start, end = (machine.symbols.find(name) for name in names)
        if start is not None and end is not None and start.address < end.address:
            return [Region(start.address, end.address, "kernel image")]
    return []


def _linux_bases(machine: Machine) -> list[Region]:
    """Where Linux has its map of all memory, its vmalloc area and its map of page frames: these places are random, and it
    keeps them in variables (arch/x86/mm/kaslr.c)."""
    direct, vmalloc, vmemmap, frames = (
        _variable(machine, name) for name in ("page_offset_base", "vmalloc_base", "vmemmap_base", "max_pfn")
    )
    if frames is None or direct is None or vmalloc is None or vmemmap is None:
        return []
    if not _KERNEL_HALF <= direct < vmalloc < vmemmap:
        return []  # not set yet
    return [
        Region(direct, min(direct + frames * PAGE_SIZE, vmalloc), "direct map"),
        Region(vmalloc, vmemmap, "vmalloc"),
        Region(vmemmap, vmemmap + frames * _LEAST_PAGE_STRUCTURE, "page frames (vmemmap)"),
    ]


def _variable(machine: Machine, name: str) -> int | None:
    symbol = machine.symbols.find(name)
    if symbol is None:
        return None
    try:
        return machine.memory.u64[symbol.address]
    except NotMapped:
        return None


__all__ = ["Region", "known_regions", "without_overlaps"]
