"""What an experiment needs of the machine that it is carried out on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from gdbstub.tracing.definition import Tracepoint


class TraceSource(Protocol):
    """What a collector looks at while the machine stands still in front of an instruction. Nothing here changes it.

    Methods raise `gdbstub.agent.EvaluationError` for what cannot be read.
    """

    def place(self) -> tuple[int, int]:
        """The address of that instruction, and the target's clock in retired instructions."""

    def peek_registers(self, mask: int) -> tuple[int, bytes]:
        """The raw bytes of the registers in `mask`, one behind the other; and the mask of those, if some are
        unavailable."""

    def peek_memory(self, address: int, length: int) -> bytes:
        """Memory, as much of it in one piece as is accessible; possibly nothing. No error."""

    def read_register(self, number: int) -> int:
        """A register's value, for expressions and base addresses."""

    def read_memory(self, address: int, length: int) -> bytes:
        """Exactly `length` bytes, for expressions."""

    def print(self, text: str) -> None:
        """Show text to the debugger's user."""


class TraceHost(Protocol):
    """The machine: where tracepoints are put into its code."""

    @property
    def register_sizes(self) -> Sequence[int]:
        """Bytes of each register, by the debugger's numbers."""

    @property
    def block_registers(self) -> int:
        """How many registers, from number 0 on, the `g` packet has."""

    @property
    def pc_register(self) -> int:
        """The number of the program counter."""

    @property
    def source(self) -> TraceSource:
        """What is collected from."""

    def install(self, tracepoint: Tracepoint) -> None:
        """From now on call `Experiment.hit` whenever the machine is about to execute the instruction there, once for each
        arrival. (A host may also collect by itself, and hand its frames to `Experiment.record`.)"""

    def remove(self, tracepoint: Tracepoint) -> None:
        """No more."""

    def follow(self) -> None:
        """Call `Experiment.stepped` behind each instruction from now on, as long as `Experiment.stepping`."""

    def microseconds(self) -> int:
        """The time, as the target knows it."""
