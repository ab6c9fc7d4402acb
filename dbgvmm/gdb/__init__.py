"""Scripted debugging through the real gdb: `GdbSession` starts a guest and gdb, and gives typed results.

`dbgvmm.Machine` is the way to script the machine itself, in the same process; this is for what gdb knows: source lines,
variables, types, stacks.
"""

from __future__ import annotations

from dbgvmm.gdb.errors import CommandFailed, GdbGone, GdbMissing, SessionError, TimedOut, VmFailed
from dbgvmm.gdb.records import Answer, Record
from dbgvmm.gdb.results import Breakpoint, Frame, Reason, Stop, Watched
from dbgvmm.gdb.session import GdbSession

__all__ = [
    "GdbSession",
    "Stop",
    "Reason",
    "Frame",
    "Breakpoint",
    "Watched",
    "Answer",
    "Record",
    "SessionError",
    "CommandFailed",
    "TimedOut",
    "GdbGone",
    "GdbMissing",
    "VmFailed",
]
