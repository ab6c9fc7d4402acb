"""One counter against the 8254 data sheet's waveforms, tick by tick."""
from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dbgvmm.devices.i8254_counter import Access, Counter8254


def programmed(mode: int, count: int, *, gate: bool = True, bcd: bool = False, at: int = 0) -> Counter8254:
    counter = Counter8254(gate=gate)
    counter.program(at, Access.LOW_THEN_HIGH, mode, bcd)
    write(counter, at, count)
    return counter


def write(counter: Counter8254, tick: int, count: int) -> None:
    counter.write(tick, count & 0xFF)
    counter.write(tick, count >> 8)


def wave(counter: Counter8254, first: int, last: int) -> str:
    return "".join("#" if counter.output(tick) else "_" for tick in range(first, last + 1))


def counts(counter: Counter8254, first: int, last: int) -> list[int]:
    return [counter.count(tick) for tick in range(first, last + 1)]


def test_mode_0_raises_out_n_plus_1_ticks_after_the_write() -> None:
    counter = programmed(0, 4)
    assert wave(counter, 0, 8) == "_____####"
    assert counts(counter, 1, 7) == [4, 3, 2, 1, 0, 0xFFFF, 0xFFFE]


def test_mode_0_stands_still_while_the_gate_is_low() -> None:
    counter = programmed(0, 4)
    counter.set_gate(3, False)
    assert counts(counter, 3, 6) == [2, 2, 2, 2]
    counter.set_gate(6, True)
    assert wave(counter, 6, 9) == "__##"


def test_mode_0_restarts_when_a_new_count_is_written() -> None:
    counter = programmed(0, 2)
    assert counter.output(5)
    write(counter, 5, 3)
    assert wave(counter, 5, 9) == "____#"


def test_mode_0_stops_at_the_first_byte_of_a_new_count() -> None:
    counter = programmed(0, 100)
    counter.write(10, 5)
    assert counts(counter, 10, 12) == [91, 91, 91]
    counter.write(12, 0)
    assert counter.count(13) == 5


def test_mode_1_is_low_for_n_ticks_after_a_trigger() -> None:
    counter = programmed(1, 3, gate=False)
    assert wave(counter, 0, 9) == "#" * 10
    counter.set_gate(10, True)
    assert wave(counter, 10, 15) == "#___##"


def test_mode_1_can_be_triggered_again_while_low() -> None:
    counter = programmed(1, 3, gate=False)
    counter.set_gate(0, True)
    counter.set_gate(2, False)
    counter.set_gate(2, True)
    assert wave(counter, 1, 7) == "_____##"


def test_mode_1_takes_a_new_count_only_at_the_next_trigger() -> None:
    counter = programmed(1, 3, gate=False)
    counter.set_gate(0, True)
    write(counter, 1, 1)
    assert wave(counter, 0, 5) == "#___##"
    counter.set_gate(6, False)
    counter.set_gate(6, True)
    assert wave(counter, 6, 9) == "#_##"


def test_mode_2_is_low_for_the_last_tick_of_each_period() -> None:
    counter = programmed(2, 4)
    assert wave(counter, 0, 12) == "####_###_###_"
    assert counts(counter, 1, 8) == [4, 3, 2, 1, 4, 3, 2, 1]


def test_mode_2_takes_a_new_count_at_the_end_of_the_period() -> None:
    counter = programmed(2, 4)
    write(counter, 2, 3)
    assert counts(counter, 2, 10) == [3, 2, 1, 3, 2, 1, 3, 2, 1]


def test_mode_2_with_the_gate_low_is_high_and_reloads_on_the_rise() -> None:
    counter = programmed(2, 4)
    counter.set_gate(4, False)
    assert wave(counter, 4, 20) == "#" * 17
    counter.set_gate(20, True)
    assert counts(counter, 21, 25) == [4, 3, 2, 1, 4]


def test_mode_3_with_an_even_count_is_symmetrical_and_counts_by_two() -> None:
    counter = programmed(3, 4)
    assert wave(counter, 1, 8) == "##__##__"
    assert counts(counter, 1, 8) == [4, 2, 4, 2, 4, 2, 4, 2]


def test_mode_3_with_an_odd_count_is_high_one_tick_longer() -> None:
    counter = programmed(3, 5)
    assert wave(counter, 1, 10) == "###__###__"
    assert counts(counter, 1, 10) == [4, 2, 0, 4, 2, 4, 2, 0, 4, 2]


def test_mode_3_takes_a_new_count_at_the_end_of_the_half_cycle() -> None:
    counter = programmed(3, 8)
    write(counter, 2, 4)
    assert wave(counter, 1, 12) == "####__##__##"


