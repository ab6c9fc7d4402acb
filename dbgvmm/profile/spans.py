"""From events to spans: which return ends which interrupt, exception or system call.

An entry and its return are about the same interrupted code, so they have the same privilege level and stack pointer, and for
user code the same address space. That holds whatever the guest's kernel does in between: switch stacks and tasks, mend the
fault, return by IRETQ to a SYSCALL. Where it does not hold (execve, a signal handler, a task that ends), no end is claimed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from dbgvmm.profile.guest_events import EventKind, GuestEvent
from dbgvmm.profile.moments import GuestNanoseconds, InstructionCount

_USER: Final = 3
_ENTRIES: Final = frozenset(
    (EventKind.INTERRUPT, EventKind.EXCEPTION, EventKind.SOFTWARE_INTERRUPT, EventKind.SYSTEM_CALL)
)


@dataclass(frozen=True)
class Span:
    """Something of the guest that took time. end, end_count: None if no return was seen. event: its beginning."""

    kind: EventKind
    event: GuestEvent
    end: GuestNanoseconds | None = None
    end_count: InstructionCount | None = None

    @property
    def start(self) -> GuestNanoseconds:
        """When it began."""
        return self.event.ns


def _key(event: GuestEvent) -> tuple[int, int, int]:
    return event.cpl, event.rsp, event.cr3 if event.cpl == _USER else 0


def spans_of(events: Iterable[GuestEvent]) -> list[Span]:
    """Entries with their returns, halts, and the time of each address space between two switches; in order of their starts."""
    spans: list[Span] = []
    open_entries: dict[tuple[int, int, int], int] = {}
    running: int | None = None
    for event in events:
        if event.kind in _ENTRIES:
            open_entries[_key(event)] = len(spans)
            spans.append(Span(event.kind, event))
        elif event.kind is EventKind.RETURN:
            at = open_entries.pop(_key(event), None)
            if at is not None:
                spans[at] = replace(spans[at], end=event.ns, end_count=event.count)
        elif event.kind is EventKind.HALT:
            spans.append(Span(event.kind, event, event.until, event.count))
        else:
            if running is not None:
                spans[running] = replace(spans[running], end=event.ns, end_count=event.count)
            running = len(spans)
            spans.append(Span(event.kind, event))
    return spans


__all__ = ["Span", "spans_of"]
