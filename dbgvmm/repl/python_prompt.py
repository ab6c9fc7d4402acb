"""The Python prompt of `py`, on a terminal: ptpython's, with completion, history and several lines."""

from __future__ import annotations

from typing import Any


def python_prompt(names: dict[str, Any]) -> None:
    """Read Python from the terminal until Ctrl-D or exit(). `names` are what it knows, and keep what it assigns."""
    from ptpython.repl import embed  # half a second, which most sessions do not need

    from dbgvmm.repl.terminal import history_path

    history = history_path().with_name("python-history")
    try:
        history.parent.mkdir(parents=True, exist_ok=True)
        history.open("ab").close()
    except OSError:
        name = None  # a home that cannot be written to is no reason to have no prompt
    else:
        name = str(history)
    print("Python: `machine` and `session` are there; Ctrl-D leads back")
    try:
        embed(globals=names, locals=names, history_filename=name, title="dbgvmm")
    except SystemExit:
        return
