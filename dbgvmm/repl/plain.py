"""Lines from a pipe or a file: the REPL for scripts."""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Sequence
from typing import Final

from dbgvmm.repl.loop import GivesWay

_CHUNK: Final = 4096
_LOOK_AGAIN: Final = 0.25
"""Seconds. A signal that comes right before a wait does not end it: so no wait is endless."""


class PlainReader:
    """Reads `fileno` itself, unbuffered, so that it can wait for a debugger (descriptors `others`) at the same time.

    serve: called when one of these is ready; whether reading has to give way.
    """

    def __init__(
        self,
        fileno: int,
        others: Callable[[], Sequence[int]] = tuple,
        serve: Callable[[], bool] = lambda: True,
    ) -> None:
        self._fileno = fileno
        self._others = others
        self._serve = serve
        self._buffer = b""
        self._ended = False

    def read_line(self) -> str | None:
        """The next line; a last one without a line end counts too."""
        while b"\n" not in self._buffer and not self._ended:
            others = list(self._others())
            ready = select.select([self._fileno, *others], [], [], _LOOK_AGAIN)[0]
            if self._fileno in ready:
                data = os.read(self._fileno, _CHUNK)
                self._ended = not data
                self._buffer += data
            elif ready and self._serve():
                raise GivesWay
        if not self._buffer:
            return None
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode("utf-8", "replace").rstrip("\r")
