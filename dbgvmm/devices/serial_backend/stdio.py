"""`stdio`: the terminal that dbgvmm runs in, or whatever standard input and output are.

On a terminal the guest gets every key (^C too) and the escape keys of `escape.py` work. On a pipe or file all
bytes go through as they are, and the end of input is just the end of typing.
"""
from __future__ import annotations

import atexit
import os
import select
import sys
import termios

from dbgvmm.devices.serial_backend.base import ConsoleKeys, SerialError
from dbgvmm.devices.serial_backend.escape import EscapeFilter

_CHUNK = 4096
_IFLAG, _OFLAG, _CFLAG, _LFLAG, _CC = 0, 1, 2, 3, 6


class StdioSerial:
    """The serial line on `input_fd` and `output_fd`. A terminal is restored by `close`, or when Python exits."""

    def __init__(self, keys: ConsoleKeys, input_fd: int | None = None, output_fd: int | None = None) -> None:
        self._input: int | None = sys.stdin.fileno() if input_fd is None else input_fd
        self._output: int | None = sys.stdout.fileno() if output_fd is None else output_fd
        self._terminal = self._input if os.isatty(self._input) else None
        self._escape = EscapeFilter(keys)
        self._cooked = termios.tcgetattr(self._terminal) if self._terminal is not None else None
        self._raw = False
        self.resume()
        atexit.register(self.close)

    def suspend(self) -> None:
        """Put the terminal back as it was, so that the REPL can have it."""
        if self._raw and self._terminal is not None and self._cooked is not None:
            termios.tcsetattr(self._terminal, termios.TCSADRAIN, self._cooked)
            self._raw = False

    def resume(self) -> None:
        """Give the terminal to the guest again."""
        if self._raw or self._terminal is None:
            return
        mode = termios.tcgetattr(self._terminal)
        mode[_IFLAG] &= ~(
            termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP
            | termios.INLCR | termios.IGNCR | termios.ICRNL | termios.IXON
        )
        mode[_LFLAG] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
        mode[_CFLAG] = mode[_CFLAG] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
        # Output processing stays on: many small kernels end a line with a bare line feed.
        mode[_OFLAG] |= termios.OPOST
        mode[_CC][termios.VMIN] = 1
        mode[_CC][termios.VTIME] = 0
        termios.tcsetattr(self._terminal, termios.TCSADRAIN, mode)
        self._raw = True

    def write(self, data: bytes) -> None:
        """Put bytes on standard output. Once its reader has gone away they are dropped."""
        rest = memoryview(data)
        while rest and self._output is not None:
            try:
                rest = rest[os.write(self._output, rest) :]
            except BlockingIOError:
                select.select([], [self._output], [])
            except BrokenPipeError:
                self._output = None
            except OSError as error:
                raise SerialError(f"cannot write to standard output: {error.strerror}") from error

    def poll(self) -> bytes:
        """Keys that were typed, without the escape sequences."""
        if self._input is None or not select.select([self._input], [], [], 0)[0]:
            return b""
        try:
            typed = os.read(self._input, _CHUNK)
        except BlockingIOError:
            return b""
        except OSError:
            # A terminal that was hung up reads as an input/output error: there is nobody to type any more.
            typed = b""
        if not typed:
            self._input = None
        return typed if self._terminal is None else self._escape.feed(typed)

    def fileno(self) -> int | None:
        """Standard input, until its end was seen."""
        return self._input

    def close(self) -> None:
        """Restore the terminal."""
        atexit.unregister(self.close)
        try:
            self.suspend()
        except termios.error:
            # The terminal itself is gone, and its settings with it.
            self._raw = False
        self._input = None