def test_mode_4_strobes_for_one_tick_after_n() -> None:
    counter = programmed(4, 3)
    assert wave(counter, 0, 8) == "####_####"
    assert counter.count(5) == 0xFFFF


def test_mode_5_strobes_after_a_trigger() -> None:
    counter = programmed(5, 3, gate=False)
    assert wave(counter, 0, 5) == "######"
    counter.set_gate(5, True)
    assert wave(counter, 5, 11) == "####_##"


@pytest.mark.parametrize(("mode", "same_as"), [(6, 2), (7, 3)])
def test_modes_6_and_7_are_modes_2_and_3(mode: int, same_as: int) -> None:
    assert wave(programmed(mode, 6), 0, 30) == wave(programmed(same_as, 6), 0, 30)


def test_a_count_of_zero_is_65536() -> None:
    counter = programmed(0, 0)
    assert not counter.output(65_536)
    assert counter.output(65_537)


def test_a_bcd_count_of_zero_is_10000() -> None:
    counter = programmed(0, 0, bcd=True)
    assert not counter.output(10_000)
    assert counter.output(10_001)


def test_bcd_counts_are_written_and_read_as_digits() -> None:
    counter = programmed(0, 0x1234, bcd=True)
    assert counter.count(1) == 1234
    assert [counter.read(36), counter.read(36)] == [0x99, 0x11]


def test_low_access_writes_and_reads_one_byte() -> None:
    counter = Counter8254(gate=True)
    counter.program(0, Access.LOW, 2, bcd=False)
    counter.write(0, 18)
    assert [counter.read(1), counter.read(2)] == [18, 17]


def test_high_access_writes_and_reads_the_upper_byte() -> None:
    counter = Counter8254(gate=True)
    counter.program(0, Access.HIGH, 0, bcd=False)
    counter.write(0, 0x12)
    assert counter.count(1) == 0x1200
    assert counter.read(2) == 0x11


def test_a_latched_count_stands_still_until_both_bytes_are_read() -> None:
    counter = programmed(0, 0x1000)
    counter.latch_count(1)
    counter.latch_count(500)
    assert [counter.read(600), counter.read(700)] == [0x00, 0x10]
    assert counter.read(0x801) == 0x00
    assert counter.read(0x801) == 0x08


def test_the_status_byte_tells_out_null_count_access_mode_and_bcd() -> None:
    counter = programmed(3, 0x100, bcd=True)
    counter.latch_status(0)
    assert counter.read(0) == 0x80 | 0x40 | 0x30 | 3 << 1 | 1
    counter.latch_status(1)
    assert counter.read(1) == 0x80 | 0x30 | 3 << 1 | 1


def test_status_is_read_before_count_when_both_are_latched() -> None:
    counter = programmed(0, 0x0304)
    counter.latch_count(1)
    counter.latch_status(1)
    assert [counter.read(9), counter.read(9), counter.read(9)] == [0x30, 0x04, 0x03]


def test_a_waiting_count_shows_as_null_count_until_the_period_ends() -> None:
    counter = programmed(2, 10)
    write(counter, 5, 20)
    counter.latch_status(5)
    assert counter.read(5) & 0x40
    counter.latch_status(11)
    assert not counter.read(11) & 0x40


@example(2, 1, 0, (0, 3))
@example(4, 1, 0, (0, 1))
@given(
    st.integers(0, 5),
    st.integers(1, 12),
    st.integers(0, 30),
    st.one_of(st.none(), st.tuples(st.integers(0, 30), st.integers(1, 12))),
)
def test_next_edge_never_misses_a_change_of_out(
    mode: int, count: int, start: int, rewrite: tuple[int, int] | None
) -> None:
    counter = programmed(mode, count, gate=mode not in (1, 5))
    counter.set_gate(2, True)
    tick = start + 2
    if rewrite is not None:
        tick += rewrite[0]
        write(counter, tick, rewrite[1])
    for _ in range(60):
        edge = counter.next_edge(tick)
        before, after = counter.output(tick), counter.output(tick + 1)
        if before != after:
            assert edge == tick + 1
        assert edge is None or edge > tick
        tick += 1


@given(st.integers(0, 5), st.integers(2, 9), st.integers(0, 40))
def test_looking_seldom_and_looking_often_see_the_same(mode: int, count: int, look: int) -> None:
    often, seldom = programmed(mode, count), programmed(mode, count)
    for counter in (often, seldom):
        write(counter, 3, count + 1)
    for tick in range(4, look + 4):
        often.output(tick)
    at = look + 4
    assert (often.output(at), often.count(at)) == (seldom.output(at), seldom.count(at))
