"""Symbols: names for addresses and addresses for names, from whatever knows some."""

from __future__ import annotations

from dbgvmm.debug.symbols.files import SymbolFile, load_symbols
from dbgvmm.debug.symbols.known import KnownSource, Symbols, SymbolSource
from dbgvmm.debug.symbols.line_unit import SourceLine
from dbgvmm.debug.symbols.match import Match, compare_with_guest
from dbgvmm.debug.symbols.spaces import AddressSpace, Cr3
from dbgvmm.debug.symbols.table import Symbol, SymbolError, SymbolTable

__all__ = [
    "AddressSpace",
    "Cr3",
    "KnownSource",
    "Match",
    "SourceLine",
    "Symbol",
    "SymbolError",
    "SymbolFile",
    "SymbolSource",
    "SymbolTable",
    "Symbols",
    "compare_with_guest",
    "load_symbols",
]
