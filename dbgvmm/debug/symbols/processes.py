"""The symbols of a process: those that its mapped images carry, and those of files on the host with the same build ids."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dbgvmm.debug.symbols.directory import DebugDirectory
from dbgvmm.debug.symbols.files import SymbolFile
from dbgvmm.debug.symbols.image import find_images
from dbgvmm.debug.symbols.image_symbols import ImageSymbols
from dbgvmm.debug.symbols.known import KnownSource, Symbols
from dbgvmm.debug.symbols.spaces import AddressSpace, SpaceReader
from dbgvmm.debug.symbols.table import SymbolError
from dbgvmm.mmu.walk import FourLevel

if TYPE_CHECKING:
    from dbgvmm.machine import Machine


@dataclass(frozen=True)
class ProcessImage:
    """An image that is mapped in a process. symbols: what it carries itself; file: the host's file of the same build id."""

    symbols: ImageSymbols
    file: SymbolFile | None


def space_reader(machine: Machine, cr3: int | None = None) -> SpaceReader:
    """Reads the address space of a CR3 (the CPU's)."""
    return SpaceReader(machine.mmu.format, machine.ram, machine.cpu.cr3 if cr3 is None else cr3)


def process_images(machine: Machine, cr3: int | None = None, directory: Path | None = None) -> list[ProcessImage]:
    """The images that are mapped in the user half of an address space (the CPU's), lowest first.

    directory: where to look for files with their build ids. Raises SymbolError without paging, or without the directory.
    """
    paging = machine.mmu.format
    if not isinstance(paging, FourLevel):
        raise SymbolError("paging is off: there are no address spaces, and no processes in them")
    files = DebugDirectory(directory) if directory is not None else None
    read = space_reader(machine, cr3)
    found = []
    for image in find_images(machine.ram, read.cr3, paging.reserved, read):
        file = files.load(image.build_id, image.bias) if files is not None and image.build_id else None
        found.append(ProcessImage(ImageSymbols(image, read), file))
    return found


def add_images(
    machine: Machine, images: list[ProcessImage], cr3: int | None = None, *, files_only: bool = False
) -> list[KnownSource]:
    """Let the machine know the symbols of some images, in that address space only; a file's before the image's own.

    What was known of the same image is replaced: the process may be another one by now. files_only: without what the images
    carry themselves.
    """
    space = AddressSpace.of_process(machine.ram, machine.cpu.cr3 if cr3 is None else cr3)
    symbols = machine.symbols
    added = []
    for image in images:
        for source in (None if files_only else image.symbols, image.file):
            if source is not None:
                _forget_old(symbols, source, space)
                added.append(symbols.add(source, space))
    return added


def _forget_old(symbols: Symbols, source: ImageSymbols | SymbolFile, space: AddressSpace) -> None:
    for known in symbols.known:
        old = known.source
        if known.space != space:
            continue
        if isinstance(source, SymbolFile):
            same = isinstance(old, SymbolFile) and (old.path, old.offset) == (source.path, source.offset)
        else:
            same = isinstance(old, ImageSymbols) and old.image.address == source.image.address
        if same:
            symbols.remove(old)
