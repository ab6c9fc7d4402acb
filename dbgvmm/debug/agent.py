"""Agent expressions on a machine: what conditions and commands of gdb's breakpoints look at, evaluated in front of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from dbgvmm.bt.probes import Probe
from dbgvmm.cpu.bits import MASK64
from dbgvmm.debug.agent_compiler import compile_conditions
from dbgvmm.debug.gdb_layouts import LONG
from dbgvmm.debug.register_row import RegisterRow
from dbgvmm.mmu.linear import NotMapped
from gdbstub import BreakpointPrograms
from gdbstub.agent import EvaluationError, evaluate

if TYPE_CHECKING:
    from dbgvmm.machine import Machine

_WIDEST: Final = 64


class MachineAgent:
    """Implements `gdbstub.agent.AgentMachine`: registers and memory of the guest, and the variables of its tracepoints."""

    def __init__(self, machine: Machine, show: Callable[[str], None]) -> None:
        self._machine = machine
        self._show = show
        self.rows: tuple[RegisterRow, ...] = LONG.all
        """Registers by the debugger's numbers."""

    def read_register(self, number: int) -> int:
        """By gdb's number."""
        if number >= len(self.rows):
            raise EvaluationError(f"there is no register {number}")
        row = self.rows[number]
        if row.bits > _WIDEST:
            raise EvaluationError(f"register {row.name} has {row.bits} bits: too many for an agent expression")
        return row.read(self._machine)

    def read_memory(self, address: int, length: int) -> bytes:
        """At the current address space's linear addresses; nothing of it counts as an access of the guest."""
        try:
            return self._machine.memory.peek(address & MASK64, length)
        except NotMapped as error:
            raise EvaluationError(str(error)) from error

    def variable(self, number: int) -> int:
        """0 until it is set."""
        return self._machine.tracing.experiment.variables.value(number)

    def set_variable(self, number: int, value: int) -> None:
        """Remember it."""
        self._machine.tracing.experiment.variables.set(number, value)

    def collect_memory(self, address: int, length: int) -> None:
        """No trace frame is open."""
        raise EvaluationError("nothing can be collected outside a tracepoint")

    def collect_variable(self, number: int) -> None:
        """No trace frame is open."""
        raise EvaluationError("nothing can be collected outside a tracepoint")

    def print(self, text: str) -> None:
        """On the debugger's console."""
        self._show(text)


class ProgrammedCondition:
    """A breakpoint's condition made of gdb's programs: also runs the commands, where it has some."""

    def __init__(self, agent: MachineAgent, programs: BreakpointPrograms) -> None:
        self._agent = agent
        self._programs = programs
        self.probe: Probe | None = None
        if programs.conditions and agent.rows is LONG.all:  # only 64-bit code is translated
            self.probe = compile_conditions(programs.conditions)

    def __call__(self) -> bool:
        """Whether to stop. An expression that cannot be evaluated stops, so that its user can see why."""
        agent, programs = self._agent, self._programs
        try:
            if programs.conditions and not any(evaluate(program, agent) for program in programs.conditions):
                return False
            for program in programs.commands:
                evaluate(program, agent)
        except EvaluationError as error:
            agent.print(f"dbgvmm: the breakpoint's condition or command failed: {error}\n")
            return True
        return not programs.commands


__all__ = ["MachineAgent", "ProgrammedCondition"]
