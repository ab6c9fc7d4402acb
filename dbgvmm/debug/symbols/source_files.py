"""The text of source files, as line tables name them: read from the host when somebody wants to see a line."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from dbgvmm.debug.symbols.line_unit import SourceLine

LONGEST_SOURCE: Final = 16 << 20
"""Bytes of a source file that are read."""
_MOST_KEPT: Final = 8


class SourceError(Exception):
    """A source file is not there, or is not what was compiled. The message is one line."""


class SourceFiles:
    """Source files by path. The latest few are kept, as long as they do not change."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[tuple[int, int], tuple[str, ...]]] = {}

    def text(self, line: SourceLine) -> tuple[str, ...]:
        """All lines of the file that a line is in. Raises SourceError."""
        path = Path(line.path)
        try:
            if not path.is_file():
                raise SourceError(f"{line} is known, but there is no file {line.path} to show")
            facts = path.stat()
            state = facts.st_mtime_ns, facts.st_size
            kept = self._kept.get(line.path)
            if kept is not None and kept[0] == state:
                return kept[1]
            with path.open("rb") as file:
                text = tuple(file.read(LONGEST_SOURCE).decode("utf-8", "replace").splitlines())
        except (OSError, ValueError) as error:
            raise SourceError(f"{line} is known, but {line.path} cannot be read: {error}") from error
        while len(self._kept) >= _MOST_KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[line.path] = state, text
        return text

    def line(self, line: SourceLine) -> str:
        """The line itself, without the blanks around it. Raises SourceError."""
        text = self.text(line)
        if line.line > len(text):
            raise SourceError(f"{line.path} has {len(text)} lines, not {line.line}: it is not what was compiled")
        return text[line.line - 1].strip()
