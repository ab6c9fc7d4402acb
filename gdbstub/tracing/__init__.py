"""Tracepoints without any input or output: their definitions, trace state variables, runs, and the frames collected.

    experiment = Experiment(host)                   # the target's, for all its life: `host` is its side of it
    experiment.define(Tracepoint(Key(1, 0x1000), Plan(actions=(CollectRegisters(0b1),))), enabled=True)
    experiment.start()
    experiment.hit(Key(1, 0x1000))                  # the host, whenever the machine comes there
    experiment.buffer.frame(0)

Source: "Debugging with GDB", chapter "Tracepoints" and sections "Tracepoint Packets" and "Trace File Format".
"""

from __future__ import annotations

from gdbstub.tracing.actions import (
    Action,
    CollectExpression,
    CollectMemory,
    CollectRegisters,
    register_numbers,
    registers_of,
)
from gdbstub.tracing.buffer import DEFAULT_SIZE, LARGEST_SIZE, TraceBuffer
from gdbstub.tracing.collector import Collected, Collector, FrameTooLarge
from gdbstub.tracing.definition import Key, Plan, Source, Tracepoint
from gdbstub.tracing.experiment import Experiment, Progress
from gdbstub.tracing.frames import RegisterLayout, TraceFrame
from gdbstub.tracing.host import TraceHost, TraceSource
from gdbstub.tracing.status import Ended, TraceEnd
from gdbstub.tracing.variables import Variable, Variables

__all__ = [
    "DEFAULT_SIZE",
    "LARGEST_SIZE",
    "Action",
    "CollectExpression",
    "CollectMemory",
    "CollectRegisters",
    "Collected",
    "Collector",
    "Ended",
    "Experiment",
    "FrameTooLarge",
    "Key",
    "Plan",
    "Progress",
    "RegisterLayout",
    "Source",
    "TraceBuffer",
    "TraceEnd",
    "TraceFrame",
    "TraceHost",
    "TraceSource",
    "Tracepoint",
    "Variable",
    "Variables",
    "register_numbers",
    "registers_of",
]
