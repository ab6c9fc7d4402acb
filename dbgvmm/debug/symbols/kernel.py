"""The symbols that a kernel brings along."""

from __future__ import annotations

from pathlib import Path

from dbgvmm.debug.symbols.files import load_symbols
from dbgvmm.debug.symbols.table import SymbolError, SymbolTable


def symbols_of_kernel(kernel: Path, own: Path | None) -> SymbolTable | None:
    """Those of a KERNEL.elf64 beside a KERNEL.elf, else of `own`, the file that the loader has found them in.

    A KERNEL.elf64 is how 64-bit kernels are kept for Multiboot loaders, which want ELF32: its addresses are not cut to 32
    bits. None for a kernel without symbols: nobody has asked for names, so there are just none.
    """
    twin = kernel.with_suffix(".elf64")
    for path in (twin if kernel.suffix == ".elf" and twin.is_file() else None, own):
        if path is not None:
            try:
                return load_symbols(path)
            except SymbolError:
                continue
    return None
