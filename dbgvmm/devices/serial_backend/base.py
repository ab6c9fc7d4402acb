"""What every serial backend can do, and the one that does nothing.

Backends are host-side: what `poll` returns depends on the host, so the machine must log it at an instruction
count before it hands it to the UART.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


class SerialError(Exception):
    """A serial backend cannot be opened or has failed; the text is one line that says what to do."""


class SerialBackend(Protocol):
    """The far end of a serial line. Nothing here ever blocks for input."""

    def write(self, data: bytes) -> None:
        """Take bytes that the guest sent. Raises SerialError when they cannot be kept (disk full)."""

    def poll(self) -> bytes:
        """Bytes for the guest that have come in since, possibly none."""

    def fileno(self) -> int | None:
        """A descriptor that becomes readable when `poll` has something to do, or None if that never happens."""

    def close(self) -> None:
        """Give everything back. A second call does nothing."""


@dataclass(frozen=True, slots=True)
class ConsoleKeys:
    """What the console's escape keys do: ^A x calls `on_leave`, ^A c calls `on_repl`; ^C calls `on_interrupt`, which says
    whether it has taken it, else it is the guest's."""

    on_leave: Callable[[], None]
    on_repl: Callable[[], None]
    on_interrupt: Callable[[], bool] = lambda: False


class NullSerial:
    """`null`: a line that nobody is connected to."""

    def write(self, data: bytes) -> None:
        """Forget the bytes."""

    def poll(self) -> bytes:
        """Never any input."""
        return b""

    def fileno(self) -> int | None:
        """Never any input."""
        return None

    def close(self) -> None:
        """Nothing to give back."""
