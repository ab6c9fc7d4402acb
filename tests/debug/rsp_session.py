"""A debugger's end of a connection, without gdb: packets out, packets in, over a socket."""

from __future__ import annotations

import socket
from pathlib import Path

from gdbstub.framing import Packet, PacketReader, frame


class RspSession:
    """Connects at once, to a Unix socket. `ask` waits for the answer, so the server must run in another thread or have
    been given the packet's answer already."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(20)
        self._socket.connect(str(path))
        self._reader = PacketReader(1 << 20, expand_runs=True)
        self._received: list[bytes] = []

    def send(self, payload: bytes) -> None:
        """A packet."""
        self._socket.sendall(frame(payload, runs=False))

    def send_raw(self, data: bytes) -> None:
        """Bytes, such as 0x03."""
        self._socket.sendall(data)

    def receive(self) -> bytes:
        """The next packet's payload."""
        while not self._received:
            data = self._socket.recv(1 << 16)
            if not data:
                raise ConnectionError("the server has closed the connection")
            self._received += [event.payload for event in self._reader.feed(data) if isinstance(event, Packet)]
        return self._received.pop(0)

    def ask(self, payload: bytes) -> bytes:
        """A packet and the packet that answers it."""
        self.send(payload)
        return self.receive()

    def close(self) -> None:
        """Hang up."""
        self._socket.close()
