"""Long output, a screen at a time, in the terminal itself: so that it can be shown as it is made, and stopped."""

from __future__ import annotations

import os
import re
import select
import shutil
import sys
import termios
import tty
from collections.abc import Callable
from typing import Final

from wcwidth import wcswidth

_ESCAPES: Final = re.compile(r"\x1b\[[0-9;]*m")
_QUESTION: Final = "--- more: Enter, or c: all of it, q: no more ---"
_CLEAR: Final = "\r\x1b[K"
_LINE_KEYS: Final = frozenset((b"j", b"\x1b"))
_ALL: Final = frozenset((b"c", b"a", b"G"))
_NO_MORE: Final = frozenset((b"q", b"Q", b"\x03", b"\x04", b""))


class EnoughShown(Exception):
    """The person wants to see no more."""


def read_key() -> bytes:
    """Wait for a key; the first byte of it. b"" at the end of input."""
    fileno = sys.stdin.fileno()
    saved = termios.tcgetattr(fileno)
    try:
        tty.setraw(fileno, termios.TCSADRAIN)
        key = os.read(fileno, 1)
        while key == b"\x1b" and select.select([fileno], [], [], 0.01)[0]:
            os.read(fileno, 64)  # the rest of an arrow key's sequence
    finally:
        termios.tcsetattr(fileno, termios.TCSADRAIN, saved)
    return key


class Pager:
    """Writes text, and asks after each screenful. `size`: (columns, rows)."""

    def __init__(
        self,
        write: Callable[[str], object],
        size: Callable[[], tuple[int, int]] = shutil.get_terminal_size,
        read: Callable[[], bytes] = read_key,
    ) -> None:
        self._write = write
        self._size = size
        self._read = read
        self._used = 0
        self._all = False

    def begin(self) -> None:
        """What follows is another command's output."""
        self._used = 0
        self._all = False

    def show(self, text: str) -> None:
        """Write whole lines. Raises EnoughShown."""
        for line in text.split("\n"):
            columns, rows = self._size()
            height = self._height(line, columns)
            if not self._all and self._used and self._used + height > rows - 1:
                self._ask()
            self._write(line + "\n")
            self._used += height

    def _ask(self) -> None:
        self._write(_QUESTION)
        key = self._read()
        self._write(_CLEAR)
        if key in _NO_MORE:
            raise EnoughShown
        self._all = key in _ALL
        self._used = 0 if key not in _LINE_KEYS else self._used - 1

    @staticmethod
    def _height(line: str, columns: int) -> int:
        """Rows of the screen that a line takes."""
        text = _ESCAPES.sub("", line).expandtabs()
        width = wcswidth(text)
        return max(-(-(len(text) if width < 0 else width) // max(columns, 1)), 1)
