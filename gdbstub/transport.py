"""A listening socket for one debugger at a time, polled from a single-threaded loop.

    listener = Listener("1234")
    while True:
        for event in listener.poll(timeout=0.0 if stub and stub.state is State.RUNNING else None):
            match event:
                case Connected():
                    stub = Stub(target)
                case Received(data):
                    listener.send(stub.feed(data))
                case Disconnected():
                    stub.close()
        if stub and stub.state is State.RUNNING:
            ...  # run the target for a while; if it has stopped: listener.send(stub.report_stop(reason))
        if stub and stub.state is State.DISCONNECTED:
            listener.disconnect()

A `Stub` lasts as long as its connection.
"""

from __future__ import annotations

import os
import re
import select
import socket
import stat
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Final, Self

DEFAULT_HOST = "127.0.0.1"

_UNIX_PREFIX = "unix:"
_INET = re.compile(r"(?:(?:\[(?P<v6>[^\]]+)\]|(?P<host>[^:\[\]]*)):)?(?P<port>[0-9]+)")
_FORMS = "give PORT, HOST:PORT or unix:PATH, for instance 1234, 127.0.0.1:1234 or unix:/tmp/gdb.sock"
_CHUNK = 0x10000
_CHUNKS_PER_POLL = 16
_SEND_SECONDS = 10.0
_LINGER: Final = 0.0001
"""Seconds that `poll` stays awake after something was sent. A debugger seldom sends one packet alone (gdb's next one comes
within this time nine times in ten), and the kernel takes longer to wake us than most packets take to serve."""


class TransportError(Exception):
    """A listener cannot be opened; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Connected:
    """A debugger has connected, from `peer`."""

    peer: str


@dataclass(frozen=True, slots=True)
class Received:
    """Bytes from the debugger."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The debugger is gone, for `reason`."""

    reason: str


TransportEvent = Connected | Received | Disconnected


