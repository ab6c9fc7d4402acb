"""Commands: one typed function each, for the REPL, for gdb's `monitor` and for Python.

from dbgvmm.commands import Session, command_table
session = Session(machine)
print(command_table().execute(session, "info registers"))     # as typed

from dbgvmm.commands.registers import info_registers
print(hex(info_registers(session).rip))                       # as called
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Final

from dbgvmm.commands import (
    backtrace,
    breakpoint_control,
    breakpoints,
    catchpoints,
    counting,
    cpuid,
    devices,
    disassembly,
    displays,
    exits,
    frames,
    guest_os,
    hot,
    inside,
    machine_view,
    memory,
    memory_edit,
    memory_files,
    memory_search,
    msrs,
    python,
    qemu,
    registers,
    report,
    run_control,
    sampling,
    segments,
    settings,
    shadow,
    shadow_space,
    stepping,
    symbols,
    tc,
    tc_code,
    time,
    timeline,
    top,
    tracepoints,
    values,
    why,
)
from dbgvmm.commands.errors import CommandError, QuitRequest
from dbgvmm.commands.help import help_command
from dbgvmm.commands.session import Session
from dbgvmm.commands.source import source_command
from dbgvmm.commands.table import AnyCommand, Command, CommandTable, command

FAMILIES: Final[tuple[ModuleType, ...]] = (
    run_control,
    breakpoints,
    breakpoint_control,
    catchpoints,
    tracepoints,
    registers,
    values,
    displays,
    segments,
    memory,
    memory_search,
    memory_edit,
    memory_files,
    symbols,
    backtrace,
    frames,
    disassembly,
    inside,
    tc,
    tc_code,
    shadow,
    shadow_space,
    why,
    exits,
    top,
    timeline,
    counting,
    hot,
    sampling,
    report,
    settings,
    time,
    devices,
    cpuid,
    machine_view,
    msrs,
    guest_os,
    python,
    stepping,
    qemu,
)
"""The modules that hold commands, in the order of the help."""


def family_commands(family: ModuleType) -> Iterator[AnyCommand]:
    """The commands that a module defines, in its order."""
    for item in vars(family).values():
        if isinstance(item, Command) and item.function.__module__ == family.__name__:
            yield item


def command_table() -> CommandTable:
    """All commands, with `help` for them."""
    commands = [item for family in FAMILIES for item in family_commands(family)]
    table = CommandTable([*commands, source_command(lambda: table), help_command(lambda: table)])
    return table


__all__ = [
    "FAMILIES",
    "CommandError",
    "CommandTable",
    "QuitRequest",
    "Session",
    "command",
    "command_table",
    "family_commands",
]
