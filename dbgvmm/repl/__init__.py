"""The REPL: reads lines for the command table. It has no commands and no logic of its own."""

from __future__ import annotations

from dbgvmm.repl.live import LiveScreen
from dbgvmm.repl.loop import DebuggerArrived, LineReader, ReplLoop
from dbgvmm.repl.plain import PlainReader
from dbgvmm.repl.status import status_line
from dbgvmm.repl.terminal import TerminalReader, history_path

__all__ = [
    "DebuggerArrived",
    "LineReader",
    "LiveScreen",
    "PlainReader",
    "ReplLoop",
    "TerminalReader",
    "history_path",
    "status_line",
]
