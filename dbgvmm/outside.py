"""`Outside`: the world around a running guest: its serial line and its debugger.

The machine calls `service` between slices of instructions and `idle` before a halted guest jumps to its next timer.
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Final

from dbgvmm.debug.gdb_server import GdbServer
from dbgvmm.debug.stops import StopKind
from dbgvmm.devices.serial_backend import SerialBackend
from dbgvmm.devices.serial_backend.sockets import SocketSerial
from dbgvmm.devices.serial_backend.stdio import StdioSerial
from dbgvmm.machine import Machine

_LONGEST_WAIT: Final = 1.0
"""Seconds that a halted guest is made to wait at most, whatever its next timer says."""
_MOST_HELD: Final = 1 << 16
"""Bytes of what the guest prints that are kept while somebody else has the terminal."""
_LOOK_AGAIN: Final = 0.05
"""Seconds after which a wait looks whether a signal handler has asked for a stop."""


class Outside:
    """Connects `machine` with a serial backend and a gdb server (None: no debugger)."""

    def __init__(self, machine: Machine, serial: SerialBackend, gdb: GdbServer | None) -> None:
        self._machine = machine
        self._serial = serial
        self._gdb = gdb
        self._keyboard = isinstance(serial, StdioSerial) and os.isatty(sys.stdin.fileno())
        self.at_line_start = True
        self._held: bytearray | None = None
        machine.serial_out = self._write
        machine.service = self._service
        machine.idle = self._idle

    @property
    def has_keyboard(self) -> bool:
        """The terminal's keys go to the guest."""
        return self._keyboard

    def resume(self) -> None:
        """The guest begins to run: it has the terminal."""
        if isinstance(self._serial, StdioSerial) and self._held is None:
            self._serial.resume()

    def suspend(self) -> None:
        """The guest has stopped: the terminal is the person's."""
        if isinstance(self._serial, StdioSerial):
            self._serial.suspend()

    @contextmanager
    def held(self) -> Iterator[None]:
        """The terminal is not the guest's while it runs: no key goes there, and what it prints is shown at the end."""
        if not isinstance(self._serial, StdioSerial):
            yield
            return
        self._held = held = bytearray()
        try:
            yield
        finally:
            self._held = None
            self._write(bytes(held))

    def close(self) -> None:
        """Give terminal, sockets and files back."""
        self._serial.close()
        if self._gdb is not None:
            self._gdb.close()

    def _write(self, data: bytes) -> None:
        if self._held is not None:
            self._held += data
            del self._held[:-_MOST_HELD]
            return
        if not data:
            return
        self._serial.write(data)
        self.at_line_start = data.endswith(b"\n")

    def _service(self) -> None:
        data = self._serial.poll() if self._held is None else b""
        if data:
            self._machine.serial_input(data)
        if self._gdb is not None:
            self._gdb.poll()

    def _filenos(self) -> list[int]:
        numbers = list(self._gdb.filenos()) if self._gdb is not None else []
        serial = self._serial.fileno() if self._held is None else None
        return numbers if serial is None else [*numbers, serial]

    def _someone_is_there(self) -> bool:
        connected = isinstance(self._serial, SocketSerial) and self._serial.connected
        return self._keyboard or connected or (self._gdb is not None and self._gdb.attached)

    def _idle(self, ns: int) -> None:
        """Let real time pass if a person would notice, or if nothing inside can end the wait."""
        machine = self._machine
        filenos = self._filenos()
        nothing_due = machine.events.next_deadline_ns() is None
        if nothing_due and not filenos:
            machine.request_stop("halted, and nothing is left that could wake it", StopKind.HALT)
        elif nothing_due or self._someone_is_there():
            self._wait(filenos, min(ns / 1e9, _LONGEST_WAIT))

    def _wait(self, filenos: list[int], seconds: float) -> None:
        end = monotonic() + seconds
        while not self._machine.dispatcher.stop_requested:
            left = end - monotonic()
            if left <= 0 or select.select(filenos, [], [], min(left, _LOOK_AGAIN))[0]:
                return
