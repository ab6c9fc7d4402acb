"""Recordings: events of the guest with their moments, and which return ends which entry."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import pytest

from dbgvmm import Machine
from dbgvmm.bt.mechanisms import Mechanism, parts
from dbgvmm.profile.exits import MomentError
from dbgvmm.profile.guest_events import EventKind, GuestEvent
from dbgvmm.profile.moments import GuestNanoseconds, InstructionCount
from dbgvmm.profile.recording import Recording
from dbgvmm.profile.spans import spans_of

Booted = Callable[..., Machine]


def recorded(machine: Machine, most: int = 1 << 17) -> Recording:
    machine.exits.record(most)
    machine.run()
    return machine.exits.stop_recording()


def test_interrupts_and_exceptions_are_those_of_the_ledger(booted: Booted) -> None:
    machine = booted("exceptions")
    kinds = Counter(event.kind for event in recorded(machine).events)
    whole = machine.exits.since()
    assert kinds[EventKind.INTERRUPT] == whole.count_of(Mechanism.INTERRUPT)
    assert kinds[EventKind.EXCEPTION] == whole.count_of(Mechanism.DELIVERY)
    assert kinds[EventKind.SOFTWARE_INTERRUPT] > 30
    assert kinds[EventKind.HALT] == whole.count_of(Mechanism.HALT) - 1  # user code may not: #GP


def test_every_return_of_an_interrupt_is_seen(booted: Booted) -> None:
    machine = booted("selftest")
    recording = recorded(machine)
    interrupts = [span for span in spans_of(recording.events) if span.kind is EventKind.INTERRUPT]
    assert len(interrupts) == machine.stats()["interrupts"] == 33
    assert all(span.end is not None and span.end > span.start for span in interrupts)


def test_events_are_in_the_order_of_the_guests_time(booted: Booted) -> None:
    recording = recorded(booted("smc"))
    counts = [event.count for event in recording.events]
    times = [event.ns for event in recording.events]
    assert counts == sorted(counts)
    assert times == sorted(times)
    exits = [item.ns for item in recording.exits]
    assert exits == sorted(exits)


def test_address_spaces_follow_each_other_without_a_gap(booted: Booted) -> None:
    recording = recorded(booted("pagetables"))
    switches = [span for span in spans_of(recording.events) if span.kind is EventKind.SWITCH]
    assert len(switches) == 140
    for earlier, later in pairwise(switches):
        assert earlier.end == later.start
        assert earlier.event.number == later.event.cr3
    assert switches[-1].end is None


def test_a_halt_lasts_until_the_guest_is_woken(booted: Booted) -> None:
    machine = booted("selftest")
    recording = recorded(machine)
    halts = [event for event in recording.events if event.kind is EventKind.HALT]
    skipped = sum((event.until or event.ns) - event.ns for event in halts)
    assert len(halts) == 16
    assert skipped == machine.clock.now_ns() - machine.count * 10


def test_an_exit_for_a_halt_begins_when_the_halt_does(booted: Booted) -> None:
    machine = booted("selftest")
    recording = recorded(machine)
    begins = [item.ns for item in recording.exits if parts(item.exit.key)[0] is Mechanism.HALT]
    halts = [event.ns for event in recording.events if event.kind is EventKind.HALT]
    assert [ns + 10 for ns in begins] == halts  # HLT itself is an instruction


def test_only_the_newest_are_kept_and_it_is_said(booted: Booted) -> None:
    machine = booted("smc")
    recording = recorded(machine, 10)
    assert len(recording.exits) == len(recording.events) == 10
    assert recording.exits_seen == machine.engine.exits
    assert recording.exits_dropped == machine.engine.exits - 10
    assert f"{recording.exits_dropped:,} exits" in recording.dropped_text
    assert recording.exits[-1].exit.count == machine.count - 1  # the write to the port that ends the guest


def test_nothing_is_recorded_after_its_end(booted: Booted) -> None:
    machine = booted("hello")
    machine.exits.record()
    machine.run(max_count=1000)
    recording = machine.exits.stop_recording()
    seen = recording.exits_seen
    machine.run()
    assert recording.exits_seen == seen
    assert recording.ended is not None
    assert recording.ended.count == 1000


def test_the_hooks_of_a_recording_are_gone_after_it(booted: Booted) -> None:
    machine = booted("hello")
    before = dict(machine.callouts.table), machine.cpu.on_cr3, machine.dispatcher.on_halt
    machine.exits.record()
    machine.exits.stop_recording()
    assert (dict(machine.callouts.table), machine.cpu.on_cr3, machine.dispatcher.on_halt) == before
    assert machine.dispatcher.on_delivery is None
    assert not machine.dispatcher.returns.every_return_leaves


def test_one_recording_at_a_time(booted: Booted) -> None:
    machine = booted("hello")
    with pytest.raises(MomentError, match="timeline start"):
        machine.exits.stop_recording()
    machine.exits.record()
    with pytest.raises(MomentError, match="timeline stop"):
        machine.exits.record()


def test_a_recording_keeps_at_least_one(booted: Booted) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        booted("hello").exits.record(0)


# -- pairing, without a guest


def event(kind: EventKind, at: int, *, cpl: int = 0, rsp: int = 0x1000, cr3: int = 0x5000, number: int = 0) -> GuestEvent:
    return GuestEvent(kind, InstructionCount(at), GuestNanoseconds(at * 10), 0.0, number, 0x400000, cpl, rsp, cr3)


def ends(*events: GuestEvent) -> list[int | None]:
    return [None if span.end_count is None else int(span.end_count) for span in spans_of(events)]


def test_a_return_ends_the_entry_of_its_own_stack() -> None:
    assert ends(
        event(EventKind.EXCEPTION, 1, rsp=0x1000), event(EventKind.INTERRUPT, 2, rsp=0xF00),
        event(EventKind.RETURN, 3, rsp=0xF00), event(EventKind.RETURN, 4, rsp=0x1000),
    ) == [4, 3]  # fmt: skip


def test_returns_may_come_in_another_order_after_a_switch_of_tasks() -> None:
    assert ends(
        event(EventKind.SYSTEM_CALL, 1, cpl=3, cr3=0x5000), event(EventKind.SYSTEM_CALL, 2, cpl=3, cr3=0x6000),
        event(EventKind.RETURN, 3, cpl=3, cr3=0x5000), event(EventKind.RETURN, 4, cpl=3, cr3=0x6000),
    ) == [3, 4]  # fmt: skip


def test_an_entry_whose_return_is_elsewhere_has_no_end() -> None:
    assert ends(event(EventKind.SYSTEM_CALL, 1, cpl=3, rsp=0x7000), event(EventKind.RETURN, 2, cpl=3, rsp=0x8000)) == [None]


def test_kernel_code_is_the_same_in_every_address_space() -> None:
    assert ends(event(EventKind.INTERRUPT, 1, cr3=0x5000), event(EventKind.RETURN, 2, cr3=0x6000)) == [2]
