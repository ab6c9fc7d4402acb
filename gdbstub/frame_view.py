"""`FrameView`: the trace frame that a debugger looks at, in place of the target."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gdbstub.errors import MemoryFault
from gdbstub.fields import encode_hex
from gdbstub.threadid import ThreadId
from gdbstub.tracing import Experiment, RegisterLayout, TraceFrame

if TYPE_CHECKING:
    from gdbstub.target import ReadMemory


class FrameView:
    """Answers from `frame`, which had this number in the buffer when it was selected."""

    def __init__(self, experiment: Experiment, number: int, frame: TraceFrame) -> None:
        self.number = number
        self.frame = frame
        self._experiment = experiment

    @property
    def layout(self) -> RegisterLayout:
        """Of the registers."""
        return self._experiment.layout

    def register_digits(self, number: int) -> bytes:
        """A register as `p` sends it."""
        data = self.frame.register(self.layout, number)
        return b"xx" * self.layout.sizes[number] if data is None else encode_hex(data)

    def read_memory(self, target: ReadMemory, thread: ThreadId, address: int, length: int) -> bytes:
        """What was collected; of read-only memory, what the target has now. Raises MemoryFault for anything else."""
        data = self.frame.read(address, length)
        if data:
            return data
        for start, end in self._experiment.readonly:
            if start <= address < end:
                return target.read_memory(thread, address, min(length, end - address))
        raise MemoryFault(address, f"memory at {address:#x} was not collected in this trace frame")
