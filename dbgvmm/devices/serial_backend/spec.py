"""From the text that a user typed to a serial backend."""
from __future__ import annotations

import re
from pathlib import Path

from dbgvmm.devices.serial_backend.base import ConsoleKeys, NullSerial, SerialBackend, SerialError
from dbgvmm.devices.serial_backend.file import FileSerial
from dbgvmm.devices.serial_backend.sockets import listen_tcp, listen_unix
from dbgvmm.devices.serial_backend.stdio import StdioSerial

SERIAL_HELP = """\
stdio           this terminal: ^A x leaves, ^A c goes to the REPL, ^A ^A sends ^A
file:F          output to file F, no input
tcp:HOST:PORT   listen on HOST:PORT (no HOST: 127.0.0.1), without waiting for a client
unix:PATH       listen on a Unix socket, without waiting for a client
null            not connected
"""

_TCP = re.compile(r"(?:\[(?P<v6>[^\]]+)\]|(?P<host>[^:\[\]]*)):(?P<port>[0-9]{1,5})")
_LOOPBACK = "127.0.0.1"
_MAX_PORT = 0xFFFF


def open_serial(spec: str, keys: ConsoleKeys | None = None) -> SerialBackend:
    """Open the backend that `spec` names (see SERIAL_HELP).

    `keys` is what the escape keys of `stdio` do; without it both raise KeyboardInterrupt out of `poll`.
    Raises SerialError with a one-line text when `spec` is not understood or cannot be opened.
    """
    kind, colon, rest = spec.partition(":")
    match kind:
        case "null" if not colon:
            return NullSerial()
        case "stdio" if not colon:
            return StdioSerial(keys or ConsoleKeys(_interrupt, _interrupt))
        case "file" if rest:
            return FileSerial(Path(rest))
        case "unix" if rest:
            return listen_unix(Path(rest))
        case "tcp":
            return listen_tcp(*_host_and_port(rest))
    raise SerialError(f"bad serial line {spec!r}: use stdio, file:F, tcp:HOST:PORT, unix:PATH or null")


def _host_and_port(text: str) -> tuple[str, int]:
    match = _TCP.fullmatch(text)
    if match is None or int(match["port"]) > _MAX_PORT:
        raise SerialError(f"bad serial address {text!r}: use tcp:HOST:PORT with a port from 0 to {_MAX_PORT}")
    return match["v6"] or match["host"] or _LOOPBACK, int(match["port"])


def _interrupt() -> None:
    raise KeyboardInterrupt
