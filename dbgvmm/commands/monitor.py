"""gdb's `monitor`: the same commands, with their output as it comes.

Commands that QEMU's monitor has too show what that shows. Those that run the guest show what it prints meanwhile. gdb
does not learn from any of them that the guest has moved, so the last line says how to tell it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from dbgvmm.commands.errors import CommandError, QuitRequest
from dbgvmm.commands.output import pieces
from dbgvmm.commands.session import Session
from dbgvmm.commands.table import CommandTable
from dbgvmm.machine import Machine
from gdbstub import TargetError

_MOVED: Final = "the guest has moved on, which gdb does not know: type `maintenance flush register-cache`"
_MOST_UNSHOWN: Final = 4096


class Monitor:
    """Runs command lines for a `GdbServer`, with a session that is gdb's own."""

    def __init__(self, session: Session, table: CommandTable) -> None:
        self.session = session
        self._table = table
        session.as_qemu = True
        session.shows_output = session.host_access = False

    def __call__(self, line: str, show: Callable[[str], None]) -> str:
        """Run a command. `show` gets what it has to say before its end; the rest is returned. Raises TargetError."""
        try:
            call = self._table.understand(line)
            if call is None:
                return ""
            if call.command.touches_files(call.words) and not self.session.host_access:
                raise CommandError(
                    f"`{call.command.name}` works with files of the host: type it at the prompt (--repl), or allow it from gdb "
                    "by `dbgvmm run --gdb-python`"
                )
            if not call.command.resumes:
                return self._shown(call.run(self.session), show)
            before = self._place()
            with _console_of(self.session.machine, show):
                self.session.show = lambda text: show(f"{text}\n")
                try:
                    result = call.run(self.session)
                finally:
                    self.session.show = None
            return str(result) if call.json or self._place() == before else f"{result}\n{_MOVED}"
        except CommandError as error:
            raise TargetError(str(error)) from error
        except QuitRequest:
            raise TargetError("use gdb's `kill` to end the guest, or `detach` to let it run on") from None

    def _place(self) -> tuple[int, int]:
        machine = self.session.machine
        return machine.count, machine.cpu.rip

    @staticmethod
    def _shown(result: object, show: Callable[[str], None]) -> str:
        last: str | None = None
        for piece in pieces(result):
            if last is not None:
                show(last + "\n")
            last = piece
        return last or ""


@contextmanager
def _console_of(machine: Machine, show: Callable[[str], None]) -> Iterator[None]:
    """What the guest prints on COM1 is shown too, a few times a second."""
    unshown = bytearray()
    serial_out, service = machine.serial_out, machine.service

    def flush() -> None:
        if unshown:
            show(unshown.decode("latin-1"))
            unshown.clear()

    def take(data: bytes) -> None:
        serial_out(data)
        unshown.extend(data)
        if len(unshown) > _MOST_UNSHOWN:
            flush()

    def serve() -> None:
        flush()
        if service is not None:
            service()

    machine.serial_out, machine.service = take, serve
    try:
        yield
    finally:
        machine.serial_out, machine.service = serial_out, service
        flush()
