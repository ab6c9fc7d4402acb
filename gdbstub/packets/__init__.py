"""The packets, a file for each family. A new packet is a function and a row in its family's `ROWS`."""

from __future__ import annotations

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
from gdbstub.table import Row

ALL_ROWS: tuple[Row, ...] = (
    *base.ROWS,
    *queries.ROWS,
    *registers.ROWS,
    *memory.ROWS,
    *threads.ROWS,
    *resume.ROWS,
    *nonstop.ROWS,
    *breakpoints.ROWS,
    *tracepoints.ROWS,
    *trace_runs.ROWS,
    *trace_frames.ROWS,
    *trace_variables.ROWS,
    *xfer.ROWS,
    *search.ROWS,
    *files.ROWS,
    *qemu.ROWS,
    *lldb.ROWS,
    *monitor.ROWS,
)
