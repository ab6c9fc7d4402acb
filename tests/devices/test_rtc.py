from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbgvmm.devices.bus import PortBus
from dbgvmm.devices.rtc import UIP_NS, Rtc
from dbgvmm.devices.rtc_calendar import AlarmTime, CalendarTime
from dbgvmm.timeline.clock import NS_PER_SECOND, InstructionClock
from dbgvmm.timeline.events import EventQueue

EPOCH = int(datetime(2024, 2, 28, 23, 59, 50, tzinfo=UTC).timestamp())
SEC, SEC_ALARM, MIN, MIN_ALARM, HOUR, HOUR_ALARM, WEEKDAY, DAY, MONTH, YEAR = range(10)
A, B, C, D, CENTURY = 0x0A, 0x0B, 0x0C, 0x0D, 0x32
MIB = 1 << 20


class Rig:
    """An RTC on a bus, with the virtual times at which IRQ 8 rose."""

    def __init__(self, epoch: int = EPOCH, memory_size: int = 128 * MIB) -> None:
        self.clock = InstructionClock()
        self.events = EventQueue(self.clock)
        self.bus = PortBus()
        self.level = False
        self.rises: list[int] = []
        self.rtc = Rtc(self.clock, self.events, self._irq, epoch=epoch, memory_size=memory_size)
        self.rtc.attach(self.bus)

    def _irq(self, level: bool) -> None:
        if level and not self.level:
            self.rises.append(self.clock.now_ns())
        self.level = level

    def get(self, index: int) -> int:
        self.bus.write(0x70, index, 1)
        return self.bus.read(0x71, 1)

    def set(self, index: int, value: int) -> None:
        self.bus.write(0x70, index, 1)
        self.bus.write(0x71, value, 1)

    def time(self) -> list[int]:
        return [self.get(index) for index in (CENTURY, YEAR, MONTH, DAY, HOUR, MIN, SEC)]

    def seconds(self, seconds: float) -> None:
        self.clock.skip_to(self.clock.now_ns() + int(seconds * NS_PER_SECOND))

    def run_for(self, seconds: float, *, acknowledge: bool = True) -> None:
        """Halt for a while as a guest that reads register C at each interrupt."""
        end = self.clock.now_ns() + int(seconds * NS_PER_SECOND)
        while (deadline := self.events.next_deadline_ns()) is not None and deadline <= end:
            self.clock.skip_to(deadline)
            self.events.run_due()
            if acknowledge:
                self.get(C)
        self.clock.skip_to(end)


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_the_time_at_power_on_is_the_epoch_in_bcd_and_24_hours(rig: Rig) -> None:
    assert rig.time() == [0x20, 0x24, 0x02, 0x28, 0x23, 0x59, 0x50]
    assert rig.get(B) == 0x02


def test_the_time_goes_on_with_virtual_time_over_a_leap_day(rig: Rig) -> None:
    rig.seconds(10)
    assert rig.time() == [0x20, 0x24, 0x02, 0x29, 0x00, 0x00, 0x00]
    rig.seconds(86_400)
    assert rig.time() == [0x20, 0x24, 0x03, 0x01, 0x00, 0x00, 0x00]


def test_the_weekday_counts_from_sunday_as_1(rig: Rig) -> None:
    assert rig.get(WEEKDAY) == 4
    rig.seconds(4 * 86_400)
    assert rig.get(WEEKDAY) == 1


def test_the_clock_never_looks_at_the_host() -> None:
    first, second = Rig(), Rig()
    assert first.time() == second.time()


def test_binary_mode_gives_plain_numbers(rig: Rig) -> None:
    rig.set(B, 0x06)
    assert rig.time() == [20, 24, 2, 28, 23, 59, 50]


@pytest.mark.parametrize(("hour", "bcd"), [(0, 0x12), (1, 0x01), (11, 0x11), (12, 0x92), (13, 0x81), (23, 0x91)])
def test_twelve_hour_mode_marks_pm_in_bit_7(hour: int, bcd: int) -> None:
    rig = Rig(epoch=hour * 3600)
    rig.set(B, 0x00)
    assert rig.get(HOUR) == bcd
    rig.set(HOUR, bcd)
    rig.set(B, 0x06)
    assert rig.get(HOUR) == hour


