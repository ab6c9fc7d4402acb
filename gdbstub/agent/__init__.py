"""Agent expressions: the bytecode in which gdb sends conditions, commands and what a tracepoint collects.

    program = decode(code)              # once: raises AgentError for what cannot be run
    evaluate(program, machine)          # as often as wanted

Source: "Debugging with GDB", appendix "The GDB Agent Expression Mechanism".
"""

from __future__ import annotations

from gdbstub.agent.formats import FormatError, format_values
from gdbstub.agent.interpreter import AgentMachine, EvaluationError, evaluate
from gdbstub.agent.opcodes import Op
from gdbstub.agent.program import AgentError, Instruction, Program, decode

__all__ = [
    "AgentError",
    "AgentMachine",
    "EvaluationError",
    "FormatError",
    "Instruction",
    "Op",
    "Program",
    "decode",
    "evaluate",
    "format_values",
]
