"""Thread-ids, with and without the multiprocess extension (GDB manual, "Packets", thread-id syntax).

`p<pid>.<tid>`, `p<pid>` or `<tid>`, in hexadecimal; -1 means all and 0 means any.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gdbstub.errors import MalformedPacket

ANY = 0
ALL = -1

_THREAD_ID = re.compile(
    rb"(?:p(?P<pid>-1|[0-9a-fA-F]{1,16})(?:\.(?P<ptid>-1|[0-9a-fA-F]{1,16}))?"
    rb"|(?P<tid>-1|[0-9a-fA-F]{1,16}))"
)


@dataclass(frozen=True, slots=True, order=True)
class ThreadId:
    """One thread (a CPU, for a machine emulator) of one process (an address space or machine). Both are above 0."""

    pid: int
    tid: int

    def __post_init__(self) -> None:
        if self.pid < 1 or self.tid < 1:
            raise ValueError(f"a thread-id needs a pid and a tid above 0, not {self.pid}.{self.tid}")

    def encode(self, *, multiprocess: bool) -> bytes:
        """As sent to the debugger."""
        return b"p%x.%x" % (self.pid, self.tid) if multiprocess else b"%x" % self.tid


# What a target without the Threads protocol is: one thread in one process.
ONLY_THREAD = ThreadId(1, 1)


@dataclass(frozen=True, slots=True)
class ThreadSpec:
    """What a debugger names: one thread, any thread (0) or all of them (-1)."""

    pid: int = ANY
    tid: int = ANY

    def matches(self, thread: ThreadId) -> bool:
        """Whether `thread` is (one of) those named."""
        return self.pid in (ANY, ALL, thread.pid) and self.tid in (ANY, ALL, thread.tid)

    @property
    def names_one(self) -> bool:
        """Whether one thread is meant, not any or all."""
        return self.tid not in (ANY, ALL)


def parse_thread(text: bytes) -> ThreadSpec:
    """Parse a thread-id field; MalformedPacket if it isn't one."""
    match = _THREAD_ID.fullmatch(text)
    if match is None:
        raise MalformedPacket(f"{text!r} is not a thread-id")
    if match["tid"] is not None:
        return ThreadSpec(ANY, int(match["tid"], 16))
    # "p<pid>" alone means all threads of that process.
    return ThreadSpec(int(match["pid"], 16), ALL if match["ptid"] is None else int(match["ptid"], 16))
