"""The REPL: reads lines for the command table. It has no commands and no logic of its own."""

from __future__ import annotations

from dbgvmm.repl.live import LiveScreen
from dbgvmm.repl.loop import GivesWay, LineReader, ReplLoop
from dbgvmm.repl.plain import PlainReader
from dbgvmm.repl.python_prompt import python_prompt
from dbgvmm.repl.screen import PlainScreen, Screen, TerminalScreen
from dbgvmm.repl.startup import startup_lines, startup_path
from dbgvmm.repl.status import status_line
from dbgvmm.repl.terminal import TerminalReader, history_path

__all__ = [
    "GivesWay",
    "LineReader",
    "LiveScreen",
    "PlainReader",
    "PlainScreen",
    "ReplLoop",
    "Screen",
    "TerminalReader",
    "TerminalScreen",
    "history_path",
    "python_prompt",
    "startup_lines",
    "startup_path",
    "status_line",
]
