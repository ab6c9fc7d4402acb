"""What the guest prints, line by line, with the moment at which each line began."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from dbgvmm.profile.moments import GuestNanoseconds, InstructionCount

if TYPE_CHECKING:
    from dbgvmm.machine import Machine

MOST_LINES: Final = 1 << 13
"""Lines that are kept: half of them the first ones, half the newest."""
LONGEST: Final = 400
"""Bytes of a line that are kept."""
_ESCAPES: Final = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-_])")
"""ECMA-48: control sequences, operating system commands, others of two bytes."""


@dataclass(frozen=True)
class ConsoleLine:
    """A line, without escape sequences; count, ns: the guest's time when its first byte was sent."""

    count: InstructionCount
    ns: GuestNanoseconds
    text: str


class ConsoleLines:
    """Lines of a machine's serial line, for whom `printed` is called."""

    def __init__(self, machine: Machine, most: int = MOST_LINES) -> None:
        self._machine = machine
        self._most = most // 2
        self._first: list[ConsoleLine] = []
        self._newest: deque[ConsoleLine] = deque(maxlen=most // 2)
        self._dropped = 0
        self._open = bytearray()
        self._began = InstructionCount(0), GuestNanoseconds(0)

    def clear(self) -> None:
        """Forget all."""
        self._first.clear()
        self._newest.clear()
        self._dropped = 0
        self._open.clear()

    def printed(self, data: bytes) -> None:
        """The guest prints."""
        for part in data.splitlines(keepends=True) if len(data) > 1 else (data,):
            if not self._open:
                count = self._machine.count
                self._began = InstructionCount(count), GuestNanoseconds(self._machine.clock.ns_at(count))
            if len(self._open) < LONGEST:
                self._open += part
            if part.endswith(b"\n"):
                self._close()

    def _close(self) -> None:
        line = self._line()
        self._open.clear()
        if not line.text:
            return
        if len(self._first) < self._most:
            self._first.append(line)
            return
        if len(self._newest) == self._most:
            self._dropped += 1
        self._newest.append(line)

    def _line(self) -> ConsoleLine:
        plain = _ESCAPES.sub(b"", bytes(self._open[:LONGEST]))
        return ConsoleLine(*self._began, plain.decode("utf-8", "replace").strip("\r\n\0 "))

    def lines(self) -> tuple[tuple[ConsoleLine, ...], int]:
        """Those that are not empty, the last one perhaps not finished; and how many were dropped between first and newest."""
        line = self._line()
        last = (line,) if line.text else ()
        return (*self._first, *self._newest, *last), self._dropped


__all__ = ["LONGEST", "MOST_LINES", "ConsoleLine", "ConsoleLines"]
