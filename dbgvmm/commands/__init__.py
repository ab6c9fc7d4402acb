"""Commands: one typed function each, for the REPL, for gdb's `monitor` and for Python.

from dbgvmm.commands import Session, command_table
session = Session(machine)
print(command_table().execute(session, "info registers"))     # as typed

from dbgvmm.commands.registers import info_registers
print(hex(info_registers(session).rip))                       # as called
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from types import ModuleType
from typing import Final

from dbgvmm.commands.errors import CommandError, QuitRequest
from dbgvmm.commands.session import Session
from dbgvmm.commands.table import AnyCommand, Command, CommandTable, command

_FAMILIES: Final = (
    "run_control", "breakpoints", "breakpoint_control", "catchpoints", "tracepoints", "registers", "values", "displays",
    "segments", "memory", "memory_search", "memory_edit", "memory_files", "symbols", "backtrace", "frames", "disassembly",
    "inside", "tc", "tc_code", "shadow", "shadow_space", "why", "exits", "top", "timeline", "counting", "hot", "sampling",
    "report", "settings", "time", "devices", "cpuid", "machine_view", "msrs", "guest_os", "python", "stepping", "qemu",
)  # fmt: skip
"""The modules that hold commands, in the order of the help."""


def families() -> tuple[ModuleType, ...]:
    """These modules. They are loaded when they are first wanted."""
    return tuple(import_module(f"{__name__}.{name}") for name in _FAMILIES)


def family_commands(family: ModuleType) -> Iterator[AnyCommand]:
    """The commands that a module defines, in its order."""
    for item in vars(family).values():
        if isinstance(item, Command) and item.function.__module__ == family.__name__:
            yield item


def command_table() -> CommandTable:
    """All commands, with `help` for them."""

    def load() -> Iterator[AnyCommand]:
        from dbgvmm.commands.help import help_command
        from dbgvmm.commands.source import source_command

        for family in families():
            yield from family_commands(family)
        yield source_command(lambda: table)
        yield help_command(lambda: table)

    table = CommandTable(load)
    return table


__all__ = [
    "CommandError",
    "CommandTable",
    "QuitRequest",
    "Session",
    "command",
    "command_table",
    "families",
    "family_commands",
]
