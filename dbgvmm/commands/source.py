"""`source`: command lines or Python from a file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dbgvmm.commands.errors import CommandError
from dbgvmm.commands.python import run_python_file
from dbgvmm.commands.python_files import PythonFile
from dbgvmm.commands.session import Session
from dbgvmm.commands.table import AnyCommand, CommandTable, command

_DEEPEST: Final = 10
_LARGEST: Final = 1 << 20


@dataclass(frozen=True)
class Sourced:
    """What the lines of a file gave, one result for each that gave one."""

    path: Path
    results: tuple[object, ...]

    def __str__(self) -> str:
        return "\n".join(map(str, self.results))


def read_lines(path: Path) -> tuple[str, ...]:
    """A file's command lines. Raises CommandError."""
    try:
        if path.stat().st_size > _LARGEST:
            raise CommandError(f"{path} is too large for a file of commands")
        return tuple(path.read_text(encoding="utf-8").splitlines())
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CommandError(f"{path} is no text file") from error


def source_command(find_table: Callable[[], CommandTable]) -> AnyCommand:
    """The `source` command for the table that `find_table` gives (it is in that table itself)."""

    @command("source", aliases=(".",), resumes=True)
    def source(session: Session, file: Path) -> Sourced | PythonFile:
        """Run the commands in FILE, line by line, up to the first that fails; or Python, if it is FILE.py.

        A line that begins with # is a comment. In a Python file `machine` and `session` are names, and its `main(machine)` is
        called if it has one; the commands that it defines with `@command` are there from then on. One that is read again
        replaces its commands and hooks. docs/scripting.md has an example.

        For example:

            source commands.txt
            source mykernel.py
        """
        if file.suffix == ".py":
            return run_python_file(session, file)
        table = find_table()
        if session.sourcing >= _DEEPEST:
            raise CommandError(f"{file}: files that `source` files are nested more than {_DEEPEST} deep")
        session.sourcing += 1
        results: list[object] = []
        try:
            for number, line in enumerate(read_lines(file), 1):
                try:
                    result = table.execute(session, line)
                except CommandError as error:
                    before = f"{len(results)} commands before it went well" if results else "it is the first"
                    raise CommandError(f"{file}:{number}: {error} ({before})") from error
                if result is not None:
                    results.append(result)
        finally:
            session.sourcing -= 1
        return Sourced(file, tuple(results))

    return source
