"""An experiment as text: what later debuggers are told of it, and what a trace file says of it.

The lines are those of the replies to `qTStatus`, `qTfP`, `qTP` and `qTfV` (GDB manual, "Tracepoint Packets"), which a trace
file repeats behind the words `status`, `tp` and `tsv` ("Trace File Format").
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gdbstub.fields import encode_hex
from gdbstub.tracing.actions import encode_action, encode_program
from gdbstub.tracing.experiment import Experiment, Progress
from gdbstub.tracing.variables import Variable

SOURCE_PART: Final = 900
"""Bytes of a source in one line; gdb has room for 2000 digits."""


def status_line(experiment: Experiment) -> bytes:
    """Whether a run goes on (1 or 0), why not, and how full the buffer is. Times are microseconds of the target's own."""
    buffer = experiment.buffer
    return b";".join((
        b"%d" % experiment.running,
        *(() if experiment.running else (experiment.end.encode(),)),
        b"tframes:%x" % len(buffer),
        b"tcreated:%x" % buffer.created,
        b"tfree:%x" % max(buffer.free, 0),
        b"tsize:%x" % buffer.size,
        b"circular:%x" % buffer.circular,
        b"disconn:%x" % experiment.disconnected,
        b"starttime:%x" % experiment.started_us,
        b"stoptime:%x" % experiment.stopped_us,
        b"username:" + encode_hex(experiment.user.encode()),
        b"notes:" + encode_hex(experiment.notes.encode()),
    ))  # fmt: skip


def tracepoint_lines(progress: Progress) -> Iterator[bytes]:
    """A definition (T), its actions (A; S for those of steps) and its sources (Z)."""
    tracepoint = progress.tracepoint
    plan = tracepoint.plan
    name = b"%x:%x" % (tracepoint.number, tracepoint.address)
    head = b"T%s:%s:%x:%x" % (name, b"E" if progress.enabled else b"D", plan.steps, tracepoint.passes)
    if tracepoint.fast_length is not None:
        head += b":F%x" % tracepoint.fast_length
    if plan.condition is not None:
        head += b":X" + encode_program(plan.condition)
    yield head
    for action in plan.actions:
        yield b"A%s:%s" % (name, encode_action(action))
    for action in plan.stepping_actions:
        yield b"S%s:%s" % (name, encode_action(action))
    for source in progress.sources:
        for at in range(0, len(source.text), SOURCE_PART):
            part = encode_hex(source.text[at : at + SOURCE_PART])
            yield b"Z%s:%s:%x:%x:%s" % (name, source.kind.encode(), source.start + at, source.length, part)


def progress_line(progress: Progress) -> bytes:
    """How often a tracepoint was hit in the run, and how many bytes it has collected (V)."""
    return b"V%x:%x" % (progress.hits, progress.used)


def variable_line(variable: Variable) -> bytes:
    """Number, initial value, whether it is built in, and name."""
    return b"%x:%x:%x:%s" % (variable.number, variable.initial, variable.builtin, encode_hex(variable.name.encode()))
