"""The table of packets: one row for each, and how a packet's row is found."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from gdbstub.session import Reply, Session

# The target's type is that of the row's `needs`; a test holds the two together.
Handler = Callable[[Session, Any, bytes], Reply]

_SEPARATORS = frozenset(b",:;=")


@dataclass(frozen=True, slots=True)
class Row:
    """One packet.

    `name`: as in the manual. A one-letter name takes any packet that begins with it; a longer one only when it ends
    there or a separator (`,` `:` `;` `=`) follows, so that `qC` does not take `qCRC`. The longest name wins.
    `handler`: gets the session, the target and what follows the name and its separator.
    `needs`: the protocol that the target must implement for the row to exist.
    `feature`: what the row adds to the `qSupported` reply.
    `more`: features that it adds if the target implements one more protocol.
    `while_running`: whether it is served while the target runs (in all-stop mode nearly nothing is).
    `glued`: arguments follow the name at once, without a separator.
    `text_errors`: whether every gdb takes `E.text` as this packet's error. It must not be set for a reply of plain
    hexadecimal data, where older gdb would decode the text.
    """

    name: str
    handler: Handler
    needs: type[Any]
    feature: str = ""
    while_running: bool = False
    more: tuple[tuple[str, type[Any]], ...] = ()
    glued: bool = False
    text_errors: bool = True


class PacketTable:
    """The rows that a target makes possible."""

    def __init__(self, rows: Iterable[Row], target: object) -> None:
        self._rows: dict[bytes, Row] = {}
        for row in rows:
            if isinstance(target, row.needs) and self._rows.setdefault(row.name.encode(), row) is not row:
                raise ValueError(f"two rows of the packet table are named {row.name!r}")
        self._more = tuple(
            feature
            for row in self._rows.values()
            for feature, needs in row.more
            if isinstance(target, needs)
        )
        self._lengths = sorted({len(name) for name in self._rows}, reverse=True)

    @property
    def features(self) -> tuple[str, ...]:
        """What `qSupported` says of these rows, in their order."""
        return tuple(dict.fromkeys(row.feature for row in self._rows.values() if row.feature)) + self._more

    def find(self, payload: bytes) -> tuple[Row, bytes] | None:
        """The row for a packet and the packet's arguments; None for a packet without a row."""
        row = self._rows.get(payload)
        if row is not None:
            return row, b""
        for length in self._lengths:
            row = self._rows.get(payload[:length])
            if row is None:
                continue
            rest = payload[length:]
            if length == 1 or not rest or row.glued:
                return row, rest
            if rest[0] in _SEPARATORS:
                return row, rest[1:]
        return None
