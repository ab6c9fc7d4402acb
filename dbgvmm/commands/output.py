"""What a command has to say, in pieces: long output is shown as it comes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final

_LINES_PER_PIECE: Final = 256


class Lines:
    """Output of many lines, made one after the other each time somebody reads them; `str` is all of them.

    records: the same as data, for `--json` and scripts; without it the lines are the data.
    """

    def __init__(self, make: Callable[[], Iterator[str]], records: Callable[[], Iterable[object]] | None = None) -> None:
        self._make = make
        self._records = records

    def __iter__(self) -> Iterator[str]:
        return self._make()

    def __str__(self) -> str:
        return "\n".join(self)

    def data(self) -> list[object]:
        """What the lines say, a record (or a line) each."""
        return list(self._make() if self._records is None else self._records())


def pieces(result: object) -> Iterator[str]:
    """The text of a command's result, in parts that are worth showing by themselves; each is whole lines."""
    if not isinstance(result, Lines):
        text = "" if result is None else str(result)
        if text:
            yield text
        return
    lines = iter(result)
    while part := list(islice(lines, _LINES_PER_PIECE)):
        yield "\n".join(part)
