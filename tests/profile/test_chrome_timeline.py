"""The timeline is a Chrome trace by the format's rules, and its totals are the ledger's."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dbgvmm import Machine
from dbgvmm.bt.mechanisms import Mechanism
from dbgvmm.debug.symbols import Symbols, load_symbols
from dbgvmm.profile.guest_events import EventKind, GuestEvent
from dbgvmm.profile.moments import POWER_ON, GuestNanoseconds, InstructionCount
from dbgvmm.profile.recording import Recording
from dbgvmm.profile.timeline import BUCKETS, GUEST, MONITOR, Timeline

Booted = Callable[..., Machine]
Trace = dict[str, Any]


@pytest.fixture(scope="module")
def machine(guest: Callable[[str], Path]) -> Machine:
    """The guest `exceptions`, recorded from its first instruction to its last."""
    from dbgvmm import MachineConfig

    machine = Machine(MachineConfig(memory=32 << 20))
    machine.boot(guest("exceptions"))
    machine.symbols.add(load_symbols(guest("exceptions").with_suffix(".elf64")))
    machine.exits.record()
    machine.run()
    machine.exits.stop_recording()
    return machine


@pytest.fixture(scope="module")
def trace(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Trace:
    """What the file says."""
    assert machine.exits.recording is not None
    file = tmp_path_factory.mktemp("trace") / "trace.json"
    written = Timeline(machine.exits.recording, machine.symbols).save(file)
    document: Trace = json.loads(file.read_text())
    assert len(document["traceEvents"]) == written
    return document


def threads(trace: Trace) -> dict[tuple[int, int], list[Trace]]:
    found: dict[tuple[int, int], list[Trace]] = defaultdict(list)
    for event in trace["traceEvents"]:
        if event["ph"] in "XiC":
            found[event["pid"], event["tid"] if event["ph"] != "C" else -1].append(event)
    return found


def test_every_event_has_what_its_kind_needs(trace: Trace) -> None:
    needed = {"X": {"ts", "dur", "cat"}, "i": {"ts", "s", "cat"}, "C": {"ts", "args"}, "M": {"args"}}
    for event in trace["traceEvents"]:
        assert {"name", "ph", "pid", "tid"} <= set(event)
        assert needed[event["ph"]] <= set(event), event
        assert event.get("ts", 0) >= 0
        assert event.get("dur", 0) >= 0
        assert isinstance(event["name"], str)


def test_slices_of_a_thread_nest_or_do_not_touch(trace: Trace) -> None:
    for events in threads(trace).values():
        ends: list[float] = []
        for event in (event for event in events if event["ph"] == "X"):
            start, end = event["ts"], event["ts"] + event["dur"]
            while ends and ends[-1] <= start + 1e-6:
                ends.pop()
            assert not ends or end <= ends[-1] + 1e-6
            ends.append(end)


def test_the_events_of_a_thread_are_in_the_order_of_time(trace: Trace) -> None:
    for events in threads(trace).values():
        by_track: dict[str, list[float]] = defaultdict(list)
        for event in events:
            by_track[event["name"] if event["ph"] == "C" else ""].append(event["ts"])
        for times in by_track.values():
            assert times == sorted(times)


def test_both_clocks_have_a_process_and_every_thread_a_name(trace: Trace) -> None:
    names = {
        (event["pid"], event["tid"]) if event["name"] == "thread_name" else event["pid"]: event["args"]["name"]
        for event in trace["traceEvents"] if event["ph"] == "M"
    }  # fmt: skip
    assert names[GUEST] == "guest (guest time)"
    assert names[MONITOR] == "monitor (host time)"
    assert {key for key in threads(trace) if key[1] >= 0} <= set(names)


def test_exits_are_those_of_the_ledger(machine: Machine, trace: Trace) -> None:
    counts = Counter(event["name"] for event in trace["traceEvents"] if event.get("cat") == "exit")
    whole = machine.exits.since()
    assert counts == {row.mechanism: row.count for row in whole.rows() if row.is_exit}
    assert trace["otherData"]["exits"] == counts
    own = sum(event["args"]["own_us"] for event in trace["traceEvents"] if event.get("cat") == "exit")
    assert own / 1e6 == pytest.approx(sum(row.seconds for row in whole.rows() if row.is_exit))


def test_interrupts_and_exceptions_are_those_of_the_ledger(machine: Machine, trace: Trace) -> None:
    kinds = Counter(event["cat"] for event in trace["traceEvents"] if event["pid"] == GUEST and "cat" in event)
    whole = machine.exits.since()
    assert kinds["interrupt"] == whole.count_of(Mechanism.INTERRUPT)
    assert kinds["exception"] == whole.count_of(Mechanism.DELIVERY)
    names = Counter(event["name"] for event in trace["traceEvents"] if event.get("cat") == "exception")
    assert names["#PF"] == 52


def test_the_guests_slices_are_in_the_guests_time(machine: Machine, trace: Trace) -> None:
    last = machine.clock.now_ns() / 1000
    for event in trace["traceEvents"]:
        if event["pid"] == GUEST and event["ph"] in "Xi":
            # 10 ns an instruction, and more only where the guest has halted.
            assert event["args"]["instruction"] / 100 <= event["ts"] <= last
            assert event["ts"] + event.get("dur", 0) <= last


def test_the_monitors_slices_do_not_overlap(trace: Trace) -> None:
    end = 0.0
    for event in trace["traceEvents"]:
        if event.get("cat") == "exit":
            assert event["ts"] >= end - 1e-6
            end = event["ts"] + event["dur"]


def test_the_last_address_space_lasts_until_the_end(machine: Machine, trace: Trace) -> None:
    spaces = [event for event in trace["traceEvents"] if event.get("cat") == "address space"]
    assert all(event["ph"] == "X" for event in spaces)
    assert spaces[-1]["ts"] + spaces[-1]["dur"] == pytest.approx(machine.clock.now_ns() / 1000)


def test_places_have_symbols(trace: Trace) -> None:
    places = [event["args"]["rip"] for event in trace["traceEvents"] if event.get("cat") == "exit"]
    assert any("<print+" in place for place in places)


def test_counters_count_every_exit(machine: Machine, trace: Trace) -> None:
    points = [event for event in trace["traceEvents"] if event["name"] == "exits per guest ms"]
    assert len(points) <= BUCKETS + 2
    width_ms = (points[1]["ts"] - points[0]["ts"]) / 1000
    assert sum(point["args"]["value"] for point in points) * width_ms == pytest.approx(machine.engine.exits)


def test_a_trace_of_nothing_is_a_trace(booted: Booted) -> None:
    machine = booted("hello")
    machine.exits.record()
    recording = machine.exits.stop_recording()
    document = Timeline(recording, Symbols()).document()
    assert json.loads(json.dumps(document))["otherData"]["exits"] == {}
    assert {event["ph"] for event in document["traceEvents"]} == {"M"}


# -- what no guest of ours does


def made(booted: Booted, *events: GuestEvent) -> list[Trace]:
    recording = Recording(booted("hello"), POWER_ON)
    for event in events:
        recording.add_event(event)
    recording.stop(POWER_ON)
    return list(Timeline(recording, Symbols(), {1: "write"}).document()["traceEvents"])


def call(kind: EventKind, at: int, cr3: int, rsp: int, task: str = "") -> GuestEvent:
    return GuestEvent(kind, InstructionCount(at), GuestNanoseconds(at * 10), 0.0, 1, 0x400000, 3, rsp, cr3, task)


def test_system_calls_have_a_track_for_each_task(booted: Booted) -> None:
    events = made(
        booted,
        call(EventKind.SYSTEM_CALL, 100, 0x5000, 0x7000, "init, 1"), call(EventKind.SYSTEM_CALL, 200, 0x6000, 0x7000, "sh, 2"),
        call(EventKind.RETURN, 300, 0x5000, 0x7000), call(EventKind.RETURN, 400, 0x6000, 0x7000),
    )  # fmt: skip
    calls = [event for event in events if event.get("cat") == "syscall"]
    assert [(event["name"], event["ph"], event["ts"], event["dur"]) for event in calls] == [
        ("write", "X", 1.0, 2.0), ("write", "X", 2.0, 2.0),
    ]  # fmt: skip
    names = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    assert [names[event["tid"]] for event in calls] == ["system calls of init, 1", "system calls of sh, 2"]


def test_slices_that_overlap_are_put_on_threads_of_their_own(booted: Booted) -> None:
    events = made(
        booted,
        call(EventKind.EXCEPTION, 100, 0x5000, 0x7000), call(EventKind.EXCEPTION, 200, 0x6000, 0x7000),
        call(EventKind.RETURN, 300, 0x5000, 0x7000), call(EventKind.RETURN, 400, 0x6000, 0x7000),
    )  # fmt: skip
    slices = [event for event in events if event.get("cat") == "exception"]
    assert len({event["tid"] for event in slices}) == 2


def test_an_entry_without_a_return_is_an_instant(booted: Booted) -> None:
    (event,) = [item for item in made(booted, call(EventKind.SYSTEM_CALL, 100, 1, 2)) if item.get("cat") == "syscall"]
    assert (event["ph"], event["s"], event["ts"]) == ("i", "t", 1.0)
