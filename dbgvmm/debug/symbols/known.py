"""`Symbols`: all names that are known of a machine, from every source that somebody or something has added."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from dbgvmm.debug.symbols.table import Symbol


class SymbolSource(Protocol):
    """Where names come from: a file, tables in the guest's memory. Sources may change their answers as the guest runs."""

    @property
    def source(self) -> str:
        """What to call it: a path, or what was read."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Symbol]: ...

    def find(self, name: str) -> Symbol | None:
        """The symbol of that name."""

    def at(self, address: int) -> tuple[Symbol, int] | None:
        """The symbol that covers a linear address, and the offset into it."""

    def starting_with(self, prefix: str) -> list[str]:
        """The names that begin with `prefix`, in order."""


class Symbols:
    """What the sources know together. Of two that know a name or an address, the one that was added later is asked."""

    def __init__(self) -> None:
        self.sources: list[SymbolSource] = []

    def add(self, source: SymbolSource) -> None:
        """Ask `source` first from now on."""
        self.sources.append(source)

    def remove(self, source: SymbolSource) -> None:
        """Forget a source; nothing happens if it is not there."""
        self.sources = [known for known in self.sources if known is not source]

    def __len__(self) -> int:
        return sum(map(len, self.sources))

    def __iter__(self) -> Iterator[Symbol]:
        for source in reversed(self.sources):
            yield from source

    def find(self, name: str) -> Symbol | None:
        """The symbol of that name."""
        for source in reversed(self.sources):
            found = source.find(name)
            if found is not None:
                return found
        return None

    def at(self, address: int) -> tuple[Symbol, int] | None:
        """The symbol that covers a linear address, and the offset into it."""
        for source in reversed(self.sources):
            found = source.at(address)
            if found is not None:
                return found
        return None

    def describe(self, address: int) -> str:
        """ "kmain+0x10" or "kmain"; "" for an address without a symbol."""
        found = self.at(address)
        if found is None:
            return ""
        symbol, offset = found
        return f"{symbol.name}+{offset:#x}" if offset else symbol.name

    def starting_with(self, prefix: str) -> list[str]:
        """The names that begin with `prefix`, in order."""
        return sorted({name for source in self.sources for name in source.starting_with(prefix)})
