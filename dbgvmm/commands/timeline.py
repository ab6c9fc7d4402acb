"""Recording exits and the guest's events, and saving them as a timeline for Perfetto."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dbgvmm.bt.mechanisms import detail_text, parts
from dbgvmm.commands.columns import columns
from dbgvmm.commands.errors import CommandError
from dbgvmm.commands.parameters import Count
from dbgvmm.commands.session import Session
from dbgvmm.commands.table import command
from dbgvmm.cpu.bits import Vector
from dbgvmm.profile.exits import MomentError
from dbgvmm.profile.guest_events import EventKind, GuestEvent
from dbgvmm.profile.recording import MOST_EVENTS, ExitEvent, Recording
from dbgvmm.profile.timeline import Timeline

_MOST: Final = Count(MOST_EVENTS)
_SHOWN: Final = Count(40)


@dataclass(frozen=True)
class RecordingReport:
    """What a recording holds. first_instruction: when it began. dropped: a line about what was dropped, or ""."""

    running: bool
    first_instruction: int
    exits: int
    events: int
    exits_dropped: int
    events_dropped: int
    dropped: str

    def __str__(self) -> str:
        state = "recording" if self.running else "recorded"
        text = (
            f"{state} since {self.first_instruction:,} instructions: {self.exits:,} exits, {self.events:,} events of the guest"
        )
        return f"{text}\n{self.dropped}" if self.dropped else text


@dataclass(frozen=True)
class SavedTimeline:
    """A trace file that was written."""

    file: str
    trace_events: int
    dropped: str

    def __str__(self) -> str:
        text = f"{self.trace_events:,} trace events in {self.file}: open it in https://ui.perfetto.dev or chrome://tracing"
        return f"{text}\n{self.dropped}" if self.dropped else text


@dataclass(frozen=True)
class EventLine:
    """An exit or an event of the guest. count, ns: guest time. host_us: host time since the recording began."""

    count: int
    ns: int
    host_us: float
    what: str
    rip: int
    place: str
    duration_us: float | None


@dataclass(frozen=True)
class EventList:
    """The newest of a recording, in the order in which they happened. dropped: a line about what is lost, or ""."""

    lines: tuple[EventLine, ...]
    dropped: str

    def __str__(self) -> str:
        if not self.lines:
            return "nothing was recorded yet: run the guest"
        rows = [
            (
                f"{line.count:,}", f"{line.ns / 1000:,.2f}", f"{line.host_us:,.1f}",
                "" if line.duration_us is None else f"{line.duration_us:.1f}", line.what, line.place,
            )
            for line in self.lines
        ]  # fmt: skip
        text = columns(rows, ("instruction", "guest us", "host us", "took us", "what", "at"), right=(0, 1, 2, 3))
        return f"{text}\n{self.dropped}" if self.dropped else text


def _report(recording: Recording) -> RecordingReport:
    return RecordingReport(
        recording.running, recording.began.count, recording.exits_seen, recording.events_seen, recording.exits_dropped,
        recording.events_dropped, recording.dropped_text,
    )  # fmt: skip


def _recording(session: Session) -> Recording:
    recording = session.machine.exits.recording
    if recording is None:
        raise CommandError("nothing was recorded: `timeline start`, then run the guest")
    return recording


@command("timeline")
def timeline(session: Session) -> RecordingReport:
    """Show what is being recorded, or was.

    For example:

        timeline
    """
    return _report(_recording(session))


@command("timeline start")
def timeline_start(session: Session, *, keep: Count = _MOST) -> RecordingReport:
    """Record exits, interrupts, exceptions, system calls, address spaces and halts from now on.

    KEEP is how many exits and how many events of the guest are kept at most, the newest (131072; 1000 take about 0.4 MB). It
    costs some microseconds an exit, and nothing while it is off; the guest cannot tell. A recording that was made before is
    forgotten.

    For example:

        timeline start
        timeline start --keep 1000000
    """
    try:
        return _report(session.machine.exits.record(keep))
    except MomentError as error:
        raise CommandError(str(error)) from error


@command("timeline stop")
def timeline_stop(session: Session) -> RecordingReport:
    """End the recording, and keep what it has.

    For example:

        timeline stop
    """
    try:
        return _report(session.machine.exits.stop_recording())
    except MomentError as error:
        raise CommandError(str(error)) from error


@command("timeline save")
def timeline_save(session: Session, file: Path) -> SavedTimeline:
    """Write what was recorded to FILE as a Chrome trace (JSON).

    It opens in https://ui.perfetto.dev and in chrome://tracing. The process "guest" is in the guest's time, the process
    "monitor" in the host's.

    For example:

        timeline save boot.json
    """
    recording = _recording(session)
    machine = session.machine
    try:
        written = Timeline(recording, machine.symbols, machine.exits.call_names()).save(file)
    except OSError as error:
        raise CommandError(f"cannot write {file}: {error.strerror}") from error
    return SavedTimeline(str(file), written, recording.dropped_text)


@command("timeline events")
def timeline_events(session: Session, count: Count = _SHOWN) -> EventList:
    """List the newest COUNT exits and events of the guest (40) that were recorded.

    For example:

        timeline events 100
    """
    recording = _recording(session)
    items: list[ExitEvent | GuestEvent] = [*recording.exits, *recording.events]
    # Both are in order by themselves. What happened in an exit comes behind it, though it is at the same instruction.
    items.sort(key=lambda item: item.exit.start if isinstance(item, ExitEvent) else item.host)
    return EventList(tuple(_line(session, recording, item) for item in items[-count:]), recording.dropped_text)


def _line(session: Session, recording: Recording, item: ExitEvent | GuestEvent) -> EventLine:
    if isinstance(item, ExitEvent):
        mechanism, detail = parts(item.exit.key)
        what = f"exit: {mechanism.title} {detail_text(mechanism, detail)}".rstrip()
        took: float | None = item.exit.whole * 1e6
        count, ns, host, rip = item.exit.count, item.ns, item.exit.start, item.exit.rip
    else:
        what, took = _words(item), None
        count, ns, host, rip = item.count, item.ns, item.host, item.rip
    return EventLine(count, ns, (host - recording.began_host) * 1e6, what, rip, session.name(rip), took)


def _words(event: GuestEvent) -> str:
    who = f" of {event.task}" if event.task else ""
    if event.kind is EventKind.EXCEPTION:
        return f"  {Vector.name_of(event.number)} at CPL {event.cpl}{who}"
    if event.kind is EventKind.SYSTEM_CALL:
        return f"  system call {event.number}{who}"
    if event.kind is EventKind.RETURN:
        return f"  return to CPL {event.cpl}"
    if event.kind is EventKind.SWITCH:
        return f"  CR3 {event.cr3:#x} -> {event.number:#x}"
    if event.kind is EventKind.HALT:
        return f"  halted for {((event.until or event.ns) - event.ns) / 1000:,.1f} us"
    return f"  {event.kind.value} {event.number:#x} at CPL {event.cpl}{who}"
