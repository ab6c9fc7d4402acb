"""`Collector`: makes a frame out of a machine that stands still, as a tracepoint's actions say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gdbstub.agent import EvaluationError, Program, evaluate
from gdbstub.tracing.actions import Action, CollectExpression, CollectMemory, CollectRegisters, registers_of
from gdbstub.tracing.frames import TraceFrame
from gdbstub.tracing.host import TraceSource
from gdbstub.tracing.variables import Variables

_MASK64 = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Collected:
    """A frame; and why there is not more in it, if an expression could not be evaluated."""

    frame: TraceFrame
    error: str = ""


class FrameTooLarge(Exception):
    """More is to be collected than the whole buffer takes."""


class Collector:
    """Collects from `source`. Every frame has the variables that are built in."""

    def __init__(self, source: TraceSource, variables: Variables) -> None:
        self._source = source
        self._variables = variables

    def holds(self, condition: Program | None) -> bool:
        """Whether a condition holds. Raises EvaluationError."""
        return condition is None or evaluate(condition, _Collecting(self._source, self._variables, 0)) != 0

    def collect(self, tracepoint: int, actions: Sequence[Action], room: int) -> Collected:
        """The frame that `actions` make. Raises FrameTooLarge for more than `room` bytes of memory."""
        source = self._source
        address, count = source.place()
        mask, registers = source.peek_registers(registers_of(actions))
        into = _Collecting(source, self._variables, room)
        error = ""
        try:
            for action in actions:
                match action:
                    case CollectRegisters():
                        pass  # all at once, above
                    case CollectMemory(base, offset, length):
                        start = offset if base is None else source.read_register(base) + offset
                        into.collect_memory(start & _MASK64, length)
                    case CollectExpression(program):
                        evaluate(program, into)
        except EvaluationError as failure:
            error = str(failure)
        for variable in self._variables.builtin:
            into.collect_variable(variable.number)
        memory, values = tuple(into.memory), tuple(into.values.items())
        return Collected(TraceFrame(tracepoint, address, count, mask, registers, memory, values), error)


class _Collecting:
    """Implements `gdbstub.agent.AgentMachine`, with an open frame."""

    def __init__(self, source: TraceSource, variables: Variables, room: int) -> None:
        self._source = source
        self._variables = variables
        self._room = room
        self.memory: dict[tuple[int, bytes], None] = {}
        self.values: dict[int, int] = {}
        self.read_register = source.read_register
        self.read_memory = source.read_memory
        self.print = source.print
        self.variable = variables.value
        self.set_variable = variables.set

    def collect_memory(self, address: int, length: int) -> None:
        """What is accessible of it; what was collected already is not kept twice."""
        if not length:
            return
        if length > self._room:
            raise FrameTooLarge
        data = self._source.peek_memory(address, length)
        if data and (address, data) not in self.memory:
            self._room -= len(data)
            self.memory[address, data] = None

    def collect_variable(self, number: int) -> None:
        """Its value at the end of the program that asks for it."""
        self.values[number] = self._variables.value(number)
