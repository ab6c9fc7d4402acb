"""`exits`, `timeline` and `top`: data for scripts, text for people, one line for what is wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest

from dbgvmm import Machine
from dbgvmm.bt.mechanisms import Mechanism
from dbgvmm.commands import CommandError, CommandTable, Session
from dbgvmm.commands.exits import (
    ExitTable,
    MechanismName,
    MechanismTable,
    PlaceTable,
    exits,
    exits_mark,
    exits_record,
)
from dbgvmm.commands.parameters import Count
from dbgvmm.commands.timeline import timeline_events, timeline_save, timeline_start, timeline_stop
from dbgvmm.commands.top import TopReport, top
from dbgvmm.cpu.bits import RFLAGS

Booted = Callable[..., Machine]
PIC_MASKS = (0x21, 0xA1)


def test_mechanisms_can_be_named_as_they_are_called() -> None:
    assert get_args(MechanismName) == tuple(mechanism.title for mechanism in Mechanism)


def test_the_table_adds_up_to_the_run(hello: Session) -> None:
    hello.run()
    report = exits(hello)
    assert isinstance(report, ExitTable)
    assert sum(row.count for row in report.rows if row.is_exit) == report.exits == hello.machine.engine.exits
    assert sum(row.seconds for row in report.rows) + report.translated_seconds == pytest.approx(report.seconds)
    assert "3,569 instructions" in str(report)
    assert "translated code" in str(report)


def test_one_mechanism_is_shown_by_its_details(hello: Session) -> None:
    hello.run()
    report = exits(hello, "port")
    assert isinstance(report, MechanismTable)
    assert report.total is not None
    assert report.total.count == sum(row.count for row in report.details)
    assert "out 0x3f8" in str(report)
    assert "never" in str(exits(hello, "watch"))


def test_what_never_leaves_is_counted_when_counters_run(booted: Booted, table: CommandTable) -> None:
    session = Session(booted("selftest"))
    assert "`counters start`" in str(exits(session))
    table.execute(session, "counters start")
    session.run()
    report = exits(session)
    assert isinstance(report, ExitTable)
    assert report.in_tc is not None
    executed = {"cli": 0, "pushfq": 0, "iretq": 0}
    for item, count in session.machine.counters.counts().instructions.items():
        name = str(item.decode()).split()[0]
        if name in executed and item.bits == 64:
            executed[name] += count
    assert report.in_tc["cli"] == executed["cli"] > 0  # never a callout
    assert report.in_tc["pushfq"] == executed["pushfq"]
    callouts = exits(session, "callout")
    assert isinstance(callouts, MechanismTable)
    left = next(row.count for row in callouts.details if row.detail == "iretq")
    assert report.in_tc["iretq"] == executed["iretq"] - left


def test_moments_limit_the_table(hello: Session, table: CommandTable) -> None:
    hello.run(steps=1000)
    exits_mark(hello, "a")
    hello.run(steps=500)
    exits_mark(hello, "b")
    hello.run(steps=100)
    report = exits(hello, since="a", until="b")
    assert isinstance(report, ExitTable)
    assert (report.first_instruction, report.instructions) == (1000, 500)
    assert str(table.execute(hello, "exits moments")).splitlines()[1].startswith("b: after 1,500 instructions")
    with pytest.raises(CommandError, match="exits mark nowhere"):
        exits(hello, since="nowhere")


def test_places_need_to_be_kept_before_they_are_shown(hello: Session) -> None:
    with pytest.raises(CommandError, match="exits record on"):
        exits(hello, by="symbol")
    exits_record(hello)
    hello.run()
    report = exits(hello, by="symbol")
    assert isinstance(report, PlaceTable)
    assert report.rows[0].place == "boot_entry32"
    assert sum(row.count for row in report.rows) == hello.machine.engine.exits
    assert "<boot_entry32+" in str(exits(hello, "step"))
    with pytest.raises(CommandError, match="no moment is called 'a'"):
        exits(hello, by="symbol", since="a")
    exits_record(hello, "off")
    assert hello.machine.exits.places is None


def test_places_are_told_apart_by_moments(hello: Session) -> None:
    exits_mark(hello, "early")
    exits_record(hello)
    hello.run(steps=1000)
    exits_mark(hello, "a")
    hello.run(steps=500)
    exits_mark(hello, "b")
    hello.run()

    def numbers(since: str | None = None, until: str | None = None) -> dict[str, int]:
        report = exits(hello, since=since, until=until, by="address")
        assert isinstance(report, PlaceTable)
        assert all(row.count > 0 and row.seconds > 0 for row in report.rows)
        return {row.place: row.count for row in report.rows}

    parts = numbers(until="a"), numbers("a", "b"), numbers("b")
    whole = numbers()
    assert {place: sum(part.get(place, 0) for part in parts) for place in whole} == whole
    between = exits(hello, since="a", until="b")
    assert isinstance(between, ExitTable)
    assert sum(parts[1].values()) == between.exits > 0
    stepped = exits(hello, "step", since="a", until="b")
    assert isinstance(stepped, MechanismTable) and stepped.total is not None
    assert sum(row.count for row in stepped.places) == stepped.total.count
    with pytest.raises(CommandError, match="was not kept yet at 'early'"):
        exits(hello, since="early", by="symbol")
    exits_record(hello)
    with pytest.raises(CommandError, match="was not kept yet at 'a'"):
        exits(hello, since="a", by="symbol")


def test_a_timeline_is_recorded_and_saved(hello: Session, table: CommandTable, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="timeline start"):
        table.execute(hello, "timeline")
    started = timeline_start(hello)
    assert started.running
    hello.run()
    stopped = timeline_stop(hello)
    assert stopped.exits == hello.machine.engine.exits
    file = tmp_path / "hello.json"
    saved = timeline_save(hello, file)
    assert len(json.loads(file.read_text())["traceEvents"]) == saved.trace_events
    newest = timeline_events(hello).lines
    assert [line.count for line in newest] == sorted(line.count for line in newest)
    assert "exit: halt" in str(newest[-2].what) + str(newest[-1].what)


def test_a_timeline_that_cannot_be_written_says_so(hello: Session) -> None:
    timeline_start(hello)
    with pytest.raises(CommandError, match="cannot write /nowhere/x.json: No such file or directory"):
        timeline_save(hello, Path("/nowhere/x.json"))


def test_what_was_dropped_is_said(hello: Session, table: CommandTable) -> None:
    table.execute(hello, "timeline start --keep 10")
    hello.run()
    assert "exits and 0 events of the guest were dropped" in str(table.execute(hello, "timeline stop"))


# -- top


def test_rounds_of_instructions_are_the_same_each_time(booted: Booted, table: CommandTable) -> None:
    def rounds() -> list[tuple[int, int, list[tuple[str, int]]]]:
        report = table.execute(Session(booted("cpubound-small")), "top --insns 1000000 --rounds 3")
        assert isinstance(report, TopReport)
        return [
            (item.count, item.exits, sorted((row.mechanism, row.count) for row in item.rows)) for item in report.rounds
        ]

    first = rounds()
    assert [count for count, _, _ in first] == [1_000_000, 2_000_000, 3_000_000]
    assert first == rounds()


def test_rounds_add_up_to_the_ledger(booted: Booted, table: CommandTable) -> None:
    session = Session(booted("selftest"))
    report = table.execute(session, "top --insns 400000 --rounds 100")
    assert isinstance(report, TopReport)
    assert report.stop == "the guest left with code 1"
    assert sum(item.exits for item in report.rounds) == session.machine.engine.exits
    assert sum(item.instructions for item in report.rounds) == session.machine.count


def test_rounds_of_host_time_end_after_as_many_as_were_asked_for(booted: Booted) -> None:
    session = Session(booted("cpubound"))
    report = top(session, rounds=Count(2), every="0.05")
    assert len(report.rounds) == 2
    assert report.stop == "top has ended"
    assert all(item.seconds >= 0.04 and item.instructions > 0 and item.mips > 0 for item in report.rounds)
    assert report.rounds[0].hottest


def test_it_ends_when_the_guest_does(hello: Session) -> None:
    report = top(hello)
    assert report.stop == "halted with interrupts off"
    assert report.rounds == ()


def test_a_guest_that_halts_for_ever_does_not_hang_it(booted: Booted) -> None:
    machine = booted("hello")
    machine.breakpoints.add(0x106000)
    machine.run()
    for port in PIC_MASKS:
        machine.board.ports.write(port, 0xFF, 1)
    machine.cpu.halted = True
    machine.cpu.rflags |= RFLAGS.IF
    report = top(Session(machine), rounds=Count(1), every="0.01")
    assert report.stop == "top has ended"
    assert report.rounds[0].instructions == 0
    assert report.rounds[0].guest_ns > 0


def test_nothing_is_left_behind(booted: Booted, table: CommandTable) -> None:
    machine = booted("cpubound-small")
    service, handler = machine.service, machine.engine.handler
    table.execute(Session(machine), "top --rounds 1 --every 0.01")
    assert machine.service is service
    assert machine.engine.handler == handler


@pytest.mark.parametrize("every", ["0", "-1", "often", "1e9", "nan"])
def test_a_bad_time_is_refused(hello: Session, every: str) -> None:
    with pytest.raises(CommandError, match="give seconds"):
        top(hello, every=every)


def test_rounds_are_shown_as_they_come_but_not_before_json(booted: Booted, table: CommandTable) -> None:
    session = Session(booted("cpubound-small"))
    shown: list[str] = []
    session.show = shown.append
    text = str(table.execute(session, "top --insns 1000000 --rounds 2"))
    assert len(shown) == 2
    assert re.match(r"round 1, after 1,000,000 instructions", shown[0])
    assert "round" not in text
    data = json.loads(str(table.execute(session, "top --insns 1000000 --rounds 2 --json")))
    assert len(shown) == 2
    assert [item["count"] for item in data["rounds"]] == [3_000_000, 4_000_000]
