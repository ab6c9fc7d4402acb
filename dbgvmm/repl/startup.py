"""The startup file: commands that a person wants before the first prompt, from their own configuration and nowhere else.

A file in the current directory is not read: who sends a kernel should not thereby run commands on somebody's host.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from dbgvmm.commands import CommandError
from dbgvmm.commands.source import read_lines


def startup_path() -> Path:
    """dbgvmm/startup below XDG_CONFIG_HOME (~/.config)."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    config = Path(base) if base.startswith("/") else Path.home() / ".config"
    return config / "dbgvmm" / "startup"


def startup_lines() -> tuple[str, ...]:
    """Its lines; none if there is no such file. Raises CommandError for one that somebody else could have written."""
    path = startup_path()
    try:
        facts = path.stat()
    except OSError:
        return ()
    if not stat.S_ISREG(facts.st_mode):
        raise CommandError(f"{path} is no file: it is not read")
    if facts.st_uid not in (os.getuid(), 0) or facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise CommandError(f"{path} is not read, since others can write it: chmod go-w, or --no-startup to say nothing")
    return read_lines(path)
