"""Symbols: names for addresses and addresses for names, from whatever knows some."""

from __future__ import annotations

from dbgvmm.debug.symbols.files import load_symbols
from dbgvmm.debug.symbols.known import Symbols, SymbolSource
from dbgvmm.debug.symbols.table import Symbol, SymbolError, SymbolTable

__all__ = ["Symbol", "SymbolError", "SymbolSource", "SymbolTable", "Symbols", "load_symbols"]
