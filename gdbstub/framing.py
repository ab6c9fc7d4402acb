"""Packets to bytes and bytes to packets (GDB manual, "Overview" of the remote serial protocol).

On the wire a packet is `$body#cc`, a notification `%body#cc`; `cc` is the sum of the body's bytes modulo 256.
Between packets stand the single bytes `+` (received), `-` (send again) and 0x03 (interrupt, "Ctrl-C"). In a body,
`}` escapes the byte after it, which is sent XORed with 0x20, and `c*n` repeats `c` another `n - 29` times: the
run-length form is for replies only, so a stub's reader must not expand it.

Nothing here raises for bad input: line noise between packets is skipped, a damaged packet becomes `Corrupt`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from zlib import adler32

ACK = b"+"
NAK = b"-"
INTERRUPT = b"\x03"

_ESCAPE = 0x7D
_ESCAPE_XOR = 0x20
_ESCAPES = tuple((bytes((byte,)), bytes((_ESCAPE, byte ^ _ESCAPE_XOR))) for byte in b"}#$*")
"""`}` first, since the others bring it in."""
_ESCAPED = re.compile(rb"\}(.?)", re.DOTALL)
_UNESCAPED = tuple(bytes((byte ^ _ESCAPE_XOR,)) for byte in range(256))

# A run length is sent as a printable byte. '#' and '$' would end or begin a packet; '+' and '-' look like
# acknowledgements to old debuggers, and '*' like another run.
_RUN_BIAS = 29
_RUN_REPEATS = range(3, 98)
_RUN_FORBIDDEN = b"#$*+-"
# The bytes that replies really have runs of (as digits and in binary), and the pieces that runs are cut into, longest
# first: looking for just these is a hundred times faster than looking for any run, and all of it is in bytes.replace.
_RUN_BYTES = b"0fx\0\xff"
_RUN_PIECES = (98, 48, 32, 16, 9)
_RUN_SHORTEST = _RUN_PIECES[-1]
assert all(piece - 1 in _RUN_REPEATS and piece - 1 + _RUN_BIAS not in _RUN_FORBIDDEN for piece in _RUN_PIECES)
_RUNS = tuple(
    (
        bytes((byte,)) * _RUN_SHORTEST,
        tuple((bytes((byte,)) * piece, bytes((byte, ord("*"), piece - 1 + _RUN_BIAS))) for piece in _RUN_PIECES),
    )
    for byte in _RUN_BYTES
)

# Looking for runs in long bodies that have none, such as code, would take longer than everything else about them. A byte that
# is rare in a sample of the body has few long runs in it.
_SAMPLE_STEP = 16
_SAMPLED_FROM = 4096
_RARE = 8

_SUM_CHUNK = 256
"""Bytes whose sum is less than Adler-32's modulus, 65521, whatever they are."""
_SUM_CHUNK_ASCII = 512
"""The same for bytes below 80h, such as digits."""

_WHOLE = re.compile(rb"\$([^#$}]*)#([0-9a-fA-F]{2})")
"""Nearly always what comes at a time is one packet without escapes."""
_BETWEEN = re.compile(rb"[+\-\x03$%]")
_BODY_END = re.compile(rb"[#$]")
_CHECKSUM = re.compile(rb"[0-9a-fA-F]{2}")


@dataclass(frozen=True, slots=True)
class Packet:
    """A whole packet; `payload` is its body, unescaped."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Notification:
    """A whole notification (`%`); never acknowledged."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Corrupt:
    """A packet that cannot be trusted, with the reason in words."""

    reason: str


@dataclass(frozen=True, slots=True)
class TooLong:
    """A packet longer than the reader's limit; its body was thrown away."""

    limit: int


@dataclass(frozen=True, slots=True)
class Ack:
    """`+`"""


@dataclass(frozen=True, slots=True)
class Nak:
    """`-`"""


@dataclass(frozen=True, slots=True)
class Interrupt:
    """0x03 between packets. Inside one it is data."""


Event = Packet | Notification | Corrupt | TooLong | Ack | Nak | Interrupt

_SINGLE_BYTES: dict[bytes, Event] = {ACK: Ack(), NAK: Nak(), INTERRUPT: Interrupt()}


class FramingError(ValueError):
    """A body whose escapes or runs do not decode."""


def checksum(body: bytes) -> int:
    """The modulo-256 sum of a body as it stands on the wire."""
    # The low half of Adler-32 is 1 plus the sum of the bytes (RFC 1950): the only sum of bytes that Python has in C.
    if len(body) <= _SUM_CHUNK:
        return adler32(body) - 1 & 0xFF
    # The high half of each is a multiple of 256, so it adds nothing.
    chunk = _SUM_CHUNK_ASCII if body.isascii() else _SUM_CHUNK
    starts = range(0, len(body), chunk)
    total = -len(starts)
    for at in starts:
        total += adler32(body[at : at + chunk])
    return total & 0xFF


def escape(payload: bytes) -> bytes:
    """`payload` with `#`, `$`, `}` and `*` escaped."""
    if payload.isalnum():  # as most are; what is not is seen at its first other byte
        return payload
    for byte, escaped in _ESCAPES:
        if byte in payload:
            payload = payload.replace(byte, escaped)
    return payload


