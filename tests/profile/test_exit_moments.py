"""Moments of a run, and what happened between them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dbgvmm import Machine
from dbgvmm.bt.mechanisms import Mechanism
from dbgvmm.profile.exits import MomentError

Booted = Callable[..., Machine]


@pytest.fixture
def machine(booted: Booted) -> Machine:
    return booted("hello")


def test_two_stretches_add_up_to_the_whole(machine: Machine) -> None:
    machine.exits.mark("start")
    machine.run(max_count=2000)
    machine.exits.mark("middle")
    machine.run()
    machine.exits.mark("end")
    first, second = machine.exits.since("start", "middle"), machine.exits.since("middle", "end")
    whole = machine.exits.since("start", "end")
    assert first.instructions == 2000
    assert first.instructions + second.instructions == whole.instructions == machine.count
    assert first.exits + second.exits == whole.exits
    for mechanism in Mechanism:
        assert first.count_of(mechanism) + second.count_of(mechanism) == whole.count_of(mechanism)


def test_nothing_happens_between_a_moment_and_itself(machine: Machine) -> None:
    machine.run(max_count=100)
    machine.exits.mark("now")
    nothing = machine.exits.since("now")
    assert (nothing.instructions, nothing.exits, nothing.cells, nothing.rows()) == (0, 0, {}, ())


def test_a_moment_is_a_point_in_both_of_the_guests_times(booted: Booted) -> None:
    machine = booted("selftest")  # it halts: time passes without instructions
    machine.run()
    moment = machine.exits.snapshot()
    assert moment.count == machine.count
    assert moment.ns == machine.clock.now_ns() > moment.count * 10


def test_a_moment_can_be_taken_while_the_guest_runs(booted: Booted) -> None:
    machine = booted("cpubound-small")
    taken = []
    machine.service = lambda: taken.append(machine.exits.snapshot())
    machine.run(max_count=5_000_000)
    later = machine.exits.snapshot()
    assert len(taken) >= 4
    for earlier, following in zip(taken, [*taken[1:], later], strict=True):
        stretch = following - earlier
        assert stretch.instructions > 0
        assert 0 <= stretch.vmm_seconds <= stretch.seconds


def test_an_unknown_moment_says_how_to_make_one(machine: Machine) -> None:
    machine.exits.mark("here")
    with pytest.raises(MomentError, match="known: here.*exits mark there"):
        machine.exits.since("there")


def test_moments_in_the_wrong_order_are_refused(machine: Machine) -> None:
    machine.exits.mark("early")
    machine.run(max_count=10)
    machine.exits.mark("late")
    with pytest.raises(MomentError, match="exchange"):
        machine.exits.since("late", "early")


def test_a_row_relates_its_count_to_the_guests_time_and_its_seconds_to_the_hosts(machine: Machine) -> None:
    machine.run()
    whole = machine.exits.since()
    row = next(row for row in whole.rows() if row.mechanism == "port")
    assert row.per_million == pytest.approx(row.count * 1e6 / machine.count)
    assert row.share == pytest.approx(row.seconds / machine.seconds_total)
    assert row.mean_us == pytest.approx(row.seconds * 1e6 / row.count)
