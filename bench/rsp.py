"""The debugger's end of a connection, the same for every stub: as little work as possible between two packets.

No gdb is involved, so what is timed is the stub. Acknowledgements are switched off where the stub offers it, and packets
are as long as the stub says that it takes, as gdb does.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from time import perf_counter
from typing import Final, Self

from measure import BenchError

from gdbstub.framing import FramingError, decode_runs, escape, unescape

_CONNECT_SECONDS: Final = 20.0
_GDB_FEATURES: Final = b"swbreak+;hwbreak+;vContSupported+"
_RSP, _RIP = 7, 16
"""Numbers of gdb's x86-64 registers, which are all 8 bytes up to RIP."""


class RspClient:
    """Connects to `address` (host, port), trying until somebody listens. Raises BenchError."""

    def __init__(self, address: tuple[str, int], timeout: float = 300.0) -> None:
        self._socket = _connect(address)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.settimeout(timeout)
        self._buffer = b""
        self._acknowledge = True
        self.features: Sequence[bytes] = self.ask(b"qSupported:" + _GDB_FEATURES).split(b";")
        sizes = [feature[11:] for feature in self.features if feature.startswith(b"PacketSize=")]
        self.packet_size = int(sizes[0], 16) if sizes else 400
        if self.offers(b"QStartNoAckMode+") and self.ask(b"QStartNoAckMode") == b"OK":
            self._acknowledge = False
        self.ask(b"?")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def offers(self, feature: bytes) -> bool:
        """Whether `qSupported` has it."""
        return feature in self.features

    def send(self, payload: bytes) -> None:
        """One packet."""
        self._socket.sendall(b"$%b#%02x" % (payload, sum(payload) & 0xFF))

    def receive(self) -> bytes:
        """The next packet's body, decoded. Raises BenchError if none comes."""
        while True:
            start = self._buffer.find(b"$")
            end = self._buffer.find(b"#", start) if start >= 0 else -1
            if 0 <= end <= len(self._buffer) - 3:
                break
            self._more()
        body = self._buffer[start + 1 : end]
        self._buffer = self._buffer[end + 3 :]
        if self._acknowledge:
            self._socket.sendall(b"+")
        try:
            if b"*" in body:
                body = decode_runs(body)
            return unescape(body) if b"}" in body else body
        except FramingError as error:
            raise BenchError(f"the stub sent a packet that cannot be decoded: {error}") from error

    def _more(self) -> None:
        try:
            data = self._socket.recv(1 << 20)
        except TimeoutError as error:
            raise BenchError(f"no answer within {self._socket.gettimeout():g} seconds") from error
        except OSError as error:
            raise BenchError(f"the connection broke: {error}") from error
        if not data:
            raise BenchError("the stub has closed the connection")
        self._buffer += data

    def ask(self, payload: bytes) -> bytes:
        """A packet and its answer."""
        self.send(payload)
        return self.receive()

    def demand(self, payload: bytes) -> bytes:
        """As `ask`. Raises BenchError for an error or the empty reply."""
        reply = self.ask(payload)
        if not reply or (reply[:1] == b"E" and (len(reply) == 3 or reply[1:2] == b".")):
            raise BenchError(f"{payload[:60]!r} was answered by {reply!r}")
        return reply

    def run(self, payload: bytes = b"vCont;c") -> tuple[bytes, float]:
        """Resume: the stop reply, and the seconds until it came. Console output in between is dropped."""
        started = perf_counter()
        reply = self.ask(payload)
        while reply[:1] == b"O" and reply != b"OK":
            reply = self.receive()
        return reply, perf_counter() - started

    def run_to(self, address: int) -> float:
        """Resume up to a breakpoint that is set for that only: seconds. Raises BenchError if it is not reached."""
        self.demand(b"Z0,%x,1" % address)
        reply, seconds = self.run()
        if reply[:3] != b"T05" or self.rip() != address:
            raise BenchError(f"the guest was to run to {address:#x}, but: {reply[:80]!r} at {self.rip():#x}")
        self.demand(b"z0,%x,1" % address)
        return seconds

    def rip(self) -> int:
        """The program counter."""
        return self._register(_RIP)

    def stack_pointer(self) -> int:
        """RSP."""
        return self._register(_RSP)

    def _register(self, number: int) -> int:
        return self._little(self.demand(b"g")[16 * number :][:16])

    def word(self, address: int) -> int:
        """Eight bytes of memory."""
        return self._little(self.demand(b"m%x,8" % address))

    @staticmethod
    def _little(digits: bytes) -> int:
        return int.from_bytes(bytes.fromhex(digits.decode()), "little")

    def read_hex(self, address: int, length: int) -> bytes:
        """Memory through `m`, in packets as long as the stub takes them."""
        chunk = (self.packet_size - 4) // 2
        ends = address + length
        return b"".join(
            bytes.fromhex(self.demand(b"m%x,%x" % (at, min(chunk, ends - at))).decode())
            for at in range(address, ends, chunk)
        )

    def read_binary(self, address: int, length: int) -> bytes:
        """Memory through `x`, likewise; half a packet leaves room for escapes."""
        chunk, ends = self.packet_size // 2, address + length
        return b"".join(
            self.demand(b"x%x,%x" % (at, min(chunk, ends - at)))[1:] for at in range(address, ends, chunk)
        )

    def write(self, address: int, data: bytes) -> None:
        """Memory through `X`, or through `M` if there is none."""
        for at in range(0, len(data), 1024):
            part = data[at : at + 1024]
            if self.ask(escape(b"X%x,%x:%b" % (address + at, len(part), part))) != b"OK":
                self.demand(b"M%x,%x:%b" % (address + at, len(part), part.hex().encode()))


def _connect(address: tuple[str, int]) -> socket.socket:
    end = perf_counter() + _CONNECT_SECONDS
    while True:
        try:
            return socket.create_connection(address, timeout=_CONNECT_SECONDS)
        except OSError as error:
            if perf_counter() > end:
                raise BenchError(f"nobody listens on {address[0]}:{address[1]}: {error}") from error
