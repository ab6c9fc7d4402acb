"""Loadable modules: the kernel's list of them, and their names as a symbol source (kernel/module/)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Final

from dbgvmm.debug.symbols.table import Symbol
from dbgvmm.guest_os.interface import GuestOsError, Listing, Module
from dbgvmm.guest_os.linux.kallsyms import Kallsyms
from dbgvmm.guest_os.linux.names import NameTable
from dbgvmm.guest_os.linux.records import BrokenList, Record, Records
from dbgvmm.guest_os.reading import NotReadable, printable

_STATES: Final = ("live", "coming", "going", "unformed")
"""enum module_state."""
_SYMBOL: Final = struct.Struct("<IBBHQQ")
_MOST_SYMBOLS: Final = 1 << 20
_LARGEST_NAMES: Final = 64 << 20
_MOST_PARTS: Final = 8


class Modules:
    """Reads the modules of the kernel that `names` and `records` are of."""

    def __init__(self, names: NameTable, records: Records) -> None:
        self._records = records
        head = names.address("modules")
        if head is None or not records.types.has("module"):
            raise GuestOsError("this Linux has no modules: it was built without CONFIG_MODULES, or without CONFIG_KALLSYMS_ALL")
        self._head = head

    def records(self) -> Iterator[Record]:
        """Their structures, the newest first. Raises BrokenList, NotReadable."""
        return self._records.ring(self._head, "module", "list")

    def extents(self, module: Record) -> list[tuple[int, int]]:
        """(start, end) of each of its parts in memory."""
        return [(base, base + module[size]) for at, size in _parts(self._records) if (base := module[at])]

    def list(self) -> Listing[Module]:
        """All of them."""
        found: list[Module] = []
        try:
            for module in self.records():
                extents = self.extents(module)
                state = module["state"]
                found.append(Module(
                    module.text("name"), extents[0][0] if extents else 0, sum(end - start for start, end in extents),
                    _STATES[state] if state < len(_STATES) else f"state {state}", module.address,
                ))  # fmt: skip
        except (BrokenList, NotReadable) as error:
            return Listing(tuple(found), f"the list of modules is damaged: {error}")
        return Listing(tuple(found))

    def symbols(self, module: Record) -> Kallsyms:
        """A module's own table of names, in its order. Raises NotReadable, GuestOsError."""
        table = module.at("kallsyms", "mod_kallsyms") if _names_of(module) else None
        if table is None:
            return Kallsyms([], "", [])
        space, count = self._records.space, table["num_symtab"]
        if count > _MOST_SYMBOLS:
            raise GuestOsError(f"the names of module {module.text('name')} are damaged: {count} of them")
        entries = list(_SYMBOL.iter_unpack(space.read(table["symtab"], count * _SYMBOL.size)))
        strings = table["strtab"]
        longest = max((entry[0] for entry in entries), default=0)
        if longest > _LARGEST_NAMES:
            raise GuestOsError(f"the names of module {module.text('name')} are damaged")
        text = space.read(strings, longest) + space.text(strings + longest, 512).encode() + b"\0"
        kinds = space.read(table["typetab"], count) if table.has("typetab") else b"?" * count
        names = [printable(text[entry[0] : text.index(b"\0", entry[0])]) for entry in entries]
        kept = [number for number, name in enumerate(names) if name]
        return Kallsyms(
            [names[number] for number in kept], "".join(chr(kinds[number]) for number in kept),
            [entries[number][4] for number in kept],
        )  # fmt: skip


def _parts(records: Records) -> list[tuple[str, str]]:
    """The fields that hold base and size of each part of a module."""
    types = records.types
    parts = [*(f"mem[{number}]" for number in range(_MOST_PARTS)), "core_layout", "init_layout", "data_layout"]
    return [(f"{part}.base", f"{part}.size") for part in parts if types.has("module", f"{part}.base")]


def _names_of(module: Record) -> int:
    """Where its table of names is described; another one while it is being set up. 0 if that is not known."""
    return module["kallsyms"] if module.has("kallsyms") else 0


class ModuleNames:
    """Implements `SymbolSource` for all modules that are loaded now.

    now: a number that changes when the guest has run. refresh: called before memory is read after that.

    What is damaged in memory has no names here; `info modules` says what is wrong.
    """

    source = "Linux modules, in guest memory"

    def __init__(self, modules: Modules, image: tuple[int, int], now: Callable[[], int], refresh: Callable[[], object]) -> None:
        self._modules = modules
        self._image = image
        self._now = now
        self._refresh = refresh
        self._asked = -1
        self._print: tuple[int, ...] = ()
        self._tables: list[tuple[list[tuple[int, int]], NameTable]] = []

    def _current(self) -> list[tuple[list[tuple[int, int]], NameTable]]:
        count = self._now()
        if count != self._asked:
            self._asked = count
            self._refresh()
            try:
                records = list(self._modules.records())
                fingerprint = tuple(number for module in records for number in (module.address, _names_of(module)))
                if fingerprint != self._print:
                    self._tables = [self._table(module) for module in records]
                    self._print = fingerprint
            except (BrokenList, NotReadable, GuestOsError):
                self._tables, self._print = [], ()
        return self._tables

    def _table(self, module: Record) -> tuple[list[tuple[int, int]], NameTable]:
        extents = self._modules.extents(module)
        limit = max((end for _, end in extents), default=0)
        return extents, NameTable(self._modules.symbols(module), module.text("name"), limit)

    def __len__(self) -> int:
        return sum(len(table) for _, table in self._current())

    def __iter__(self) -> Iterator[Symbol]:
        for _, table in self._current():
            yield from table

    def tables(self) -> list[NameTable]:
        """Each module's names, the newest module first; `source` is its name."""
        return [table for _, table in self._current()]

    def find(self, name: str) -> Symbol | None:
        """The symbol of that name in the newest module that has it."""
        for _, table in self._current():
            found = table.find(name)
            if found is not None:
                return found
        return None

    def at(self, address: int) -> tuple[Symbol, int] | None:
        """The symbol that covers a linear address, and the offset into it."""
        if address < 1 << 63 or self._image[0] <= address < self._image[1]:
            return None
        for extents, table in self._current():
            if any(start <= address < end for start, end in extents):
                return table.at(address)
        return None

    def starting_with(self, prefix: str) -> list[str]:
        """The names that begin with `prefix`, in order."""
        return sorted({name for _, table in self._current() for name in table.starting_with(prefix)})
