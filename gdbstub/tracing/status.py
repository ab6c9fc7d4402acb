"""Why no trace run is going on (GDB manual, "Tracepoint Packets", qTStatus)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from gdbstub.fields import encode_hex


class Ended(Enum):
    """Reasons; the value is the word in `qTStatus`."""

    NOT_RUN = "tnotrun"
    STOPPED = "tstop"
    FULL = "tfull"
    DISCONNECTED = "tdisconnected"
    PASSES = "tpasscount"
    ERROR = "terror"


@dataclass(frozen=True, slots=True)
class TraceEnd:
    """A reason, and for some of them a text (what the user noted, what the error was) and the number of a tracepoint."""

    reason: Ended = Ended.NOT_RUN
    text: str = ""
    tracepoint: int = 0

    def encode(self) -> bytes:
        """As `qTStatus` has it."""
        word = self.reason.value.encode()
        if self.reason in (Ended.STOPPED, Ended.ERROR):
            return b"%s:%s:%x" % (word, encode_hex(self.text.encode()), self.tracepoint)
        return b"%s:%x" % (word, self.tracepoint)

    def __str__(self) -> str:
        match self.reason:
            case Ended.NOT_RUN:
                return "no trace was run yet"
            case Ended.STOPPED:
                return "stopped by the user" + (f" ({self.text})" if self.text else "")
            case Ended.FULL:
                return "the buffer is full"
            case Ended.DISCONNECTED:
                return "the debugger has gone"
            case Ended.PASSES:
                return f"tracepoint {self.tracepoint} has been hit as often as was asked for"
            case Ended.ERROR:
                return f"tracepoint {self.tracepoint} failed: {self.text}"
