"""Read a line, run it, show what it gives."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Protocol

from dbgvmm.commands import CommandError, CommandTable, QuitRequest, Session
from dbgvmm.commands.output import pieces


class DebuggerArrived(Exception):
    """While the REPL waited for a line, a debugger has come, which now has the machine."""


class LineReader(Protocol):
    """Where lines come from."""

    def read_line(self) -> str | None:
        """The next line without its end, or None at the end of input. Raises DebuggerArrived, KeyboardInterrupt."""


class ReplLoop:
    """Runs lines of `reader` against `table`. An empty line repeats a command that is meant to be (stepi, x).

    taken: whether a debugger wants the machine.
    """

    def __init__(
        self, session: Session, table: CommandTable, reader: LineReader, taken: Callable[[], bool] = lambda: False
    ) -> None:
        self._session = session
        self._table = table
        self._reader = reader
        self._taken = taken
        self._again = ""

    def interact(self) -> bool:
        """Take lines until the person leaves (True) or a debugger takes the machine (False)."""
        try:
            while True:
                if self._taken():
                    return False
                line = self._reader.read_line()
                if line is None:
                    return True
                self._run(line)
        except QuitRequest:
            return True
        except DebuggerArrived:
            return False

    def _run(self, line: str) -> None:
        if not line.strip():
            line = self._again
        try:
            call = self._table.understand(line)
            if call is None:
                return
            self._again = _repetition(line) if call.command.repeats else ""
            for piece in pieces(call.run(self._session)):
                print(piece, flush=True)
        except CommandError as error:
            print(f"error: {error}", file=sys.stderr, flush=True)


def _repetition(line: str) -> str:
    """What an empty line after `line` means: x goes on behind what it has shown, everything else is done again."""
    words = line.split()
    name = words[0].partition("/")[0]
    if name not in ("x", "xp"):
        return line
    if len(words) > 1 and words[1].startswith("/"):
        return f"{words[0]}{words[1]}"
    return words[0]
