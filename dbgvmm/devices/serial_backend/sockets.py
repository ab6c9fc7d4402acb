"""`tcp:HOST:PORT` and `unix:PATH`: dbgvmm listens, and one client at a time is the far end of the serial line.

The guest does not wait for a client. What it sends before one comes is kept (the newest BACKLOG_LIMIT bytes) and
given to the first client; the same limit holds for a client that does not read. When a client leaves, the next
one may come.
"""
from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

from dbgvmm.devices.serial_backend.base import SerialError

BACKLOG_LIMIT = 1 << 20
_CHUNK = 4096


class SocketSerial:
    """Serves the serial line on a listening socket, which it owns. `unlink` is removed when it is closed."""

    def __init__(self, listener: socket.socket, unlink: Path | None = None) -> None:
        listener.setblocking(False)
        self._listener = listener
        self._unlink = unlink
        self._client: socket.socket | None = None
        self._outgoing = bytearray()
        self._closed = False

    @property
    def port(self) -> int:
        """The TCP port that was bound; tells which one port 0 became."""
        return int(self._listener.getsockname()[1])

    @property
    def connected(self) -> bool:
        """A client is there."""
        return self._client is not None

    @property
    def unsent(self) -> int:
        """Bytes that no client has taken yet."""
        return len(self._outgoing)

    def write(self, data: bytes) -> None:
        """Send to the client, or keep for the next one."""
        self._outgoing += data
        self._accept()
        self._flush()
        excess = len(self._outgoing) - BACKLOG_LIMIT
        if excess > 0:
            del self._outgoing[:excess]

    def poll(self) -> bytes:
        """Accept a client if none is there; what the client sent."""
        self._accept()
        self._flush()
        if self._client is None:
            return b""
        try:
            data = self._client.recv(_CHUNK)
        except BlockingIOError:
            return b""
        except OSError:
            # Reset by the peer: the client has left, only less politely.
            data = b""
        if not data:
            self._drop_client()
        return data

    def fileno(self) -> int | None:
        """The client's socket, or the listening one while there is none."""
        if self._closed:
            return None
        return self._listener.fileno() if self._client is None else self._client.fileno()

    def close(self) -> None:
        """Close both sockets and remove the Unix socket's name."""
        if self._closed:
            return
        self._closed = True
        self._drop_client()
        self._listener.close()
        if self._unlink is not None:
            self._unlink.unlink(missing_ok=True)

    def _accept(self) -> None:
        if self._client is not None or self._closed:
            return
        try:
            self._client, _ = self._listener.accept()
        except BlockingIOError:
            return
        self._client.setblocking(False)

    def _flush(self) -> None:
        while self._client is not None and self._outgoing:
            try:
                sent = self._client.send(self._outgoing)
            except BlockingIOError:
                return
            except OSError:
                self._drop_client()
                return
            del self._outgoing[:sent]

    def _drop_client(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None


def listen_tcp(host: str, port: int) -> SocketSerial:
    """Listen on `host`:`port` (0 takes any free port). Raises SerialError when that is not possible."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, proto)
    except OSError as error:
        raise SerialError(f"no such address for the serial line, {host}:{port}: {error.strerror}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1)
    except OSError as error:
        listener.close()
        raise SerialError(f"cannot listen on {host}:{port} for the serial line: {error.strerror}") from error
    return SocketSerial(listener)


def listen_unix(path: Path) -> SocketSerial:
    """Listen on a Unix socket. A socket left there by a dead process is replaced; anything else is an error."""
    _remove_stale_socket(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(os.fspath(path))
        listener.listen(1)
    except OSError as error:
        listener.close()
        raise SerialError(f"cannot listen on {path} for the serial line: {error.strerror or error}") from error
    return SocketSerial(listener, unlink=path)


def _remove_stale_socket(path: Path) -> None:
    try:
        is_socket = stat.S_ISSOCK(path.stat().st_mode)
    except OSError:
        # Not there, or out of reach: bind says which.
        return
    if not is_socket:
        raise SerialError(f"{path} is there and is not a socket: choose another path for the serial line")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except OSError as error:
            raise SerialError(f"cannot take over {path} for the serial line: {error.strerror}") from error
    raise SerialError(f"another process listens on {path}: choose another path for the serial line")
