"""dbgvmm and gdb on terminals of their own."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pexpect
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from terminal_process import Terminal

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