class Listener:
    """Listens on `PORT` (on 127.0.0.1), `HOST:PORT`, `[V6ADDRESS]:PORT` or `unix:PATH`. Port 0 takes any free one.

    A second debugger is turned away while one is connected. Nothing here blocks, except `send`, for at most ten
    seconds, when the debugger does not read.
    """

    def __init__(self, address: str) -> None:
        self._path: Path | None = None
        self._client: socket.socket | None = None
        self._pending: deque[TransportEvent] = deque()
        self._awake = False
        if address.startswith(_UNIX_PREFIX):
            self._path = Path(address.removeprefix(_UNIX_PREFIX))
            self._socket = _listen_unix(self._path)
        else:
            self._socket = _listen_inet(address)
        self._socket.setblocking(False)
        self._poller = select.poll()
        self._poller.register(self._socket, select.POLLIN)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def address(self) -> str:
        """Where it really listens, in the form that gdb's `target remote` takes."""
        if self._path is not None:
            return str(self._path)
        host, port = self._socket.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def connected(self) -> bool:
        """Whether a debugger is connected."""
        return self._client is not None

    def filenos(self) -> tuple[int, ...]:
        """The descriptors to `select` for reading; `poll` has something to do when one is ready. They change when a
        debugger comes or goes."""
        return tuple(item.fileno() for item in self._sockets())

    def poll(self, timeout: float | None = 0.0) -> list[TransportEvent]:
        """What has happened, waiting at most `timeout` seconds (None: for ever) for something to."""
        pending = self._pending
        ready = dict(self._ready(0.0 if pending else timeout))
        # The client first: one that has gone makes room for the next.
        client = self._client
        if client is not None and client.fileno() in ready:
            self._receive(client)
        # But not in the same poll: who is told of the end may still answer it with `disconnect`.
        if self._socket.fileno() in ready and (self._client is not None or not self._pending):
            self._accept()
        events = list(pending)
        pending.clear()
        return events

    def _ready(self, timeout: float | None) -> list[tuple[int, int]]:
        """What the poller gives within `timeout`. The first wait after a `send` begins awake."""
        poll = self._poller.poll
        if self._awake and (timeout is None or timeout > _LINGER):
            self._awake = False
            timeout = None if timeout is None else timeout - _LINGER
            end = monotonic() + _LINGER
            while not (ready := poll(0)):
                os.sched_yield()  # to the debugger, if it is on the same CPU
                if monotonic() > end:
                    break
            else:
                return ready
        return poll(None if timeout is None else timeout * 1000)

    def send(self, data: bytes) -> None:
        """Send all of `data`. Without a debugger it is dropped; one that doesn't take it is disconnected."""
        client = self._client
        if client is None or not data:
            return
        self._awake = True
        try:
            # Nearly always there is room for all of it; then no system call but this one is made.
            sent = client.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._drop(error.strerror or str(error))
            return
        if sent < len(data):
            self._send_slowly(client, memoryview(data)[sent:])

    def _send_slowly(self, client: socket.socket, data: memoryview) -> None:
        client.settimeout(_SEND_SECONDS)
        try:
            client.sendall(data)
            client.setblocking(False)
        except TimeoutError:
            self._drop(f"the debugger has not read for {_SEND_SECONDS:g} seconds")
        except OSError as error:
            self._drop(error.strerror or str(error))

    def disconnect(self) -> None:
        """Close the debugger's connection, if there is one; no `Disconnected` event comes for it."""
        if self._client is not None:
            self._poller.unregister(self._client)
            self._client.close()
            self._client = None

    def close(self) -> None:
        """Close everything, and remove the Unix socket's file."""
        self.disconnect()
        self._socket.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _sockets(self) -> list[socket.socket]:
        return [self._socket] if self._client is None else [self._socket, self._client]

    def _drop(self, reason: str) -> None:
        self.disconnect()
        self._pending.append(Disconnected(reason))

    def _receive(self, client: socket.socket) -> None:
        received = b""
        reason: str | None = None
        for _ in range(_CHUNKS_PER_POLL):
            try:
                data = client.recv(_CHUNK)
            except BlockingIOError:
                break
            except OSError as error:
                reason = error.strerror or str(error)
                break
            if not data:
                reason = "the debugger has closed the connection"
                break
            received += data
            if len(data) < _CHUNK:
                break
        if received:
            self._pending.append(Received(received))
        if reason is not None:
            self._drop(reason)

    def _accept(self) -> None:
        try:
            client, peer = self._socket.accept()
        except OSError:
            # It has gone again between poll and accept.
            return
        if self._client is not None:
            # Its end may lie behind what has just been received.
            self._receive(self._client)
        if self._client is not None:
            client.close()
            return
        client.setblocking(False)
        if client.family != socket.AF_UNIX:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._client = client
        self._poller.register(client, select.POLLIN)
        self._pending.append(Connected(f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else "a local process"))


def _listen_inet(address: str) -> socket.socket:
    match = _INET.fullmatch(address)
    if match is None or int(match["port"]) > 0xFFFF:
        raise TransportError(f"{address!r} is not an address to listen on: {_FORMS}")
    host, port = match["v6"] or match["host"] or DEFAULT_HOST, int(match["port"])
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise TransportError(f"the host {host!r} is unknown ({error}): {_FORMS}") from error
    listener = socket.socket(family, kind, protocol)
    try:
        # Lets a new run take the port over from connections of the last one that linger in TIME_WAIT.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        listener.listen(4)
    except OSError as error:
        listener.close()
        raise TransportError(
            f"cannot listen on {host}:{port} ({error.strerror}): stop the program that has it,"
            " or choose another port (0 takes any free one)"
        ) from error
    return listener


def _listen_unix(path: Path) -> socket.socket:
    if not path.name:
        raise TransportError(f"unix: needs a path: {_FORMS}")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        listener.bind(str(path))
        listener.listen(4)
    except OSError as error:
        listener.close()
        raise TransportError(
            f"cannot listen on {path} ({error.strerror or error}): stop the program that has it, or choose another path"
        ) from error
    return listener


def _remove_stale(path: Path) -> None:
    """Remove a socket file that a program left when it died: one that nobody answers on."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
