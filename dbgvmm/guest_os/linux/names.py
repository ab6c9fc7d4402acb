"""The kernel's names as a symbol source."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from functools import cached_property
from typing import Final

from dbgvmm.debug.symbols.demangled import MANGLED, readable
from dbgvmm.debug.symbols.table import Symbol
from dbgvmm.guest_os.linux.kallsyms import Kallsyms

_CODE: Final = frozenset("tTwW")
_FIRST_ADDRESS: Final = 1 << 63
"""Smaller values are per-CPU offsets."""


class NameTable:
    """Implements `SymbolSource` over sorted lists: a hundred thousand symbols, each made an object when it is asked for.

    Of several names for an address the first in the table is shown, as the kernel does. limit: the first address behind
    the last symbol.
    """

    def __init__(self, table: Kallsyms, source: str, limit: int) -> None:
        self.source = source
        self.table = table
        addresses = table.addresses
        ordered = range(len(addresses))
        if any(addresses[at] > addresses[at + 1] for at in range(len(addresses) - 1)):
            ordered = sorted(ordered, key=addresses.__getitem__)  # type: ignore[assignment]  # a list is as good
        self._numbers = [number for number in ordered if addresses[number] >= _FIRST_ADDRESS]
        self._addresses = [addresses[number] for number in self._numbers]
        self._limit = limit

    def __len__(self) -> int:
        return len(self.table.names)

    def __iter__(self) -> Iterator[Symbol]:
        return map(self._symbol, self._numbers)

    def _symbol(self, number: int) -> Symbol:
        address, kind = self.table.addresses[number], self.table.kinds[number]
        if address < _FIRST_ADDRESS:
            return Symbol(readable(self.table.names[number]), address, address, "absolute")
        at = bisect_right(self._addresses, address)
        end = self._addresses[at] if at < len(self._addresses) else max(self._limit, address)
        return Symbol(readable(self.table.names[number]), address, end, "code" if kind in _CODE else "data")

    @cached_property
    def _by_name(self) -> dict[str, int]:
        names = self.table.names
        return dict(zip(reversed(names), range(len(names) - 1, -1, -1), strict=True))

    @cached_property
    def _by_readable_name(self) -> dict[str, int]:
        """Those of Rust."""
        return {readable(name): number for name, number in self._by_name.items() if name.startswith(MANGLED)}

    def find(self, name: str) -> Symbol | None:
        """The symbol of that name; of several (file-local ones) the first in the table."""
        number = self._by_name.get(name)
        if number is None:
            number = self._by_readable_name.get(name)
        return None if number is None else self._symbol(number)

    def address(self, name: str) -> int | None:
        """Where the symbol of that name is."""
        number = self._by_name.get(name)
        return None if number is None else self.table.addresses[number]

    def at(self, address: int) -> tuple[Symbol, int] | None:
        """The symbol that covers a linear address, and the offset into it."""
        if not self._addresses or not self._addresses[0] <= address < self._limit:
            return None
        start = self._addresses[bisect_right(self._addresses, address) - 1]
        symbol = self._symbol(self._numbers[bisect_left(self._addresses, start)])
        return symbol, address - start

    def starting_with(self, prefix: str) -> list[str]:
        """The names that begin with `prefix`, in order."""
        return sorted({name for known in (self._by_name, self._by_readable_name) for name in known if name.startswith(prefix)})
