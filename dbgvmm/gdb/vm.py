"""`VmProcess`: `dbgvmm run KERNEL --gdb --wait` as a child process on a Unix socket of its own.

A script that is killed takes the machine with it: gdb leaves at the end of its input, and the machine ends when it
cannot tell anybody so. Only its folder in the directory for temporary files stays.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from select import select
from time import monotonic
from typing import Final

from dbgvmm.gdb.errors import SessionError, VmFailed

_END_SECONDS: Final = 5.0
"""What a machine gets to end by itself, write its statistics and give its socket back."""
_GRACE_SECONDS: Final = 1.0
"""Between the end of its connection and the end of the process."""
_CHUNK: Final = 1 << 16
_READY: Final = "waits for gdb: target remote "


class VmProcess:
    """Starts it and waits, for `timeout` seconds, until it listens. Raises VmFailed.

    `arguments`: those of `dbgvmm run`, the kernel among them.
    """

    def __init__(self, arguments: Sequence[str], timeout: float) -> None:
        # A short path: a Unix socket's may have 107 bytes.
        self._directory = tempfile.TemporaryDirectory(prefix="dbgvmm-")
        directory = Path(self._directory.name)
        self._serial = directory / "serial"
        self._said = b""
        self._last_output: bytes | None = None
        line = [sys.executable, "-m", "dbgvmm", "run", f"--gdb=unix:{directory / 'gdb'}", "--wait", *arguments]
        # The serial output goes to a file: no pipe can fill up and hold the guest while nobody reads.
        with self._serial.open("wb") as serial:
            # A session of its own: a terminal's ^C is for the script, which then ends both processes in order.
            self._process = subprocess.Popen(
                line, stdin=subprocess.PIPE, stdout=serial, stderr=subprocess.PIPE, bufsize=0, start_new_session=True
            )
        assert self._process.stdin is not None and self._process.stderr is not None
        self._stdin, self._stderr = self._process.stdin, self._process.stderr
        os.set_blocking(self._stderr.fileno(), False)
        os.set_blocking(self._stdin.fileno(), False)
        with ExitStack() as unless_it_serves:
            unless_it_serves.callback(self.close)
            self.address = self._wait_for_address(timeout)
            unless_it_serves.pop_all()

    def _wait_for_address(self, timeout: float) -> str:
        deadline = monotonic() + timeout
        while True:
            for text in self.messages.splitlines():
                _, found, address = text.partition(_READY)
                if found:
                    return address
            left = deadline - monotonic()
            if left <= 0:
                raise VmFailed(f"the virtual machine has not started within {timeout:g} s")
            select([self._stderr], [], [], left)
            if self._read_messages():
                continue
            raise VmFailed(self.describe_end(), self._process.wait())

    def _read_messages(self) -> bool:
        """Take what it has written to standard error. False at its end."""
        while True:
            try:
                data = os.read(self._stderr.fileno(), _CHUNK)
            except BlockingIOError:
                return True
            if not data:
                return False
            self._said += data

    @property
    def pid(self) -> int:
        """Its process number."""
        return self._process.pid

    @property
    def messages(self) -> str:
        """What dbgvmm itself has said, on standard error."""
        if not self._stderr.closed:
            self._read_messages()
        return self._said.decode("utf-8", "replace")

    def status(self, timeout: float = 0.0) -> int | None:
        """The exit status; None if it still runs after `timeout` seconds."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout)
        return self._process.returncode

    def describe_end(self) -> str:
        """How it has ended, in its own words if it has left some."""
        status = self.status(_GRACE_SECONDS)
        if status is None:
            return "the virtual machine has let gdb go, and still runs"
        if status < 0:
            return f"the virtual machine was killed by signal {-status}"
        said = [line for line in self.messages.splitlines() if line.strip()]
        return f"the virtual machine has ended with status {status}" + (f", saying `{said[-1]}`" if said else "")

    def serial_output(self, start: int = 0) -> bytes:
        """All that the guest has sent on its serial line so far, or what is behind the first `start` bytes."""
        if self._last_output is not None:
            return self._last_output[start:]
        with self._serial.open("rb") as file:
            file.seek(start)
            return file.read()

    def serial_input(self, data: bytes) -> None:
        """Type on the guest's serial line. It gets the bytes when it runs. Raises SessionError."""
        try:
            written = os.write(self._stdin.fileno(), data)
        except BlockingIOError:
            written = 0
        except (BrokenPipeError, ValueError) as error:
            raise VmFailed("the virtual machine has ended: it takes no serial input", self._process.poll()) from error
        if written < len(data):
            raise SessionError(f"{len(data) - written:,} bytes of serial input are too many: the guest has to read some first")

    def close(self) -> None:
        """End it for sure, and remove its files. What it has printed and said can still be read."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()
        if not self._stderr.closed:
            self._read_messages()
            self._last_output = self.serial_output()
        self._stdin.close()
        self._stderr.close()
        self._directory.cleanup()
