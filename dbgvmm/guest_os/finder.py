"""Which operating system is in the guest: asked when a person asks, remembered while it is there."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from dbgvmm.guest_os.interface import GuestMachine, GuestOs, GuestOsError
from dbgvmm.guest_os.linux.system import detect_linux
from dbgvmm.guest_os.own_guests import detect_own_guest

if TYPE_CHECKING:
    from dbgvmm.debug.symbols import SymbolSource

Detector = Callable[[GuestMachine], GuestOs | None]

DETECTORS: Final[tuple[Detector, ...]] = (detect_own_guest, detect_linux)
"""Asked in this order. One finds its system in memory, or returns None; it raises GuestOsError for one it cannot read yet."""

_UNKNOWN: Final = (
    "no operating system that dbgvmm knows is in guest memory (it knows Linux once that has set up its page tables, and the "
    "guests in guests/ when their symbols are loaded): `continue` for a while, stop, and ask again"
)


class OsFinder:
    """Finds the guest's system at its first use, and again once it has gone (a restart, another kernel).

    The names that it has in memory become the machine's symbols as long as it is there.
    """

    def __init__(self, machine: GuestMachine, detectors: tuple[Detector, ...] = DETECTORS) -> None:
        self._machine = machine
        self._detectors = detectors
        self._found: GuestOs | None = None
        self._sources: tuple[SymbolSource, ...] = ()

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
                return found
        raise GuestOsError(_UNKNOWN)

    def _forget(self) -> None:
        for source in self._sources:
            self._machine.symbols.remove(source)
        self._found, self._sources = None, ()
