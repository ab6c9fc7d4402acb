"""A debugger's end of a connection, without gdb: packets out, packets in, over a socket."""

from __future__ import annotations

import socket
from pathlib import Path

from gdbstub.framing import Notification, Packet, PacketReader, frame


class RspSession:
    """Connects at once, to a Unix socket. `ask` waits for the answer, so the server must run in another thread or have
    been given the packet's answer already."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(20)
        self._socket.connect(str(path))
        self._reader = PacketReader(1 << 20, expand_runs=True)
        self._received: list[bytes] = []
        self.notifications: list[bytes] = []
        """Those that have come and that `notification` has not given yet."""

    def send(self, payload: bytes) -> None:
        """A packet."""
        self._socket.sendall(frame(payload, runs=False))

    def send_raw(self, data: bytes) -> None:
        """Bytes, such as 0x03."""
        self._socket.sendall(data)

    def receive(self) -> bytes:
        """The next packet's payload."""
        while not self._received:
            self._read()
        return self._received.pop(0)

    def notification(self) -> bytes:
        """The next notification's payload."""
        while not self.notifications:
            self._read()
        return self.notifications.pop(0)

    def _read(self) -> None:
        data = self._socket.recv(1 << 16)
        if not data:
            raise ConnectionError("the server has closed the connection")
        for event in self._reader.feed(data):
            if isinstance(event, Packet):
                self._received.append(event.payload)
            elif isinstance(event, Notification):
                self.notifications.append(event.payload)

    def ask(self, payload: bytes) -> bytes:
        """A packet and the packet that answers it."""
        self.send(payload)
        return self.receive()

    def close(self) -> None:
        """Hang up."""
        self._socket.close()
