"""A recording as a Chrome trace: opens in https://ui.perfetto.dev and in chrome://tracing.

Two clocks, which are never mixed: the process "guest" has the guest's time (virtual nanoseconds since the recording began),
the process "monitor" the host's. Both begin at 0 with the recording.

Format: "Trace Event Format", Google, 2016: X (complete) events nest within a thread or do not touch, C are counters, i are
instants, M are names. Timestamps and durations are microseconds.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import count, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dbgvmm.bt.mechanisms import detail_text, parts
from dbgvmm.cpu.bits import Vector
from dbgvmm.profile.guest_events import EventKind
from dbgvmm.profile.recording import Recording
from dbgvmm.profile.spans import Span, spans_of

if TYPE_CHECKING:
    from dbgvmm.debug.symbols import Symbols

GUEST: Final = 1
MONITOR: Final = 2
BUCKETS: Final = 500
"""Points of a counter track."""
_EXITS_THREAD: Final = 1
_SWITCHES_THREAD: Final = 1
_HALTS_THREAD: Final = 2
_FIRST_LANE: Final = 10
TraceEvent = dict[str, Any]


class _Lanes:
    """Threads on which spans nest: each span gets the first on which it lies within the open ones, or behind them."""

    def __init__(self, numbers: Iterator[int], name: str) -> None:
        self._numbers = numbers
        self._name = name
        self._open: dict[int, list[int]] = {}

    def place(self, start: int, end: int) -> int:
        """The thread for a span. Spans come in the order of their starts."""
        for number, ends in self._open.items():
            while ends and ends[-1] <= start:
                ends.pop()
            if not ends or end <= ends[-1]:
                ends.append(end)
                return number
        number = next(self._numbers)
        self._open[number] = [end]
        return number

    def names(self) -> Iterator[tuple[int, str]]:
        """The threads that were used."""
        for position, number in enumerate(self._open, 1):
            yield number, self._name if position == 1 else f"{self._name} ({position})"


class Timeline:
    """Makes trace events of a recording. calls: the names of system calls by number, where they are known."""

    def __init__(self, recording: Recording, symbols: Symbols, calls: dict[int, str] | None = None) -> None:
        self._recording = recording
        self._symbols = symbols
        self._calls = calls or {}
        self._zero_ns = recording.began.ns
        self._tasks: dict[int, str] = {}

    def document(self) -> dict[str, Any]:
        """The whole trace, to be written as JSON."""
        recording = self._recording
        totals = Counter(parts(event.exit.key)[0].title for event in recording.exits)
        return {
            "displayTimeUnit": "ms",
            "otherData": {
                "clocks": "process 1: guest time; process 2: host time; both in microseconds since the recording began",
                "first_instruction": recording.began.count,
                "first_guest_ns": recording.began.ns,
                "exits": dict(sorted(totals.items())),
                "exits_dropped": recording.exits_dropped,
                "events_dropped": recording.events_dropped,
            },
            "traceEvents": [*self._guest(), *self._monitor()],
        }

    def save(self, path: Path) -> int:
        """Write it; returns how many trace events it has. Raises OSError."""
        document = self.document()
        with path.open("w", encoding="utf-8") as file:
            json.dump(document, file, separators=(",", ":"))
        return len(document["traceEvents"])

    # -- the guest, in its own time

    def _guest(self) -> Iterator[TraceEvent]:
        spans = spans_of(self._recording.events)
        yield _named(GUEST, None, "guest (guest time)")
        for span in spans:
            if span.event.task:
                self._tasks[span.event.cr3] = span.event.task
        numbers = count(_FIRST_LANE)
        handlers = _Lanes(numbers, "interrupts and exceptions")
        calls: dict[int, _Lanes] = {}
        switches = halts = False
        for span in spans:
            if span.kind is EventKind.SWITCH:
                switches = True
                yield self._span(self._until_the_end(span), _SWITCHES_THREAD, self._space(span.event.number), "address space")
            elif span.kind is EventKind.HALT:
                halts = True
                yield self._span(span, _HALTS_THREAD, "halted", "halt")
            elif span.kind is EventKind.SYSTEM_CALL:
                cr3 = span.event.cr3
                lanes = calls.get(cr3)
                if lanes is None:
                    lanes = calls[cr3] = _Lanes(numbers, f"system calls of {self._space(cr3)}")
                number = span.event.number
                yield self._span(span, self._lane(span, lanes), self._calls.get(number, f"system call {number}"), "syscall")
            else:
                yield self._span(span, self._lane(span, handlers), _handler_name(span), span.kind.value)
        if switches:
            yield _named(GUEST, _SWITCHES_THREAD, "address spaces")
        if halts:
            yield _named(GUEST, _HALTS_THREAD, "halted")
        for group in (handlers, *calls.values()):
            for thread, name in group.names():
                yield _named(GUEST, thread, name)
        exits = [(event.ns - self._zero_ns, 1) for event in self._recording.exits]
        yield from _rates(GUEST, "exits per guest ms", exits, 1_000_000)

    def _until_the_end(self, span: Span) -> Span:
        """The address space that was there last lasts until the recording ended."""
        ended = self._recording.ended
        return span if span.end is not None or ended is None else replace(span, end=ended.ns, end_count=ended.count)

    def _space(self, cr3: int) -> str:
        return self._tasks.get(cr3) or f"CR3 {cr3:#x}"

    @staticmethod
    def _lane(span: Span, lanes: _Lanes) -> int:
        return lanes.place(span.start, span.start if span.end is None else span.end)

    def _span(self, span: Span, thread: int, name: str, category: str) -> TraceEvent:
        event = span.event
        shown: TraceEvent = {
            "name": name, "cat": category, "pid": GUEST, "tid": thread, "ts": (event.ns - self._zero_ns) / 1000,
            "args": {"instruction": event.count, "rip": self._place(event.rip), "cpl": event.cpl},
        }  # fmt: skip
        if event.task:
            shown["args"]["task"] = event.task
        if span.end is None:
            return {**shown, "ph": "i", "s": "t"}
        if span.end_count is not None:
            shown["args"]["instructions"] = span.end_count - event.count
        return {**shown, "ph": "X", "dur": (span.end - event.ns) / 1000}

    def _place(self, rip: int) -> str:
        symbol = self._symbols.describe(rip)
        return f"{rip:#x} <{symbol}>" if symbol else f"{rip:#x}"

    # -- the monitor, in the host's time

    def _monitor(self) -> Iterator[TraceEvent]:
        yield _named(MONITOR, None, "monitor (host time)")
        yield _named(MONITOR, _EXITS_THREAD, "exits")
        exits = self._recording.exits
        if not exits:
            return
        zero = self._recording.began_host
        for event in exits:
            exit_ = event.exit
            mechanism, detail = parts(exit_.key)
            yield {
                "name": mechanism.title, "cat": "exit", "ph": "X", "pid": MONITOR, "tid": _EXITS_THREAD,
                "ts": (exit_.start - zero) * 1e6, "dur": exit_.whole * 1e6,
                "args": {
                    "instruction": exit_.count, "rip": self._place(exit_.rip), "detail": detail_text(mechanism, detail),
                    "own_us": exit_.seconds * 1e6,
                },
            }  # fmt: skip
        times = [int((event.exit.start - zero) * 1e9) for event in exits]
        yield from _rates(MONITOR, "exits per host ms", [(at, 1) for at in times], 1_000_000)
        counts = [event.exit.count for event in exits]
        steps = [later - earlier for earlier, later in pairwise(counts)]
        yield from _rates(MONITOR, "instructions per host us", list(zip(times[1:], steps, strict=True)), 1000)


def _handler_name(span: Span) -> str:
    vector = span.event.number
    if span.kind is EventKind.INTERRUPT:
        return f"interrupt {vector:#x}"
    if span.kind is EventKind.SOFTWARE_INTERRUPT:
        return f"int {vector:#x}"
    return Vector.name_of(vector)


def _named(process: int, thread: int | None, name: str) -> TraceEvent:
    what = "process_name" if thread is None else "thread_name"
    return {"name": what, "ph": "M", "pid": process, "tid": thread or 0, "args": {"name": name}}


def _rates(process: int, name: str, amounts: Iterable[tuple[int, int]], per_ns: int) -> Iterator[TraceEvent]:
    """A counter track: amounts at times (ns) as rates. Its points are far enough apart that there are not too many."""
    ordered = list(amounts)
    if not ordered:
        return
    first, last = ordered[0][0], ordered[-1][0]
    width = max((last - first) // BUCKETS, per_ns)
    buckets: Counter[int] = Counter()
    for at, amount in ordered:
        buckets[(at - first) // width] += amount
    for bucket in range(max(buckets) + 1):
        yield {
            "name": name, "ph": "C", "pid": process, "tid": 0, "ts": (first + bucket * width) / 1000,
            "args": {"value": buckets[bucket] * per_ns / width},
        }  # fmt: skip


__all__ = ["GUEST", "MONITOR", "Timeline"]
