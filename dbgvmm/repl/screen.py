"""Where the REPL shows what commands give: a terminal, with colours and a page at a time, or a pipe, as plain lines."""

from __future__ import annotations

import sys
from typing import Protocol

from dbgvmm.commands import Session
from dbgvmm.commands.output import pieces
from dbgvmm.repl.colour import coloured, paint, wanted
from dbgvmm.repl.pager import EnoughShown, Pager


class Screen(Protocol):
    """Shows results and errors."""

    def show(self, result: object) -> None:
        """A command's result. Long ones are read piece by piece, as they are made; that may raise CommandError."""

    def error(self, text: str) -> None:
        """One line that says what went wrong."""


class PlainScreen:
    """Results on standard output, errors on standard error, as they are."""

    def show(self, result: object) -> None:
        """All of it."""
        for piece in pieces(result):
            print(piece, flush=True)

    def error(self, text: str) -> None:
        """With a word in front, since what follows on it may be output."""
        print(f"error: {text}", file=sys.stderr, flush=True)


class TerminalScreen:
    """A terminal. The session's settings say whether there are colours and pages."""

    def __init__(self, session: Session, pager: Pager | None = None) -> None:
        self._session = session
        self._pager = pager or Pager(sys.stdout.write)

    @property
    def _colours(self) -> bool:
        return self._session.settings.colour and wanted()

    def show(self, result: object) -> None:
        """A page at a time, until the person has enough."""
        pager, settings = self._pager, self._session.settings
        pager.begin()
        try:
            for piece in pieces(result):
                self._session.check_interrupt()
                text = coloured(result, piece) if self._colours else piece
                if settings.pagination:
                    pager.show(text)
                else:
                    print(text)
                sys.stdout.flush()
        except EnoughShown:
            pass
        finally:
            sys.stdout.flush()

    def error(self, text: str) -> None:
        """In red."""
        word = paint("error", "error:") if self._session.settings.colour and wanted(sys.stderr) else "error:"
        print(f"{word} {text}", file=sys.stderr, flush=True)
