"""The console's escape keys: ^A x leaves, ^A c goes to the REPL, ^A ^A sends ^A itself, ^A ^C sends ^C.

^C alone is the guest's too, unless a person is at a REPL: then it stops the guest.
"""
from __future__ import annotations

from dbgvmm.devices.serial_backend.base import ConsoleKeys

ESCAPE = 0x01
_INTERRUPT = 0x03
_LEAVE = ord("x")
_REPL = ord("c")


class EscapeFilter:
    """Takes escape sequences out of typed input, across any split of it. Other keys after ^A send nothing."""

    def __init__(self, keys: ConsoleKeys) -> None:
        self._keys = keys
        self._escaped = False

    def feed(self, typed: bytes) -> bytes:
        """The bytes that are meant for the guest."""
        for_guest = bytearray()
        for byte in typed:
            if not self._escaped:
                if byte == ESCAPE:
                    self._escaped = True
                elif byte != _INTERRUPT or not self._keys.on_interrupt():
                    for_guest.append(byte)
                continue
            self._escaped = False
            if byte in (ESCAPE, _INTERRUPT):
                for_guest.append(byte)
            elif byte == _LEAVE:
                self._keys.on_leave()
            elif byte == _REPL:
                self._keys.on_repl()
        return bytes(for_guest)
