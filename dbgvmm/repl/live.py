"""The terminal as a screen that a command draws anew while the guest runs (`top`)."""

from __future__ import annotations

import os
import select
import shutil
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final, Protocol

_ENTER: Final = "\x1b[?1049h\x1b[?25l"
"""The alternate screen, without a cursor."""
_LEAVE: Final = "\x1b[?25h\x1b[?1049l"
_HOME: Final = "\x1b[H"
_TO_LINE_END: Final = "\x1b[K"
_TO_SCREEN_END: Final = "\x1b[J"


class Console(Protocol):
    """Who has the terminal otherwise while the guest runs."""

    def held(self) -> AbstractContextManager[None]:
        """The terminal is not the guest's; what it prints is shown at the end."""


class OpenScreen:
    """The screen while it is open. Ctrl-C stays a signal."""

    def draw(self, text: str) -> None:
        """Show `text` and nothing else, as much of it as fits."""
        size = shutil.get_terminal_size()
        lines = [line[: size.columns] for line in text.splitlines()[: size.lines]]
        sys.stdout.write(_HOME + "\n".join(line + _TO_LINE_END for line in lines) + _TO_SCREEN_END)
        sys.stdout.flush()

    def key(self) -> str:
        """A key that was pressed; "" if none was."""
        if not select.select([sys.stdin.fileno()], [], [], 0)[0]:
            return ""
        return os.read(sys.stdin.fileno(), 1).decode("latin-1")


class LiveScreen:
    """The terminal of this process: standard input and output."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def open(self) -> Iterator[OpenScreen]:
        """Take the terminal, keys unbuffered and unechoed, and give it back as it was."""
        fileno = sys.stdin.fileno()
        saved = termios.tcgetattr(fileno)
        with self._console.held():
            tty.setcbreak(fileno)
            sys.stdout.write(_ENTER)
            try:
                yield OpenScreen()
            finally:
                sys.stdout.write(_LEAVE)
                sys.stdout.flush()
                termios.tcsetattr(fileno, termios.TCSADRAIN, saved)
