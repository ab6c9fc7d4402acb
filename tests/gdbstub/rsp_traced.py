"""The example machine with tracepoints: a whole `TraceHost` in a few lines."""

from __future__ import annotations

from rsp_machine import BASE, RIP, SIZE, Machine

from gdbstub import ONLY_THREAD, MemoryFault, StopReason, ThreadId
from gdbstub.agent import EvaluationError
from gdbstub.tracing import Experiment, Tracepoint, Variable, register_numbers


class Source:
    """What a collector sees of the machine's one CPU."""

    def __init__(self, machine: Traced) -> None:
        self._machine = machine
        self.printed = ""

    def place(self) -> tuple[int, int]:
        return self._machine.cpus[ONLY_THREAD].values[RIP], self._machine.executed

    def peek_registers(self, mask: int) -> tuple[int, bytes]:
        values = {number: self._machine.read_register(ONLY_THREAD, number) for number in register_numbers(mask)}
        there = {number: value for number, value in values.items() if value is not None}
        return sum(1 << number for number in there), b"".join(there.values())

    def peek_memory(self, address: int, length: int) -> bytes:
        try:
            return self._machine.read_memory(ONLY_THREAD, address, length)
        except MemoryFault:
            return b""

    def read_register(self, number: int) -> int:
        return self._machine.cpus[ONLY_THREAD].values[number]

    def read_memory(self, address: int, length: int) -> bytes:
        if not BASE <= address <= BASE + SIZE - length:
            raise EvaluationError(f"cannot read {address:#x}")
        return self.peek_memory(address, length)

    def print(self, text: str) -> None:
        self.printed += text


class Traced(Machine):
    """Implements `Tracepoints`, and the host of its own experiment."""

    block_registers = len(Machine.register_sizes)
    pc_register = RIP

    def __init__(self, *arguments: bytes) -> None:
        super().__init__(*arguments)
        self.executed = 0
        self.installed: list[Tracepoint] = []
        self.source = Source(self)
        self.experiment = Experiment(self, (Variable(1, "trace_timestamp", read=lambda: self.executed),))

    def install(self, tracepoint: Tracepoint) -> None:
        self.installed.append(tracepoint)

    def remove(self, tracepoint: Tracepoint) -> None:
        self.installed.remove(tracepoint)

    def follow(self) -> None:
        pass  # `_execute` looks at `stepping` each time

    def microseconds(self) -> int:
        return 1000 + self.executed

    def detach(self) -> None:
        super().detach()
        self.experiment.debugger_gone()

    def _execute(self, thread: ThreadId, cpu: list[int]) -> StopReason | None:
        for tracepoint in list(self.installed):
            if tracepoint.address == cpu[RIP]:
                self.experiment.hit(tracepoint.key)
        reason = super()._execute(thread, cpu)
        self.executed += 1
        if self.experiment.stepping:
            self.experiment.stepped()
        return reason
