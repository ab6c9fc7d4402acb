"""A program on a terminal of its own (pexpect: a pty, and waiting for text rather than for time)."""

from __future__ import annotations

import re

import pexpect

_SECONDS = 20
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A process on a pty of 80 columns and 24 rows."""

    def __init__(self, command: str, words: list[str], environment: dict[str, str]) -> None:
        self.process = pexpect.spawn(
            command, words, env=environment, dimensions=(24, 80), encoding="utf-8", timeout=_SECONDS, echo=False
        )
        self._asked = 0

    def type(self, text: str) -> None:
        """Press these keys."""
        self.process.send(text)

    def see(self, pattern: str) -> str:
        """Wait for a pattern, with escape sequences and all; what was shown up to its end."""
        self.process.expect(pattern)
        return str(self.process.before) + str(self.process.after)

    def plain(self, pattern: str) -> str:
        """The same without escape sequences."""
        return _ESCAPES.sub("", self.see(pattern))

    def ask(self, line: str) -> str:
        """Type a line at dbgvmm's prompt; what it shows up to the next prompt. What came before is passed over."""
        self._asked += 1
        self.type(f"nonsense{self._asked}\r")
        self.see(rf"no command 'nonsense{self._asked}'[^(]*\(dbgvmm\)")
        self.type(line + "\r")
        self.see(r"\n")
        return self.plain(r"\(dbgvmm\)")

    def close(self) -> None:
        """End it."""
        self.process.close(force=True)
