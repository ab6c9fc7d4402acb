"""Which operating system is in the guest: asked when a person asks, remembered while it is there."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from dbgvmm.guest_os.interface import GuestMachine, GuestOs, GuestOsError
from dbgvmm.guest_os.linux.system import detect_linux
from dbgvmm.guest_os.own_guests import detect_own_guest

if TYPE_CHECKING:
    from dbgvmm.debug.symbols import Symbol, Symbols, SymbolSource
    from dbgvmm.debug.unwind import Registers, Rule, StackMemory, UnwindMethod

Detector = Callable[[GuestMachine], GuestOs | None]

DETECTORS: Final[tuple[Detector, ...]] = (detect_own_guest, detect_linux)
"""Asked in this order. One finds its system in memory, or returns None; it raises GuestOsError for one it cannot read yet."""

_UNKNOWN: Final = (
    "no operating system that dbgvmm knows is in guest memory (it knows Linux once that has set up its page tables, and the "
    "guests in guests/ when their symbols are loaded): `continue` for a while, stop, and ask again"
)


class OsFinder:
    """Finds the guest's system at its first use, and again once it has gone (a restart, another kernel).

    As long as it is there, the names that it has in memory are the machine's symbols, and its unwind tables the unwinder's.
    """

    def __init__(self, machine: GuestMachine, detectors: tuple[Detector, ...] = DETECTORS) -> None:
        self._machine = machine
        self._detectors = detectors
        self._found: GuestOs | None = None
        self._sources: tuple[SymbolSource, ...] = ()
        self._unwinding: _SystemMethod | None = None
        self._missed_at = -1

    def known(self) -> GuestOs | None:
        """The system that has been found and is still there; nothing is looked for."""
        return self._found if self._found is not None and self._found.present() else None

    def recognise(self) -> bool:
        """Look for a system if none is known; whether its names and unwind tables are the machine's since just now."""
        if self._missed_at == self._machine.count or self.known() is not None:
            return False
        try:
            self.current()
        except GuestOsError:
            self._missed_at = self._machine.count
            return False
        return True

    def current(self) -> GuestOs:
        """The system that is in guest memory now. Raises GuestOsError."""
        if self._found is not None:
            if self._found.present():
                return self._found
            self._forget()
        for detect in self._detectors:
            found = detect(self._machine)
            if found is not None:
                self._found = found
                self._sources = tuple(found.symbol_sources())
                for source in self._sources:
                    self._machine.symbols.add(source)
                if self._unwinding is None:
                    self._unwinding = _SystemMethod()
                    self._machine.unwinder.add(self._unwinding)
                self._unwinding.method = found.unwind_method()
                return found
        raise GuestOsError(_UNKNOWN)

    def _forget(self) -> None:
        for source in self._sources:
            self._machine.symbols.remove(source)
        self._found, self._sources = None, ()
        if self._unwinding is not None:
            self._unwinding.method = None


class SystemSymbols:
    """Looks a name up for a person: if no source knows it, the system in guest memory may.

    known_otherwise: whether the name means something else, so that nothing has to be looked for.
    """

    def __init__(self, symbols: Symbols, finder: OsFinder, known_otherwise: Callable[[str], bool]) -> None:
        self._symbols = symbols
        self._finder = finder
        self._known_otherwise = known_otherwise

    def __len__(self) -> int:
        return len(self._symbols)

    def find(self, name: str) -> Symbol | None:
        """The symbol of that name."""
        found = self._symbols.find(name)
        return self._symbols.find(name) if found is None and self._more(name) else found

    def lookup(self, text: str) -> int | None:
        """The address of a symbol, or of the first code of a line that is written FILE:LINE."""
        found = self._symbols.lookup(text)
        return self._symbols.lookup(text) if found is None and self._more(text) else found

    def starting_with(self, prefix: str) -> list[str]:
        """The names that begin with `prefix`, in order."""
        found = self._symbols.starting_with(prefix)
        return self._symbols.starting_with(prefix) if not found and self._more(prefix) else found

    def _more(self, name: str) -> bool:
        return not self._known_otherwise(name) and self._finder.recognise()


class _SystemMethod:
    """Implements `UnwindMethod` by that of the system which is there now.

    The unwinder keeps rules until the symbols change, and with the system its symbols come and go.
    """

    def __init__(self) -> None:
        self.method: UnwindMethod | None = None

    @property
    def name(self) -> str:
        """As people see it."""
        return "none" if self.method is None else self.method.name

    def rule(self, frame: Registers, stack: StackMemory) -> Rule | None:
        """See UnwindMethod."""
        return None if self.method is None else self.method.rule(frame, stack)

    def caller(self, frame: Registers, stack: StackMemory) -> Registers | None:
        """See UnwindMethod."""
        return None if self.method is None else self.method.caller(frame, stack)
