"""Why the machine stopped: a value that the command line, the REPL and gdb all read."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from dbgvmm.bt.watching import Watch


class StopKind(enum.Enum):
    """The kinds of stop. `final` ones end the run: there is nothing to continue."""

    STEP = "step"
    BREAKPOINT = "breakpoint"
    WATCHPOINT = "watchpoint"
    CATCHPOINT = "catchpoint"
    MODE = "mode"
    INTERRUPT = "interrupt"
    LIMIT = "limit"
    EXIT = "exit"
    POWER_OFF = "power-off"
    RESET = "reset"
    HALT = "halt"
    TRIPLE_FAULT = "triple-fault"
    UNSUPPORTED = "unsupported"
    QUIT = "quit"
    SCRIPT = "script"
    SCRIPT_ERROR = "script-error"

    @property
    def final(self) -> bool:
        """Whether the guest cannot go on from here."""
        return self in _FINAL


_FINAL = frozenset(
    (StopKind.EXIT, StopKind.POWER_OFF, StopKind.RESET, StopKind.HALT, StopKind.TRIPLE_FAULT, StopKind.UNSUPPORTED)
)


@dataclass(frozen=True, slots=True)
class Stop:
    """One stop: what kind, in words, and for EXIT the guest's exit code; `address` is a breakpoint's or the watched one;
    `watch` is the watchpoint that was hit."""

    kind: StopKind
    text: str
    exit_code: int = 0
    address: int | None = None
    watch: Watch | None = None
