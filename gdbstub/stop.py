"""Why a target stopped (GDB manual, "Stop Reply Packets"), one dataclass per reason.

A target hands one of these to `Stub.report_stop` and gives one from `stop_reason`. Each leaves the program counter
where the next instruction will be fetched: for a breakpoint that is the breakpoint's own address.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum

from gdbstub.threadid import ONLY_THREAD, ThreadId


class Signal(IntEnum):
    """Signal numbers as gdb numbers them, whatever the target's or the host's (gdb/signals.def)."""

    NONE = 0
    HUP = 1
    INT = 2
    QUIT = 3
    ILL = 4
    TRAP = 5
    ABRT = 6
    EMT = 7
    FPE = 8
    KILL = 9
    BUS = 10
    SEGV = 11
    SYS = 12
    TERM = 15


class Access(Enum):
    """What a watchpoint watches for; the value is its name in a stop reply."""

    WRITE = "watch"
    READ = "rwatch"
    ANY = "awatch"


@dataclass(frozen=True, slots=True)
class Signalled:
    """A thread got a signal: the reason for anything that has no reason of its own."""

    signal: int = Signal.TRAP
    thread: ThreadId = ONLY_THREAD


@dataclass(frozen=True, slots=True)
class Stepped:
    """A single or range step is done."""

    thread: ThreadId = ONLY_THREAD


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The debugger's interrupt stopped it."""

    thread: ThreadId = ONLY_THREAD


@dataclass(frozen=True, slots=True)
class BreakpointHit:
    """About to execute the instruction under a breakpoint."""

    thread: ThreadId = ONLY_THREAD
    hardware: bool = False


@dataclass(frozen=True, slots=True)
class WatchpointHit:
    """An access to watched memory; `address` is the data address, `access` the kind of the watchpoint that hit."""

    address: int
    access: Access = Access.WRITE
    thread: ThreadId = ONLY_THREAD


@dataclass(frozen=True, slots=True)
class Exited:
    """The process (the machine) ended by itself with a status of 0 to 255."""

    status: int = 0
    pid: int = 1


@dataclass(frozen=True, slots=True)
class Terminated:
    """The process (the machine) was ended by a signal."""

    signal: int = Signal.KILL
    pid: int = 1


@dataclass(frozen=True, slots=True)
class Executed:
    """Another program, or the same under another target description, is about to run (see `ExecEvents`). All that the
    debugger had set is gone; it reads file and description again, sets it anew, and goes on by itself.

    path: the program's file.
    """

    path: str
    thread: ThreadId = ONLY_THREAD


ThreadStop = Signalled | Stepped | Interrupted | BreakpointHit | WatchpointHit | Executed
ProcessEnd = Exited | Terminated
StopReason = ThreadStop | ProcessEnd
