"""Read a line, run it, show what it gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from dbgvmm.commands import CommandError, CommandTable, QuitRequest, Session
from dbgvmm.commands.run_control import report_stop
from dbgvmm.debug.stops import Stop
from dbgvmm.repl.screen import PlainScreen, Screen


class GivesWay(Exception):
    """While the REPL waited for a line, something came up that needs the machine or the terminal: a debugger lets the guest
    run, comes, goes, or has a monitor command. The prompt is there again when that is done."""


class LineReader(Protocol):
    """Where lines come from."""

    def read_line(self) -> str | None:
        """The next line without its end, or None at the end of input. Raises GivesWay, KeyboardInterrupt."""


class ReplLoop:
    """Runs lines of `reader` against `table`. An empty line repeats a command that is meant to be (stepi, x).

    taken: whether something else wants the machine. failed: how many commands have failed.
    """

    def __init__(
        self,
        session: Session,
        table: CommandTable,
        reader: LineReader,
        taken: Callable[[], bool] = lambda: False,
        screen: Screen | None = None,
    ) -> None:
        self._session = session
        self._table = table
        self._reader = reader
        self._taken = taken
        self._screen = screen or PlainScreen()
        self._again = ""
        self.failed = 0
        self.unattended = isinstance(self._screen, PlainScreen)

    def interact(self) -> bool:
        """Take lines until the person leaves (True) or something else wants the machine (False)."""
        try:
            while True:
                if self._taken():
                    return False
                line = self._reader.read_line()
                if line is None:
                    return True
                self.run(line)
        except QuitRequest:
            return True
        except GivesWay:
            return False

    def tell(self, stop: Stop) -> None:
        """A debugger let the guest run, and it has stopped."""
        self._screen.show(report_stop(self._session, stop))

    def run(self, line: str) -> bool:
        """Run a line; whether it went well. Raises QuitRequest."""
        if not line.strip():
            line = self._again
        session = self._session
        session.busy, session.interrupted = True, False
        try:
            call = self._table.understand(line)
            if call is None:
                return True
            self._again = _repetition(line) if call.command.repeats else ""
            self._screen.show(call.run(session))
        except CommandError as error:
            self._failed(str(error))
            return False
        except KeyboardInterrupt:
            self._failed("interrupted")
            return False
        finally:
            session.busy = session.interrupted = False
        return True

    def _failed(self, text: str) -> None:
        self.failed += 1
        self._screen.error(text)


def _repetition(line: str) -> str:
    """What an empty line after `line` means: x goes on behind what it has shown, everything else is done again."""
    words = line.split()
    name = words[0].partition("/")[0]
    if name not in ("x", "xp"):
        return line
    if len(words) > 1 and words[1].startswith("/"):
        return f"{words[0]}{words[1]}"
    return words[0]
