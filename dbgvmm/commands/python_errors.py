"""An error of somebody's Python in one line: where in the script, and what."""

from __future__ import annotations

import linecache
import sysconfig
import traceback
from pathlib import Path
from typing import Final

import dbgvmm

_NOT_THE_SCRIPT: Final = (
    Path(dbgvmm.__file__).parent.resolve(),
    *(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")),
)
PROMPT: Final = "<py>"
"""The file name of what was typed."""


class ScriptFailed(Exception):
    """A script has raised something, or is no Python. The message is one line, its own line number in it."""


def describe_error(error: BaseException) -> str:
    """ "FILE:LINE: NAME: what it says", with the innermost line of the script itself: not of ours, nor of a library."""
    if isinstance(error, SyntaxError) and error.filename is not None:
        where = "" if error.filename == PROMPT else f"{error.filename}:{error.lineno}: "
        return f"{where}{type(error).__name__}: {error.msg}"
    where = line = ""
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename == PROMPT or _is_of_a_script(frame.filename):
            where = "" if frame.filename == PROMPT else f"{frame.filename}:{frame.lineno}: "
            line = linecache.getline(frame.filename, frame.lineno or 0).strip()
    text = " ".join(str(error).split())
    if isinstance(error, AssertionError) and not text:
        text = line.removeprefix("assert ")
    name = type(error).__name__
    return f"{where}{name}: {text}" if text else f"{where}{name}"


def _is_of_a_script(filename: str) -> bool:
    path = Path(filename)
    return not filename.startswith("<") and not any(path.resolve().is_relative_to(folder) for folder in _NOT_THE_SCRIPT)
