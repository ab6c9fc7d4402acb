"""A whole trace file, as `tsave` makes it, for gdb's `target tfile` (GDB manual, "Trace File Format")."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gdbstub.tracing.experiment import Experiment
from gdbstub.tracing.listing import progress_line, status_line, tracepoint_lines, variable_line

_MAGIC: Final = b"\x7fTRACE0\n"
_END: Final = b"\0\0"


def trace_file(experiment: Experiment, description: str = "") -> bytes:
    """Definitions and all frames, with all registers. description: the target description, which says what they are."""
    layout = experiment.layout.whole
    lines = b"".join(line + b"\n" for line in _lines(experiment, description))
    return _MAGIC + lines + b"\n" + b"".join(frame.encode(layout) for frame in experiment.buffer) + _END


def _lines(experiment: Experiment, description: str) -> Iterator[bytes]:
    yield b"R %x" % experiment.layout.whole.block_size
    yield b"status " + status_line(experiment)
    # The last ones first: that is how gdb writes its own files, and so it makes them in their order again.
    for variable in reversed(tuple(experiment.variables)):
        yield b"tsv " + variable_line(variable)
    for progress in reversed(experiment.tracepoints):
        for line in tracepoint_lines(progress):
            yield b"tp " + line
        key = progress.tracepoint.key
        yield b"tp V%x:%x:%s" % (key.number, key.address, progress_line(progress)[1:])
    for text in description.splitlines():
        yield b"tdesc " + text.encode()
