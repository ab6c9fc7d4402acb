"""docs/gdb-packets.md, from the stub's table: `python -m dbgvmm.debug.packet_reference > docs/gdb-packets.md`."""

from __future__ import annotations

import inspect
import sys

from dbgvmm.debug.gdb_description import GDB_REGISTERS, SYSTEM_FEATURE
from dbgvmm.debug.gdb_target import GdbTarget
from gdbstub import ALL_ROWS, Row
from gdbstub.packets import (
    base,
    breakpoints,
    files,
    lldb,
    memory,
    monitor,
    nonstop,
    qemu,
    queries,
    registers,
    resume,
    search,
    threads,
    trace_frames,
    trace_runs,
    trace_variables,
    tracepoints,
    xfer,
)

_FAMILIES = (
    base, queries, registers, memory, threads, resume, nonstop, breakpoints, tracepoints, trace_runs, trace_frames,
    trace_variables, xfer, files, search, qemu, lldb, monitor,
)  # fmt: skip
_HEAD = """\
# Packets of the gdb remote protocol

What `dbgvmm run --gdb` understands. Everything else gets the empty reply, which means "not supported". A packet is
served if the target has the capability that it needs (`gdbstub/target.py`); those of a machine are in
`dbgvmm/debug/gdb_target.py`. The stub can do more than this machine asks of it: "no" in the last column.

This page is made by `python -m dbgvmm.debug.packet_reference`.
"""


def reference() -> str:
    """The whole page."""
    sections = [_HEAD]
    for family in _FAMILIES:
        title = inspect.cleandoc(family.__doc__ or "").partition(":")[0].partition(".")[0]
        sections.append(f"## {title}\n")
        sections.append("| packet | what it does | announced as | needs | served |\n|---|---|---|---|---|")
        sections.append("\n".join(_line(row) for row in family.ROWS) + "\n")
    sections.append(_registers())
    return "\n".join(sections)


def _line(row: Row) -> str:
    summary = inspect.cleandoc(row.handler.__doc__ or "").partition("\n")[0].replace("|", "\\|")
    feature = f"`{row.feature}`" if row.feature else ""
    served = "yes" if is_served(row) else "no"
    return f"| `{row.name}` | {summary} | {feature} | {row.needs.__name__} | {served} |"


def is_served(row: Row) -> bool:
    """Whether a machine has what the row needs."""
    needed = [name for name in dir(row.needs) if not name.startswith("_")]
    return all(hasattr(GdbTarget, name) for name in needed)


def _registers() -> str:
    lines = [
        "## Registers\n",
        f"By their numbers in the protocol; the last are the feature `{SYSTEM_FEATURE}` of the target description.\n",
        "| number | name | bits |\n|---|---|---|",
    ]
    lines += [f"| {number} | {row.name} | {row.bits} |" for number, row in enumerate(GDB_REGISTERS)]
    return "\n".join(lines) + "\n"


assert {row.name for row in ALL_ROWS} == {row.name for family in _FAMILIES for row in family.ROWS}

if __name__ == "__main__":
    sys.stdout.write(reference())
