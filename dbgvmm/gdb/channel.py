"""`Channel`: a gdb process that is talked to in its machine interface. Starts it, asks it, ends it.

The parsing and the pipes are pygdbmi's. Waiting is not: pygdbmi gives whatever has come within a time, so here a command
waits for the result with its own token, and a lost gdb is noticed at once.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Sequence
from itertools import count
from select import select
from time import monotonic
from typing import Final

from pygdbmi.IoManager import IoManager

from dbgvmm.gdb.errors import CommandFailed, GdbGone, GdbMissing, TimedOut
from dbgvmm.gdb.records import Answer, Inbox, Record

_LAST_WORDS_SECONDS: Final = 3.0
"""What gdb gets to let go of the target and leave."""
_LOOK_AGAIN: Final = 0.5
"""Seconds after which a wait looks whether the process is still there, whatever the pipe says."""
_ESCAPES: Final = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r"})
_SHOWN: Final = 80


class Channel:
    """Starts `gdb` with `arguments`. Raises GdbMissing."""

    def __init__(self, gdb: str = "gdb", arguments: Sequence[str] = ()) -> None:
        path = shutil.which(gdb)
        if path is None:
            raise GdbMissing(
                f"{gdb} is not installed: scripted sessions need the real one (`apt-get install gdb`, or the package of that "
                "name on your system), or its path as gdb=..."
            )
        # A session of its own: a terminal's ^C is for the script, which then ends both processes in order.
        self._process = subprocess.Popen(
            [path, "-nx", "-q", "--interpreter=mi3", *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0, start_new_session=True,
        )  # fmt: skip
        assert self._process.stdin is not None and self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        self._io = IoManager(self._stdin, self._stdout, None)
        self._tokens = count(1)
        self.inbox = Inbox()

    @property
    def pid(self) -> int:
        """gdb's process number."""
        return self._process.pid

    def ask(self, command: str, timeout: float) -> Answer:
        """Send a command of the machine interface and wait for its result. Raises CommandFailed, TimedOut, GdbGone."""
        token = next(self._tokens)
        self.inbox.expect(token)
        self._send(f"{token}{command}", timeout)
        answer: Answer | None = None

        def arrived() -> bool:
            nonlocal answer
            answer = self.inbox.take()
            return answer is not None

        if not self.wait_until(arrived, timeout):
            self.inbox.forget()
            raise TimedOut(f"gdb has not answered `{command[:_SHOWN]}` within {timeout:g} s")
        assert answer is not None
        if answer.message == "error":
            text = answer.fields.get("msg", "an error without a message")
            raise CommandFailed(command[:_SHOWN], text, answer.console + answer.target)
        return answer

    def wait_until(self, arrived: Callable[[], bool], timeout: float, look_each: float = _LOOK_AGAIN) -> bool:
        """Take records until `arrived` says yes. False after `timeout` seconds. Raises GdbGone.

        `look_each`: seconds after which `arrived` is asked again though gdb has said nothing.
        """
        deadline = monotonic() + timeout
        self._receive(0.0)
        while not arrived():
            left = deadline - monotonic()
            if left <= 0:
                return False
            if not self._receive(min(left, look_each)):
                self._must_live()
        return True

    def _send(self, line: str, timeout: float) -> None:
        if self._process.poll() is not None or self._stdin.closed:
            raise GdbGone(f"gdb has ended: it cannot be given `{line[:_SHOWN]}`")
        if not select([], [self._stdin], [], timeout)[1]:
            raise TimedOut(f"gdb has not taken `{line[:_SHOWN]}` within {timeout:g} s")
        try:
            self._io.write(line, timeout, raise_error_on_timeout=False, read_response=False)
        except BrokenPipeError as error:
            raise GdbGone(f"gdb has ended: it cannot be given `{line[:_SHOWN]}`") from error

    def _receive(self, timeout: float) -> bool:
        """Wait for records and take them. False if none came."""
        if self._stdout.closed or not select([self._stdout], [], [], timeout)[0]:
            return False
        records = self._io.get_gdb_response(0, raise_error_on_timeout=False)
        for fields in records:
            record = Record.parsed(fields)
            if record is not None:
                self.inbox.put(record)
        return bool(records)

    def _must_live(self) -> None:
        status = self._process.poll()
        if status is not None:
            words = f": {said[-1]}" if (said := self.inbox.last_words()) else ""
            raise GdbGone(f"gdb has ended with status {status}{words}")

    def close(self) -> None:
        """Have gdb leave, which lets go of the target; one that does not is killed."""
        if self._stdout.closed:
            return
        try:
            # Its output is read meanwhile: a full pipe would hold it.
            self._process.communicate(b"-gdb-exit\n", timeout=_LAST_WORDS_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._process.wait()
        self._stdin.close()
        self._stdout.close()


def quoted(text: str) -> str:
    """`text` as a C string, the form of an argument with spaces (GDB manual, "GDB/MI Input Syntax")."""
    return '"' + text.translate(_ESCAPES) + '"'
