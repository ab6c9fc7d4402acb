"""What gdb's tracepoints are and have collected: `info tracepoints`, `info trace-frames`, `info trace-frame`."""

from __future__ import annotations

from dataclasses import dataclass

from dbgvmm.commands.columns import columns
from dbgvmm.commands.errors import CommandError
from dbgvmm.commands.memory import MemoryBytes
from dbgvmm.commands.parameters import Count, Value
from dbgvmm.commands.session import Session
from dbgvmm.commands.table import command
from dbgvmm.debug.gdb_description import GDB_REGISTERS
from gdbstub.tracing import Progress, TraceFrame, register_numbers

_FIRST = Value(0)
_FEW = Count(20)


@dataclass(frozen=True)
class TracepointLine:
    """One tracepoint at one address. typed: what its user typed for it in gdb, but for its place."""

    number: int
    place: str
    fast: bool
    enabled: bool
    hits: int
    passes: int
    bytes: int
    typed: tuple[str, ...]

    @property
    def kind(self) -> str:
        """As the gdb command that sets one."""
        return "ftrace" if self.fast else "trace"

    @property
    def hits_of(self) -> str:
        """Hits, and how many end the run."""
        return f"{self.hits:,} of {self.passes:,}" if self.passes else f"{self.hits:,}"


@dataclass(frozen=True)
class TracepointReport:
    """status: whether a run goes on, or why it has ended. frames: how many are in the buffer, of those created."""

    lines: tuple[TracepointLine, ...]
    status: str
    frames: int
    created: int
    used: int
    size: int
    circular: bool

    def __str__(self) -> str:
        if not self.lines:
            return "no tracepoints: gdb's `trace` sets them, and `tstart` begins to collect"
        rows = [("number", "kind", "enabled", "hits", "bytes", "at")]
        for line in self.lines:
            enabled = "yes" if line.enabled else "no"
            rows.append((str(line.number), line.kind, enabled, line.hits_of, f"{line.bytes:,}", line.place))
        table = columns(rows[1:], rows[0]).split("\n")
        shown = [table[0]]
        for text, line in zip(table[1:], self.lines, strict=True):
            shown += [text, *(f"        {typed}" for typed in line.typed)]
        kind = "circular buffer" if self.circular else "buffer"
        frames = f"{self.frames:,} frames" + (f" of {self.created:,} created" if self.created > self.frames else "")
        return "\n".join([*shown, f"{self.status}; {frames}, {self.used:,} of the {kind}'s {self.size:,} bytes"])


def _typed(progress: Progress) -> tuple[str, ...]:
    pieces: list[str] = []
    for source in progress.sources:
        text = source.text.decode("utf-8", "replace")
        if source.start and pieces:
            pieces[-1] += text
        elif source.kind != "at":
            pieces.append(f"if {text}" if source.kind == "cond" else text)
    return tuple(pieces)


@command("info tracepoints", aliases=("info tp",))
def info_tracepoints(session: Session) -> TracepointReport:
    """List the tracepoints that gdb has set, how often they were hit, and whether they collect now.

    For example:

        info tracepoints
    """
    experiment = session.machine.tracing.experiment
    buffer = experiment.buffer
    lines = tuple(
        TracepointLine(
            one.tracepoint.number, session.name(one.tracepoint.address), one.tracepoint.fast, one.enabled, one.hits,
            one.tracepoint.passes, one.used, _typed(one),
        )
        for one in experiment.tracepoints
    )  # fmt: skip
    status = "tracing" if experiment.running else f"not tracing: {experiment.end}"
    return TracepointReport(lines, status, len(buffer), buffer.created, buffer.used, buffer.size, buffer.circular)


@dataclass(frozen=True)
class FrameLine:
    """One trace frame in short."""

    number: int
    frame: TraceFrame
    place: str

    @property
    def contents(self) -> str:
        """What is in it."""
        frame = self.frame
        memory = sum(len(data) for _, data in frame.memory)
        parts = []
        if frame.mask:
            parts.append(f"{frame.mask.bit_count()} register{'s'[: frame.mask.bit_count() > 1]}")
        if memory:
            parts.append(f"{memory} byte{'s'[: memory > 1]} of memory")
        return ", ".join(parts) or "-"


@dataclass(frozen=True)
class FrameList:
    """Some of the buffer's frames, in order; `frames` is how many there are."""

    lines: tuple[FrameLine, ...]
    frames: int

    def __str__(self) -> str:
        if not self.frames:
            return "no trace frames"
        rows = [(line.number, line.frame.tracepoint, f"{line.frame.count:,}", line.place, line.contents) for line in self.lines]
        table = columns(rows, ("frame", "tracepoint", "instructions", "at", "collected"), right=(0, 1, 2))
        left = self.frames - self.lines[-1].number - 1 if self.lines else 0
        return table + (f"\n{left:,} more: `info trace-frames {self.lines[-1].number + 1}`" if left else "")


@command("info trace-frames")
def info_trace_frames(session: Session, first: Value = _FIRST, count: Count = _FEW) -> FrameList:
    """List COUNT trace frames (20) from number FIRST (0) on.

    Of each the tracepoint, the instruction count at which it was collected, the place, and how much is in it.

    For example:

        info trace-frames
        info trace-frames 100 10
    """
    buffer = session.machine.tracing.experiment.buffer
    if buffer and not 0 <= first < len(buffer):
        raise CommandError(f"there is no trace frame {first}: they are from 0 to {len(buffer) - 1}")
    lines = []
    for number in range(first, min(first + count, len(buffer))):
        frame = buffer.frame(number)
        assert frame is not None
        lines.append(FrameLine(number, frame, session.name(frame.address)))
    return FrameList(tuple(lines), len(buffer))


@dataclass(frozen=True)
class FrameReport:
    """Everything in one trace frame. registers, variables: by name."""

    line: FrameLine
    registers: dict[str, int]
    memory: tuple[MemoryBytes, ...]
    variables: dict[str, int]

    def __str__(self) -> str:
        frame = self.line.frame
        parts = [f"frame {self.line.number}: tracepoint {frame.tracepoint}, {frame.count:,} instructions, at {self.line.place}"]
        parts += [columns((name, f"{value:#x}") for name, value in self.registers.items())] if self.registers else []
        parts += [str(block) for block in self.memory]
        parts += [columns((f"${name}", str(value)) for name, value in self.variables.items())] if self.variables else []
        return "\n".join(parts)


@command("info trace-frame")
def info_trace_frame(session: Session, number: Value) -> FrameReport:
    """Show what trace frame NUMBER has collected: registers, memory, trace state variables.

    For example:

        info trace-frame 0
    """
    experiment = session.machine.tracing.experiment
    frame = experiment.buffer.frame(number)
    if frame is None:
        raise CommandError(f"there is no trace frame {number}: `info trace-frames` lists them")
    registers = {
        GDB_REGISTERS[index].name: int.from_bytes(frame.register(experiment.layout, index) or b"", "little")
        for index in register_numbers(frame.mask)
    }
    names = {variable.number: variable.name for variable in experiment.variables}
    variables = {names.get(index, str(index)): _signed(value) for index, value in frame.variables}
    memory = tuple(MemoryBytes(address, data) for address, data in frame.memory)
    return FrameReport(FrameLine(number, frame, session.name(frame.address)), registers, memory, variables)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value
