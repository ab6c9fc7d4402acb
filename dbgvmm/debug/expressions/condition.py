"""An expression as a breakpoint's condition: in the translation, where bytecode can say it (debug/agent_compiler.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbgvmm.bt.probes import Probe
from dbgvmm.debug.agent_compiler import compile_conditions
from dbgvmm.debug.expressions.bytecode import NoBytecode, program_of
from dbgvmm.debug.expressions.evaluation import evaluate
from dbgvmm.debug.expressions.names import Values
from dbgvmm.debug.expressions.tokens import ExpressionError
from dbgvmm.debug.expressions.tree import Node
from gdbstub.agent import AgentError

if TYPE_CHECKING:
    from dbgvmm.machine import Machine


class ExpressionCondition:
    """Holds where the expression is not 0. Implements `CompiledCondition`.

    One that has no value (it reads what is not mapped) stops, so that its user can see why: `problem` says it.
    """

    def __init__(self, text: str, node: Node, machine: Machine, values: Values) -> None:
        self.text = text
        self.problem = ""
        self._node = node
        self._machine = machine
        self._values = values
        self.probe: Probe | None = _probe(node)

    def __call__(self) -> bool:
        """Whether to stop."""
        try:
            self.problem = ""
            return evaluate(self._node, self._machine, self._values) != 0
        except ExpressionError as error:
            self.problem = str(error)
            return True


def _probe(node: Node) -> Probe | None:
    try:
        return compile_conditions((program_of(node),))
    except (NoBytecode, AgentError):
        return None