def test_the_time_can_be_set_and_goes_on_from_there(rig: Rig) -> None:
    rig.set(B, 0x82)
    for index, value in ((CENTURY, 0x19), (YEAR, 0x99), (MONTH, 0x12), (DAY, 0x31)):
        rig.set(index, value)
    for index, value in ((HOUR, 0x23), (MIN, 0x59), (SEC, 0x59)):
        rig.set(index, value)
    rig.set(B, 0x02)
    rig.seconds(1)
    assert rig.time() == [0x20, 0x00, 0x01, 0x01, 0x00, 0x00, 0x00]


def test_set_stops_the_clock(rig: Rig) -> None:
    rig.set(B, 0x82)
    rig.seconds(100)
    assert rig.get(SEC) == 0x50
    rig.set(B, 0x02)
    rig.seconds(3)
    assert rig.get(SEC) == 0x53


def test_set_clears_the_update_interrupt_enable(rig: Rig) -> None:
    rig.set(B, 0x92)
    assert rig.get(B) == 0x82


def test_uip_is_set_for_the_last_2228_microseconds_of_a_second(rig: Rig) -> None:
    rig.clock.skip_to(NS_PER_SECOND - UIP_NS - 1)
    assert not rig.get(A) & 0x80
    rig.clock.skip_to(NS_PER_SECOND - UIP_NS)
    assert rig.get(A) & 0x80
    assert rig.get(SEC) == 0x50
    rig.clock.skip_to(NS_PER_SECOND)
    assert not rig.get(A) & 0x80
    assert rig.get(SEC) == 0x51


def test_uip_is_never_set_while_set_stops_the_clock(rig: Rig) -> None:
    rig.set(B, 0x82)
    rig.clock.skip_to(NS_PER_SECOND - 1)
    assert not rig.get(A) & 0x80


def test_uip_cannot_be_written(rig: Rig) -> None:
    rig.set(A, 0xA6)
    assert rig.get(A) == 0x26


def test_the_first_update_comes_half_a_second_after_the_divider_is_released(rig: Rig) -> None:
    rig.set(A, 0x66)
    rig.seconds(10)
    assert rig.get(SEC) == 0x50
    rig.set(A, 0x26)
    rig.seconds(0.499)
    assert rig.get(SEC) == 0x50
    rig.seconds(0.001)
    assert rig.get(SEC) == 0x51


def test_the_update_interrupt_comes_at_each_full_second(rig: Rig) -> None:
    rig.set(B, 0x12)
    rig.run_for(3.5)
    assert rig.rises == [NS_PER_SECOND * n for n in (1, 2, 3)]


