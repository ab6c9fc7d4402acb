"""`file:F`: what the guest sends goes to a file, unbuffered so that it is complete after a crash. No input."""
from __future__ import annotations

from pathlib import Path

from dbgvmm.devices.serial_backend.base import SerialError


class FileSerial:
    """Writes to `path`, which is emptied first. Raises SerialError when it cannot be opened or written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = path.open("wb", buffering=0)
        except OSError as error:
            raise SerialError(f"cannot write serial output to {path}: {error.strerror}") from error

    def write(self, data: bytes) -> None:
        """Append to the file."""
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self._file.write(rest) :]
            except OSError as error:
                raise SerialError(f"cannot write serial output to {self._path}: {error.strerror}") from error

    def poll(self) -> bytes:
        """A file sends nothing."""
        return b""

    def fileno(self) -> int | None:
        """A file sends nothing."""
        return None

    def close(self) -> None:
        """Close the file."""
        self._file.close()