def unescape(body: bytes) -> bytes:
    """The inverse of `escape`; FramingError if the body ends within an escape."""
    if b"}}" not in body and not body.endswith(b"}"):
        first, *others = body.split(b"}")
        return first + b"".join([_UNESCAPED[part[0]] + part[1:] for part in others])

    def plain(match: re.Match[bytes]) -> bytes:
        if not match[1]:
            raise FramingError("the packet ends within an escape")
        return bytes((match[1][0] ^ _ESCAPE_XOR,))

    return _ESCAPED.sub(plain, body)


def encode_runs(body: bytes) -> bytes:
    """Run-length encode an escaped body: the long runs of bytes that replies are full of."""
    sample = body[::_SAMPLE_STEP] if len(body) >= _SAMPLED_FROM else b""
    for run, pieces in _RUNS:
        if sample and sample.count(run[:1]) * _RARE < len(sample):
            continue
        if run in body:
            for piece, encoded in pieces:
                body = body.replace(piece, encoded)
    return body


def decode_runs(body: bytes) -> bytes:
    """The inverse of `encode_runs`; FramingError for a run without a byte to repeat or with a bad length."""
    out = bytearray()
    position = 0
    while (star := body.find(b"*", position)) >= 0:
        out += body[position:star]
        if not out or star + 1 == len(body):
            raise FramingError("a run-length mark repeats nothing")
        repeats = body[star + 1] - _RUN_BIAS
        if repeats not in _RUN_REPEATS:
            raise FramingError(f"{repeats} is not a run length")
        out += out[-1:] * repeats
        position = star + 2
    return bytes(out + body[position:])


def frame(payload: bytes, *, runs: bool = True) -> bytes:
    """One packet, escaped, run-length encoded unless `runs` is false (debuggers must send plain), and summed."""
    body = escape(payload)
    if runs:
        body = encode_runs(body)
    return b"$%b#%02x" % (body, checksum(body))


def frame_notification(payload: bytes) -> bytes:
    """One notification, e.g. `Stop:T05...`."""
    return b"%" + frame(payload)[1:]


class PacketReader:
    """Cuts a byte stream, in whatever pieces it comes, into events.

    `limit` bounds a body in bytes as it stands on the wire. `expand_runs` is for the debugger's side.
    """

    def __init__(self, limit: int = 0x10000, *, expand_runs: bool = False) -> None:
        self._limit = limit
        self._expand_runs = expand_runs
        self._step: Callable[[bytes, int], tuple[int, Event | None]] = self._between
        self._kind: type[Packet | Notification] = Packet
        self._body = bytearray()
        self._overlong = False
        self._digits = b""

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` completes, in order."""
        if self._step == self._between and not self._expand_runs and len(data) <= self._limit:
            whole = _WHOLE.fullmatch(data)
            if whole is not None and int(whole[2], 16) == checksum(whole[1]):
                return [Packet(whole[1])]
        events: list[Event] = []
        position = 0
        while position < len(data):
            position, event = self._step(data, position)
            if event is not None:
                events.append(event)
        return events

    def _between(self, data: bytes, position: int) -> tuple[int, Event | None]:
        """Outside packets: single bytes and noise."""
        match = _BETWEEN.search(data, position)
        if match is None:
            return len(data), None
        if (event := _SINGLE_BYTES.get(match[0])) is not None:
            return match.end(), event
        self._begin(Packet if match[0] == b"$" else Notification)
        return match.end(), None

    def _begin(self, kind: type[Packet | Notification]) -> None:
        self._kind = kind
        self._body.clear()
        self._overlong = False
        self._digits = b""
        self._step = self._in_body

    def _in_body(self, data: bytes, position: int) -> tuple[int, Event | None]:
        """After `$` or `%`, up to `#`. A bare `$` can only begin the next packet: the end of this one was
        lost, and no `-` is due, since the sender has given up on it."""
        match = _BODY_END.search(data, position)
        end = len(data) if match is None else match.start()
        if not self._overlong:
            self._body += data[position:end]
            if len(self._body) > self._limit:
                self._overlong = True
                self._body.clear()
        if match is None:
            return end, None
        if match[0] == b"$":
            self._begin(Packet)
            return match.end(), None
        self._step = self._in_checksum
        return match.end(), None

    def _in_checksum(self, data: bytes, position: int) -> tuple[int, Event | None]:
        """The two digits after `#`."""
        if data[position] == ord("$"):
            self._begin(Packet)
            return position + 1, None
        self._digits += data[position : position + 1]
        if len(self._digits) < 2:
            return position + 1, None
        self._step = self._between
        return position + 1, self._finish()

    def _finish(self) -> Event:
        if self._overlong:
            return TooLong(self._limit)
        body = bytes(self._body)
        if not _CHECKSUM.fullmatch(self._digits) or int(self._digits, 16) != checksum(body):
            return Corrupt(f"the checksum should be {checksum(body):02x}")
        try:
            return self._kind(unescape(decode_runs(body) if self._expand_runs else body))
        except FramingError as error:
            return Corrupt(str(error))
