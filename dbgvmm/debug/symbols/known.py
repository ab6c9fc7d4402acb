"""`Symbols`: all names that are known of a machine, from every source that somebody or something has added.

A source belongs to everybody (the kernel's symbols) or to one address space (a user program's). Questions are answered for
the address space that the CPU is in, unless another CR3 is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

from dbgvmm.debug.symbols.line_unit import SourceLine
from dbgvmm.debug.symbols.lines import LineTable
from dbgvmm.debug.symbols.spaces import AddressSpace
from dbgvmm.debug.symbols.table import Symbol

_LONGEST_NUMBER: Final = 18
"""Digits of a line number."""


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


@runtime_checkable
class HasLines(Protocol):
    """A source that may know lines of source code."""

    @property
    def lines(self) -> LineTable | None:
        """None without any. Damaged ones are None too: the source itself says so."""


class UnknownSymbol(LookupError):
    """Nobody knows the name."""


@dataclass(frozen=True)
class KnownSource:
    """A source that was added. number: to name it by; space: the address space that it belongs to, None for all."""

    number: int
    source: SymbolSource
    space: AddressSpace | None = None


def _no_cr3() -> int:
    return 0


class Symbols:
    """What the sources know together. Of two that know a name or an address, the one that was added later is asked.

    current_cr3: gives the CR3 that questions are about. version: grows with each change of the sources.
    """

    def __init__(self, current_cr3: Callable[[], int] = _no_cr3) -> None:
        self._current_cr3 = current_cr3
        self.known: tuple[KnownSource, ...] = ()
        self.version = 0
        self._next = 1

    @property
    def sources(self) -> list[SymbolSource]:
        """The sources, in the order in which they were added."""
        return [known.source for known in self.known]

    def add(self, source: SymbolSource, space: AddressSpace | None = None) -> KnownSource:
        """Ask `source` first from now on; with `space` only about the lower half of that address space."""
        added = KnownSource(self._next, source, space)
        self._next += 1
        self.known = (*self.known, added)
        self.version += 1
        return added

    def remove(self, source: SymbolSource) -> None:
        """Forget a source; nothing happens if it is not there."""
        self.known = tuple(known for known in self.known if known.source is not source)
        self.version += 1

    def covering(self, address: int, cr3: int | None = None) -> Iterator[SymbolSource]:
        """The sources that may be asked about a linear address under `cr3` (the CPU's), the latest first."""
        for known in reversed(self.known):
            space = known.space
            if space is None or space.has(self._current_cr3() if cr3 is None else cr3, address):
                yield known.source

    def __len__(self) -> int:
        return sum(len(known.source) for known in self.known)

    def __iter__(self) -> Iterator[Symbol]:
        for known in reversed(self.known):
            yield from known.source

    def find(self, name: str) -> Symbol | None:
        """The symbol of that name. Those of other address spaces come last."""
        elsewhere: Symbol | None = None
        cr3 = self._current_cr3()
        for known in reversed(self.known):
            found = known.source.find(name)
            if found is None:
                continue
            if known.space is None or known.space.has(cr3, found.address):
                return found
            elsewhere = elsewhere or found
        return elsewhere

    def __getitem__(self, name: str) -> Symbol:
        """The symbol of that name. Raises UnknownSymbol."""
        found = self.find(name)
        if found is None:
            raise UnknownSymbol(f"there is no symbol {name!r}" + ("" if len(self) else ": no symbols are loaded"))
        return found

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.find(name) is not None

    def at(self, address: int, cr3: int | None = None) -> tuple[Symbol, int] | None:
        """The symbol that covers a linear address under `cr3` (the CPU's), and the offset into it."""
        for source in self.covering(address, cr3):
            found = source.at(address)
            if found is not None:
                return found
        return None

    def describe(self, address: int, cr3: int | None = None) -> str:
        """ "kmain+0x10" or "kmain"; "" for an address without a symbol."""
        found = self.at(address, cr3)
        if found is None:
            return ""
        symbol, offset = found
        return f"{symbol.name}+{offset:#x}" if offset else symbol.name

    def source_line(self, address: int, cr3: int | None = None, *, statement: bool = False) -> SourceLine | None:
        """The line of source that the code at a linear address comes from.

        Where several begin at one address, it is the last, as addr2line has it; `statement`: the last that is a statement, as
        gdb has it.
        """
        for source in self.covering(address, cr3):
            lines = source.lines if isinstance(source, HasLines) else None
            found = lines.at(address, statement=statement) if lines is not None else None
            if found is not None:
                return found
        return None

    def places(self, file: str, line: int) -> tuple[SourceLine, ...]:
        """The code of a line, from the latest source that has any; see LineTable.places."""
        for known in reversed(self.known):
            lines = known.source.lines if isinstance(known.source, HasLines) else None
            found = lines.places(file, line) if lines is not None else ()
            if found:
                return found
        return ()

    def lookup(self, text: str) -> int | None:
        """The address that a name stands for: a symbol's, or the first of a line's, written FILE:LINE."""
        symbol = self.find(text)
        if symbol is not None:
            return symbol.address
        file, colon, line = text.rpartition(":")
        if not colon or not file or not (line.isascii() and line.isdecimal()):
            return None
        places = self.places(file, int(line[:_LONGEST_NUMBER]))
        return places[0].start if places else None

    def starting_with(self, prefix: str) -> list[str]:
        """The names that begin with `prefix`, in order."""
        return sorted({name for known in self.known for name in known.source.starting_with(prefix)})
