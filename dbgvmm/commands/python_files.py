"""Python files that extend a session: `--script FILE.py`, `source FILE.py`."""

from __future__ import annotations

import linecache
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from dbgvmm.commands.errors import CommandError, QuitRequest
from dbgvmm.commands.plural import several
from dbgvmm.commands.python_errors import ScriptFailed, describe_error
from dbgvmm.commands.session import Session
from dbgvmm.commands.table import AnyCommand, Command

SCRIPT_NAME: Final = "__dbgvmm__"
"""What `__name__` begins with in a script. In one that Python itself runs it is "__main__"."""


@dataclass(frozen=True)
class PythonFile:
    """A file that was run: the names of the commands that it has added, what its `main` returned."""

    path: str
    commands: tuple[str, ...]
    result: object = None

    def __str__(self) -> str:
        added = f"{several(len(self.commands), 'command')} added"
        return f"{self.path}: {added}: {', '.join(self.commands)}" if self.commands else f"{self.path}: done"


def run_file(session: Session, path: Path, arguments: tuple[str, ...] = (), *, main: bool = True) -> PythonFile:
    """Run a Python file with `machine` and `session` in it, add the commands that it defines, then call its main(machine).

    arguments: `sys.argv[1:]` meanwhile. Its folder comes first on `sys.path` meanwhile, so that it finds modules beside it. A
    file that is run again replaces its commands and hooks. Raises ScriptFailed, with the commands as they were; SystemExit and
    QuitRequest as the script does.
    """
    linecache.checkcache(str(path))
    try:
        code = compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
    except OSError as error:
        raise ScriptFailed(f"script {path}: {error.strerror}") from error
    except (SyntaxError, ValueError) as error:
        raise ScriptFailed(describe_error(error)) from error
    module = ModuleType(f"{SCRIPT_NAME}:{path.resolve()}")
    for hook in tuple(session.machine.hooks.active):
        if getattr(hook.handler, "__module__", None) == module.__name__:
            hook.remove()
    sys.modules[module.__name__] = module  # where dataclasses and type hints look for it
    names = vars(module)
    names.update(__file__=str(path), machine=session.machine, session=session)
    with _as_python_would(path, arguments), telling_errors():
        exec(code, names)
        commands = _add_commands(session, path, names)
        result = names["main"](session.machine) if main and callable(names.get("main")) else None
    return PythonFile(str(path), tuple(item.name for item in commands), result)


def _add_commands(session: Session, path: Path, names: dict[str, Any]) -> tuple[AnyCommand, ...]:
    """What the file has made with @command; what it has imported is somebody else's."""
    found = {id(item): item for item in names.values() if isinstance(item, Command) and _is_of(item, names)}
    commands = tuple(found.values())
    key = str(path.resolve())
    try:
        session.table.replace(session.loaded.get(key, ()), commands)
    except ValueError as error:
        raise ScriptFailed(f"{path}: {error}: choose another name") from error
    session.loaded[key] = commands
    return commands


def _is_of(item: AnyCommand, names: dict[str, Any]) -> bool:
    return getattr(item.function, "__globals__", None) is names


@contextmanager
def _as_python_would(path: Path, arguments: tuple[str, ...]) -> Iterator[None]:
    argv, search = sys.argv, sys.path[:]
    sys.argv = [str(path), *arguments]
    sys.path.insert(0, str(path.resolve().parent))
    try:
        yield
    finally:
        sys.argv, sys.path[:] = argv, search


@contextmanager
def telling_errors() -> Iterator[None]:
    """Whatever somebody's Python raises becomes ScriptFailed, but for the wish to end."""
    try:
        yield
    except (ScriptFailed, QuitRequest):
        raise
    except CommandError as error:
        raise ScriptFailed(describe_error(error).replace("CommandError: ", "")) from error
    except Exception as error:
        raise ScriptFailed(describe_error(error)) from error
