"""Exit statuses of the command line (numbers above 63 are those of sysexits.h)."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from dbgvmm.debug.stops import Stop, StopKind


class ExitStatus(IntEnum):
    """What the shell sees. A guest that leaves through isa-debug-exit gives its own."""

    OK = 0
    USAGE = 64
    COMMAND_FAILED = 65
    UNUSABLE_FILE = 66
    UNSUPPORTED = 69
    TRIPLE_FAULT = 70
    LIMIT = 72
    INTERRUPTED = 130


STATUS_MEANINGS: Final = {
    ExitStatus.OK: "power-off, reset, a halt with interrupts off; leaving the REPL",
    ExitStatus.USAGE: "bad usage",
    ExitStatus.COMMAND_FAILED: "a command (of --command or -e, or of a pipe to --repl) or a script failed",
    ExitStatus.UNUSABLE_FILE: "a file that cannot be used",
    ExitStatus.UNSUPPORTED: "a CPU mode that is not emulated",
    ExitStatus.TRIPLE_FAULT: "triple fault",
    ExitStatus.LIMIT: "the limit of --max-insns",
    ExitStatus.INTERRUPTED: "Ctrl-C, ^A x, or a kill by gdb",
}
"""For the help."""
_OF_KIND: Final = {
    StopKind.UNSUPPORTED: ExitStatus.UNSUPPORTED,
    StopKind.TRIPLE_FAULT: ExitStatus.TRIPLE_FAULT,
    StopKind.LIMIT: ExitStatus.LIMIT,
    StopKind.INTERRUPT: ExitStatus.INTERRUPTED,
    StopKind.QUIT: ExitStatus.INTERRUPTED,
    StopKind.SCRIPT_ERROR: ExitStatus.COMMAND_FAILED,
}


def status_of(stop: Stop | None) -> int:
    """The exit status for the last stop of a run; None is a run that has not begun."""
    if stop is None:
        return ExitStatus.OK
    return stop.exit_code & 0xFF if stop.kind is StopKind.EXIT else _OF_KIND.get(stop.kind, ExitStatus.OK)
