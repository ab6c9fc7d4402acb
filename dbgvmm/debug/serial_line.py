"""`machine.serial`: the other end of COM1 for a script: what was printed, what is typed, and running until something is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from dbgvmm.debug.stops import Stop, StopKind

if TYPE_CHECKING:
    from dbgvmm.machine import Machine


class NotPrinted(RuntimeError):
    """The guest has stopped before it printed what was waited for. `stop` says why."""

    def __init__(self, text: str, stop: Stop, last: str) -> None:
        super().__init__(f"{text!r} was not printed: {stop.text}; the last line was {last!r}")
        self.stop = stop


class SerialLine:
    """Text is Latin-1: each byte is a character."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._awaited = b""
        self._unread = bytearray()
        self.observers: tuple[Callable[[bytes], None], ...] = ()
        """Called with what the guest prints, as it does. They may change nothing."""

    @property
    def text(self) -> str:
        """What the guest has printed so far: at least the newest MiB."""
        return self._machine.serial_log.decode("latin-1")

    def send(self, text: str | bytes) -> None:
        """Let these bytes arrive now. The guest reads them as it runs."""
        self._machine.serial_input(text if isinstance(text, bytes) else text.encode("latin-1"))

    def wait_for(self, text: str, *, max_count: int | None = None) -> str:
        """Run until the guest has printed `text`, not counting what an earlier wait has seen; what was printed up to its end.

        The guest stops behind the instruction that printed its last character. Returns at once if it was printed already.
        Raises NotPrinted at any other stop, at the latest at the instruction count `max_count`.
        """
        if not text:
            raise ValueError("an empty text is always printed: wait for something")
        self._awaited = text.encode("latin-1")
        try:
            if not self._is_there():
                stop = self._machine.run(max_count=max_count)
                if not self._is_there():
                    last = self.text.rstrip("\r\n").rpartition("\n")[2].strip("\r")
                    raise NotPrinted(text, stop, last)
            end = self._unread.index(self._awaited) + len(self._awaited)
        finally:
            self._awaited = b""
        seen = bytes(self._unread[:end])
        del self._unread[:end]
        return seen.decode("latin-1")

    def _is_there(self) -> bool:
        return self._awaited in self._unread

    def printed(self, data: bytes, most: int) -> None:
        """The guest prints. At least the newest `most` bytes that no wait has seen are kept."""
        for observer in self.observers:
            observer(data)
        unread = self._unread
        unread += data
        if self._awaited and self._awaited in unread[-len(data) - len(self._awaited) :]:
            self._machine.request_stop(f"{self._awaited.decode('latin-1')!r} was printed", StopKind.SCRIPT)
        if len(unread) > 2 * most:
            del unread[:-most]


__all__ = ["NotPrinted", "SerialLine"]
