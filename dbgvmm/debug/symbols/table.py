"""Symbols: names for addresses and addresses for names."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from dbgvmm.debug.symbols.demangled import MANGLED, readable, without_parameters

_MASK64: Final = (1 << 64) - 1


class SymbolError(Exception):
    """A symbol file cannot be read. The message is one line that says what to do."""


@dataclass(frozen=True, slots=True)
class Symbol:
    """One symbol. end: the first address that no longer belongs to it. kind: "code", "data", "label" or "absolute".

    name: as the program's language has it; a `SymbolTable` finds it by its mangled name, too.
    """

    name: str
    address: int
    end: int
    kind: str


class SymbolTable:
    """Symbols to look up both ways. An empty table knows nothing and is fine.

    symbols: with names as they are in the file, mangled or not. offset: what is added to all addresses, in bytes; absolute
    symbols stay as they are.
    """

    def __init__(self, symbols: Iterable[Symbol] = (), source: str = "", offset: int = 0) -> None:
        self.source = source
        self.offset = offset
        self._by_name: dict[str, Symbol] = {}
        self._aliases: dict[str, Symbol] = {}
        """By mangled names, and by names without parameters."""
        placed: dict[int, Symbol] = {}
        for symbol in symbols:
            if offset and symbol.kind != "absolute":
                start = symbol.address + offset & _MASK64
                symbol = Symbol(symbol.name, start, start + symbol.end - symbol.address, symbol.kind)
            name = readable(symbol.name)
            if name is not symbol.name:
                mangled, symbol = symbol.name, Symbol(name, symbol.address, symbol.end, symbol.kind)
                self._aliases.setdefault(mangled, symbol)
                self._aliases.setdefault(without_parameters(name), symbol)
            self._by_name.setdefault(name, symbol)
            if symbol.kind != "absolute":
                known = placed.get(symbol.address)
                # Of several names for an address, a function's says more than a label's.
                if known is None or (known.kind == "label" and symbol.kind != "label"):
                    placed[symbol.address] = symbol
        self._addresses = sorted(placed)
        self._symbols = [placed[address] for address in self._addresses]

    def __len__(self) -> int:
        return len(self._by_name)

    def __iter__(self) -> Iterator[Symbol]:
        return iter(self._symbols)

    def find(self, name: str) -> Symbol | None:
        """The symbol of that name; of several (file-local ones) the first in the file."""
        return self._by_name.get(name) or self._aliases.get(name)

    def at(self, address: int) -> tuple[Symbol, int] | None:
        """The symbol that covers an address, and the offset into it."""
        at = bisect_right(self._addresses, address) - 1
        if at < 0:
            return None
        symbol = self._symbols[at]
        return (symbol, address - symbol.address) if address < symbol.end or address == symbol.address else None

    def describe(self, address: int) -> str:
        """ "kmain+0x10" or "kmain"; "" for an address without a symbol."""
        found = self.at(address)
        if found is None:
            return ""
        symbol, offset = found
        return f"{symbol.name}+{offset:#x}" if offset else symbol.name

    def starting_with(self, prefix: str) -> list[str]:
        """The names that begin with `prefix`, in order."""
        names = {name for name in self._by_name if name.startswith(prefix)}
        aliases = (name for name in self._aliases if name.startswith(prefix))
        return sorted(names.union(name for name in aliases if prefix.startswith(MANGLED) or not name.startswith(MANGLED)))
