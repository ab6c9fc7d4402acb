"""Python at the prompt and from files: `py`, `info hooks`, and what `source` does with a .py file."""

from __future__ import annotations

import ast
import io
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import CodeType

from dbgvmm.commands.columns import columns
from dbgvmm.commands.errors import CommandError
from dbgvmm.commands.python_errors import PROMPT, ScriptFailed
from dbgvmm.commands.python_files import PythonFile, run_file, telling_errors
from dbgvmm.commands.session import Session
from dbgvmm.commands.table import command


@dataclass(frozen=True)
class PythonValue:
    """What an expression gave: `value` (None for a statement), and what was printed meanwhile, if nobody has seen that."""

    value: object
    output: str = ""

    def __str__(self) -> str:
        shown = "" if self.value is None else _shown(self.value)
        return "\n".join(text for text in (self.output.removesuffix("\n"), shown) if text)


def _shown(value: object) -> str:
    """As it is meant for people: our own data have a text, everything else has its repr."""
    return str(value) if type(value).__module__.startswith("dbgvmm.") else repr(value)


@command("py", aliases=("python",), resumes=True, raw=True)
def py(session: Session, code: str = "") -> PythonValue:
    """Run Python: an expression or a statement; alone, a Python prompt.

    `machine` and `session` are there, and what was assigned before. `machine.registers`, `machine.memory`, hooks and all the
    rest is explained in docs/scripting.md; `session.command("info tc")` gives any command's data.

    For example:

        py hex(machine.registers.cr3)
        py [hex(entry) for entry in machine.memory[0x1000:0x1010]]
        py machine.run(steps=10).text
    """
    if not session.host_access:
        raise CommandError("`py` runs code on the host, not in the guest: `dbgvmm run --gdb-python` allows that from gdb")
    if not code:
        if session.python_prompt is None:
            raise CommandError("`py` alone is for the prompt on a terminal: say what to do, as in `py machine.count`")
        session.python_prompt(session.namespace)
        return PythonValue(None)
    output = io.StringIO()
    seen = nullcontext() if session.shows_output else redirect_stdout(output)
    try:
        with _python_of_a_person(session), telling_errors(), seen:
            value = _run(session, code)
    except SystemExit as error:
        raise CommandError("`quit` leaves; exit() does not") from error
    return PythonValue(value, output.getvalue())


def _run(session: Session, code: str) -> object:
    compiled = _compile(code)
    value: object = eval(compiled, session.namespace)
    if value is not None:
        session.namespace["_"] = value
    return value


def _compile(code: str) -> CodeType:
    """An expression gives its value; what is none is a statement."""
    try:
        tree = ast.parse(code, PROMPT, "eval")
    except SyntaxError:
        return compile(code, PROMPT, "exec", dont_inherit=True)
    return compile(tree, PROMPT, "eval", dont_inherit=True)


@contextmanager
def _python_of_a_person(session: Session) -> Iterator[None]:
    """What somebody's code raises is told in one line, and Ctrl-C ends it at once."""
    busy, session.busy = session.busy, False
    try:
        yield
    except ScriptFailed as error:
        raise CommandError(str(error)) from error
    except KeyboardInterrupt as error:
        raise CommandError("interrupted by Ctrl-C") from error
    finally:
        session.busy = busy


def run_python_file(session: Session, path: Path) -> PythonFile:
    """What `source FILE.py` does. Raises CommandError."""
    try:
        with _python_of_a_person(session):
            return run_file(session, path)
    except SystemExit as error:
        raise CommandError(f"{path} has ended with status {error.code}") from error


@dataclass(frozen=True)
class HookLine:
    """A hook of a script: its handler's name, what it waits for, how often it was called."""

    name: str
    what: str
    calls: int


@dataclass(frozen=True)
class HookList:
    """The hooks that are in place, the oldest first."""

    hooks: tuple[HookLine, ...]

    def __str__(self) -> str:
        if not self.hooks:
            return "no script waits for anything"
        return columns(((one.name, one.what, f"{one.calls:,}") for one in self.hooks), ("handler", "waits for", "calls"))


@command("info hooks", aliases=("hooks",))
def info_hooks(session: Session) -> HookList:
    """List what Python code waits for: handlers of hooks, and loops over `machine.run_until(...)`.

    For example:

        info hooks
    """
    return HookList(tuple(HookLine(one.name, one.what, one.calls) for one in session.machine.hooks.active))