@pytest.mark.parametrize(("rate", "hz"), [(1, 256), (2, 128), (3, 8192), (6, 1024), (15, 2)])
def test_the_periodic_interrupt_comes_at_the_rate_of_register_a(rig: Rig, rate: int, hz: int) -> None:
    rig.set(A, 0x20 | rate)
    rig.set(B, 0x42)
    rig.run_for(1)
    assert rig.rises == [-(-n * NS_PER_SECOND // hz) for n in range(1, hz + 1)]


def test_rate_zero_makes_no_periodic_interrupt(rig: Rig) -> None:
    rig.set(A, 0x20)
    rig.set(B, 0x42)
    rig.run_for(2)
    assert rig.rises == []
    assert not rig.get(C) & 0x40


def test_irq_8_stays_up_until_register_c_is_read(rig: Rig) -> None:
    rig.set(B, 0x42)
    rig.run_for(1, acknowledge=False)
    assert rig.level
    assert len(rig.rises) == 1
    assert rig.get(C) & 0xC0 == 0xC0
    assert not rig.level
    assert rig.get(C) == 0


def test_flags_can_be_polled_without_any_interrupt(rig: Rig) -> None:
    rig.get(C)
    rig.seconds(1)
    assert rig.get(C) == 0x10 | 0x40
    assert rig.rises == []
    assert rig.events.next_deadline_ns() is None


def test_enabling_an_interrupt_whose_flag_is_set_raises_the_line(rig: Rig) -> None:
    rig.seconds(1)
    rig.set(B, 0x12)
    assert rig.level


def test_the_alarm_interrupts_at_its_time_of_day(rig: Rig) -> None:
    for index, value in ((SEC_ALARM, 0x05), (MIN_ALARM, 0x00), (HOUR_ALARM, 0x00)):
        rig.set(index, value)
    rig.set(B, 0x22)
    rig.run_for(2 * 86_400)
    assert rig.rises == [15 * NS_PER_SECOND, (15 + 86_400) * NS_PER_SECOND]


def test_an_alarm_of_all_dont_cares_comes_every_second(rig: Rig) -> None:
    for index in (SEC_ALARM, MIN_ALARM, HOUR_ALARM):
        rig.set(index, 0xFF)
    rig.set(B, 0x22)
    rig.run_for(4)
    assert len(rig.rises) == 4


def test_an_alarm_can_be_polled(rig: Rig) -> None:
    rig.set(SEC_ALARM, 0x52)
    rig.set(MIN_ALARM, 0xC0)
    rig.set(HOUR_ALARM, 0xC0)
    rig.seconds(1)
    assert not rig.get(C) & 0x20
    rig.seconds(1)
    assert rig.get(C) & 0x20


def test_register_d_says_that_the_battery_is_good(rig: Rig) -> None:
    rig.set(D, 0)
    assert rig.get(D) == 0x80


def test_bit_7_of_the_index_masks_nmi_and_selects_nothing(rig: Rig) -> None:
    assert rig.get(0x80 | D) == 0x80
    assert rig.rtc.nmi_masked
    assert rig.bus.read(0x70, 1) == 0xFF


@pytest.mark.parametrize(
    ("size", "base", "extended", "above"),
    [
        (MIB, 640, 0, 0),
        (16 * MIB, 640, 15 * 1024, 0),
        (128 * MIB, 640, 0xFFFF, 112 * 16),
        (8 << 30, 640, 0xFFFF, 0xFFFF),
    ],
)
def test_cmos_tells_the_memory_size(size: int, base: int, extended: int, above: int) -> None:
    rig = Rig(memory_size=size)

    def word(index: int) -> int:
        return rig.get(index) | rig.get(index + 1) << 8

    assert (word(0x15), word(0x17), word(0x30), word(0x34)) == (base, extended, extended, above)


def test_the_cmos_checksum_is_right(rig: Rig) -> None:
    assert rig.get(0x2E) << 8 | rig.get(0x2F) == sum(rig.get(index) for index in range(0x10, 0x2E))


def test_cmos_memory_keeps_what_is_written(rig: Rig) -> None:
    rig.set(0x40, 0x5A)
    assert rig.get(0x40) == 0x5A


def test_reset_stops_interrupts_and_not_the_time(rig: Rig) -> None:
    rig.set(B, 0x72)
    rig.seconds(5)
    rig.rtc.reset()
    assert rig.get(B) == 0x02
    assert not rig.level
    assert rig.get(SEC) == 0x55


def test_a_saved_state_interrupts_again_at_the_same_times(rig: Rig) -> None:
    rig.set(A, 0x2A)
    rig.set(B, 0x52)
    rig.run_for(0.7)
    saved = rig.clock.state(), rig.events.state(), rig.rtc.state()
    rig.rises.clear()
    rig.run_for(2)
    first, rig.rises = rig.rises, []
    rig.set(B, 0x82)
    rig.clock.load_state(saved[0])
    rig.events.load_state(saved[1])
    rig.rtc.load_state(saved[2])
    rig.run_for(2)
    assert rig.rises == first
    assert len(first) > 100


@given(st.integers(0, 4_000_000_000), st.integers(0, 10**9))
def test_the_calendar_agrees_with_the_gregorian_one(start: int, seconds: int) -> None:
    assert CalendarTime.from_unix(start).plus(seconds) == CalendarTime.from_unix(start + seconds)


def test_the_calendar_survives_what_no_calendar_has() -> None:
    later = CalendarTime(99, 99, 99, 9, 0, 0, 2023).plus(1)
    assert (later.day, later.month, later.year) == (2, 1, 2023)


@given(
    st.integers(0, 86_399),
    st.one_of(st.none(), st.integers(0, 59)),
    st.one_of(st.none(), st.integers(0, 59)),
    st.one_of(st.none(), st.integers(0, 23)),
)
def test_the_next_alarm_is_the_first_second_that_matches(
    now: int, second: int | None, minute: int | None, hour: int | None
) -> None:
    found = AlarmTime(second, minute, hour).seconds_after(CalendarTime.from_unix(now))
    assert found is not None
    when = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=now + found)
    for wanted, field in ((second, when.second), (minute, when.minute), (hour, when.hour)):
        assert wanted is None or wanted == field
    unit = 60 if minute is None and hour is None else 3600 if hour is None else 86_400
    assert 1 <= found <= (1 if second is minute is hour is None else unit)


def test_an_alarm_that_no_second_matches_never_comes() -> None:
    assert AlarmTime(0, 0, 25).seconds_after(CalendarTime.from_unix(0)) is None
