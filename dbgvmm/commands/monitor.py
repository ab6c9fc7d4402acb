"""gdb's `monitor`: the same commands, but for those that run the guest, which gdb does better itself."""

from __future__ import annotations

from dbgvmm.commands.errors import CommandError, QuitRequest
from dbgvmm.commands.session import Session
from dbgvmm.commands.table import CommandTable
from gdbstub import TargetError


class Monitor:
    """Runs command lines for a `GdbServer`."""

    def __init__(self, session: Session, table: CommandTable) -> None:
        self._session = session
        self._table = table

    def __call__(self, line: str) -> str:
        """The command's output. Raises TargetError."""
        try:
            call = self._table.understand(line)
            if call is None:
                return ""
            if call.command.resumes:
                raise TargetError(f"`{call.command.name}` runs the guest: use gdb's own commands for that")
            return str(call.command.run_words(self._session, call.words, call.fmt))
        except CommandError as error:
            raise TargetError(str(error)) from error
        except QuitRequest:
            raise TargetError("use gdb's `kill` to end the guest, or `detach` to let it run on") from None
