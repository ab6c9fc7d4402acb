"""Symbols: names for addresses and addresses for names, from whatever knows some."""

from __future__ import annotations

from dbgvmm.debug.symbols.files import load_symbols
from dbgvmm.debug.symbols.known import KnownSource, Symbols, SymbolSource
from dbgvmm.debug.symbols.spaces import AddressSpace, Cr3
from dbgvmm.debug.symbols.table import Symbol, SymbolError, SymbolTable

__all__ = [
    "AddressSpace",
    "Cr3",
    "KnownSource",
    "Symbol",
    "SymbolError",
    "SymbolSource",
    "SymbolTable",
    "Symbols",
    "load_symbols",
]
