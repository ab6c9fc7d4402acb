"""`top` on a real terminal: drawn anew, ended by a key, the terminal and the guest's output given back."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ENTER, LEAVE = b"\x1b[?1049h", b"\x1b[?1049l"
TIMEOUT = 30.0


class Terminal:
    """dbgvmm at its prompt, in a terminal of its own."""

    def __init__(self, kernel: Path, state: Path) -> None:
        self._master, slave = pty.openpty()
        self.child = subprocess.Popen(
            [sys.executable, "-m", "dbgvmm", "run", str(kernel), "--repl", "--memory", "64M"],
            stdin=slave, stdout=slave, stderr=slave, start_new_session=True, close_fds=True,
            env={**os.environ, "TERM": "xterm", "XDG_STATE_HOME": str(state), "LINES": "40", "COLUMNS": "120"},
        )  # fmt: skip
        os.close(slave)
        self.seen = b""

    def wait_for(self, text: bytes, after: int = 0) -> int:
        """Read until `text` has come; returns the position behind it."""
        end = time.monotonic() + TIMEOUT
        while text not in self.seen[after:]:
            assert time.monotonic() < end, self.seen[-2000:].decode("latin-1")
            if select.select([self._master], [], [], 0.2)[0]:
                try:
                    self.seen += os.read(self._master, 65536)
                except OSError:
                    break  # the child has closed its end
        assert text in self.seen[after:], self.seen[-2000:].decode("latin-1")
        return self.seen.index(text, after) + len(text)

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def close(self) -> None:
        self.child.kill()
        self.child.wait()
        os.close(self._master)


@pytest.fixture
def terminal(guest: Callable[[str], Path], tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(guest("cpubound"), tmp_path)
    terminal.wait_for(b"(dbgvmm)")
    yield terminal
    terminal.close()


@pytest.mark.parametrize("end", ["q", "Ctrl-C"])
def test_top_draws_until_it_is_ended_and_the_prompt_is_back(terminal: Terminal, end: str) -> None:
    terminal.type("top --every 0.1\r")
    entered = terminal.wait_for(ENTER)
    second = terminal.wait_for(b"round 2, after", entered)
    assert b"million instructions/s" in terminal.seen[entered:second]
    assert b"q or Ctrl-C ends this" in terminal.seen[entered:second]
    if end == "q":
        terminal.type("q")
    else:
        terminal.child.send_signal(signal.SIGINT)
    left = terminal.wait_for(LEAVE)
    printed = terminal.wait_for(b"cpubound: scale", left)  # what the guest has printed meanwhile, not over the picture
    assert b"cpubound: scale" not in terminal.seen[entered:left]
    ended = terminal.wait_for(b"top has ended" if end == "q" else b"interrupted by Ctrl-C", printed)
    prompt = terminal.wait_for(b"(dbgvmm)", ended)
    terminal.type("print 6*7*111\r")
    terminal.wait_for(b"4662", prompt)
