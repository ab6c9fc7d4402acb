"""dbgvmm and gdb on terminals of their own (pexpect: a pty, and waiting for text rather than for time)."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pexpect
import pytest

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


Start = Callable[..., Terminal]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A person's files: no history, no startup file, unless a test writes one."""
    return tmp_path / "home"


@pytest.fixture
def start(home: Path) -> Iterator[Start]:
    """`start("run", KERNEL, ...)` is dbgvmm on a terminal; NAME=VALUE options go to its environment."""
    home.mkdir()
    clean = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
    with ExitStack() as stack:

        def begin(*words: object, **variables: str) -> Terminal:
            environment = {
                **clean, "HOME": str(home), "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1", "XDG_STATE_HOME": str(home),
                "XDG_CONFIG_HOME": str(home), **variables,
            }  # fmt: skip
            terminal = Terminal(sys.executable, ["-m", "dbgvmm", *map(str, words)], environment)
            stack.callback(terminal.close)
            return terminal

        yield begin


@pytest.fixture
def gdb(tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    """`gdb(*options)` is the real gdb on a terminal."""
    if pexpect.which("gdb") is None:
        pytest.skip("there is no gdb")
    with ExitStack() as stack:

        def begin(*words: str) -> Terminal:
            settings = ["set pagination off", "set style enabled off", "set confirm off", "set width 0"]
            options = [word for setting in settings for word in ("-ex", setting)]
            terminal = Terminal("gdb", ["-q", "-nx", *options, *words], {**os.environ, "TERM": "dumb"})
            stack.callback(terminal.close)
            return terminal

        yield begin
