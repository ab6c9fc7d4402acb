from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbgvmm.timeline.clock import InstructionClock

RATIOS = st.fractions(min_value=Fraction(1, 50), max_value=500, max_denominator=50)


def test_an_instruction_takes_ten_nanoseconds_unless_told_otherwise() -> None:
    clock = InstructionClock()
    clock.count = 7
    assert clock.now_ns() == 70


def test_several_instructions_can_share_a_nanosecond() -> None:
    clock = InstructionClock(Fraction(1, 3))
    clock.count = 8
    assert clock.now_ns() == 2


def test_a_halt_moves_time_and_not_the_count() -> None:
    clock = InstructionClock()
    clock.count = 5
    clock.skip_to(1_000_000)
    assert (clock.count, clock.now_ns()) == (5, 1_000_000)


def test_time_goes_on_by_instructions_after_a_skip() -> None:
    clock = InstructionClock()
    clock.skip_to(1_000)
    clock.count += 3
    assert clock.now_ns() == 1_030


def test_skipping_to_the_past_changes_nothing() -> None:
    clock = InstructionClock()
    clock.count = 100
    clock.skip_to(10)
    assert clock.now_ns() == 1_000


@given(RATIOS, st.integers(0, 10**9), st.integers(0, 10**9), st.integers(1, 10**9))
def test_count_at_is_the_first_count_that_reaches_the_time(
    ratio: Fraction, count: int, skipped: int, ahead: int
) -> None:
    clock = InstructionClock(ratio)
    clock.count = count
    clock.skip_to(clock.now_ns() + skipped)
    target = clock.now_ns() + ahead
    clock.count = clock.count_at(target)
    assert clock.now_ns() >= target
    clock.count -= 1
    assert clock.now_ns() < target


def test_count_at_a_time_already_reached_is_the_current_count() -> None:
    clock = InstructionClock()
    clock.count = 50
    assert clock.count_at(3) == 50


def test_the_tsc_ticks_once_a_nanosecond_at_one_gigahertz() -> None:
    clock = InstructionClock()
    clock.count = 123
    assert clock.tsc() == 1_230


def test_the_tsc_runs_at_the_frequency_asked_for() -> None:
    clock = InstructionClock(tsc_hz=2_400_000_000)
    clock.skip_to(1_000_000_000)
    assert clock.tsc() == 2_400_000_000


def test_a_century_of_virtual_time_is_exact() -> None:
    clock = InstructionClock(Fraction(1, 3), tsc_hz=2_999_999_999)
    clock.count = 3 * 10**9 * 3_155_760_000
    assert clock.now_ns() == 10**9 * 3_155_760_000
    assert clock.tsc() == 2_999_999_999 * 3_155_760_000


def test_loading_a_state_goes_back_in_time() -> None:
    clock = InstructionClock()
    clock.count = 10
    clock.skip_to(500)
    saved = clock.state()
    clock.count = 99
    clock.skip_to(10**6)
    clock.load_state(saved)
    assert (clock.count, clock.now_ns()) == (10, 500)


@pytest.mark.parametrize("bad", [0, -1, Fraction(-1, 2)])
def test_a_clock_that_does_not_run_is_refused(bad: int | Fraction) -> None:
    with pytest.raises(ValueError, match="ns_per_insn"):
        InstructionClock(bad)


def test_a_tsc_that_does_not_run_is_refused() -> None:
    with pytest.raises(ValueError, match="tsc_hz"):
        InstructionClock(tsc_hz=0)
