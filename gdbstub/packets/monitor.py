"""`qRcmd`, gdb's `monitor`, and the `O` packets that carry text to the debugger's console."""

from __future__ import annotations

from gdbstub.errors import TargetError
from gdbstub.fields import encode_hex, parse_hex
from gdbstub.session import OK, PACKET_SIZE, Reply, Session
from gdbstub.table import Row
from gdbstub.target import Monitor

_TEXT_PER_PACKET = (PACKET_SIZE - 1) // 2


def console_packets(text: str | bytes) -> list[bytes]:
    """`text` as payloads of `O` packets, none for an empty one."""
    return [b"O" + encode_hex(part) for part in _parts(text)]


def command(session: Session, target: Monitor, arguments: bytes) -> Reply:
    """`qRcmd,command`: the output is the reply; what does not fit goes ahead of it in `O` packets."""
    line = parse_hex(arguments).decode("utf-8", "replace")
    session.in_monitor = session.after_monitor = True
    try:
        text = target.monitor(line)
    except TargetError as error:
        if not session.peer_has("error-message"):
            # Older gdb shows only the number of an error, so say it in words first.
            for payload in console_packets(error.text + "\n"):
                session.emit(payload)
        raise
    finally:
        session.in_monitor = False
    parts = _parts(text)
    for part in parts[:-1]:
        session.emit(b"O" + encode_hex(part))
    return encode_hex(parts[-1]) if parts else OK


def _parts(text: str | bytes) -> list[bytes]:
    data = text.encode() if isinstance(text, str) else text
    return [data[start : start + _TEXT_PER_PACKET] for start in range(0, len(data), _TEXT_PER_PACKET)]


ROWS = (Row("qRcmd", command, Monitor, text_errors=False),)
