"""Backtraces: who called the code that the CPU stands in, by whatever tells it best at each frame."""

from __future__ import annotations

from dbgvmm.debug.unwind.frames import Backtrace, Registers, StackFrame
from dbgvmm.debug.unwind.methods import Base, Rule, RuleMethod, UnwindEnd, UnwindMethod
from dbgvmm.debug.unwind.stack import StackMemory, Unreadable
from dbgvmm.debug.unwind.unwinder import Unwinder

__all__ = [
    "Backtrace",
    "Base",
    "Registers",
    "Rule",
    "RuleMethod",
    "StackFrame",
    "StackMemory",
    "UnwindEnd",
    "UnwindMethod",
    "Unreadable",
    "Unwinder",
]
