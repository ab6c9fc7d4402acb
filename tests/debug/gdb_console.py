"""The real gdb at a prompt: what it says of running programs comes between commands, which `-batch` has no place for."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

_SECONDS = 30


class GdbConsole:
    """gdb and a guest under dbgvmm. `tell` sends a line; `expect` waits until a text has come.

    `text` is all that gdb has printed so far.
    """

    def __init__(self, kernel: Path, socket: Path, *before: str, file: bool = False) -> None:
        line = [sys.executable, "-m", "dbgvmm", "run", str(kernel), f"--gdb=unix:{socket}", "--wait"]
        self.dbgvmm = subprocess.Popen(
            line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.dbgvmm.stderr is not None
        assert "waits for gdb" in self.dbgvmm.stderr.readline()
        settings = ("set confirm off", "set width 0", "set pagination off", *before, f"target remote {socket}")
        arguments = ["gdb", "-nx", "-q", *(word for setting in settings for word in ("-ex", setting))]
        if file:
            arguments.append(str(kernel.with_suffix(".elf64")))
        self._gdb = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1,
            errors="replace",
        )
        self.text = ""
        self._seen = 0
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in (self._gdb, self.dbgvmm):
            process.kill()
            process.wait()

    def _read(self) -> None:
        assert self._gdb.stdout is not None
        while text := self._gdb.stdout.read(1):
            with self._changed:
                self.text += text
                self._changed.notify()

    def tell(self, line: str) -> None:
        """One command line."""
        assert self._gdb.stdin is not None
        self._gdb.stdin.write(line + "\n")
        self._gdb.stdin.flush()

    def expect(self, text: str) -> str:
        """Wait for `text` behind what the last call waited for; what came up to it."""
        end = time.monotonic() + _SECONDS
        with self._changed:
            while (at := self.text.find(text, self._seen)) < 0:
                assert self._changed.wait(end - time.monotonic()), f"{text!r} has not come: {self.text[-2000:]}"
            before, self._seen = self.text[self._seen : at], at + len(text)
        return before

    def ask(self, line: str) -> str:
        """What a command prints: up to the echo of a marker behind it."""
        self.tell(line)
        self.tell("echo <done>\\n")
        return self.expect("<done>")

    def leave(self) -> int:
        """Let gdb end, and dbgvmm after it; dbgvmm's exit status."""
        self.tell("quit")
        self._gdb.wait(_SECONDS)
        return self.dbgvmm.wait(_SECONDS)
