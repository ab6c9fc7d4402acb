from __future__ import annotations

import pytest

from dbgvmm.devices.bus import PortBus
from dbgvmm.devices.pit import PIT_HZ, Pit8254, ns_of_tick, tick_at
from dbgvmm.devices.port61 import Port61
from dbgvmm.timeline.clock import NS_PER_SECOND, InstructionClock
from dbgvmm.timeline.events import EventQueue


class Rig:
    """A PIT and port 61h on a bus, counting the rising edges of IRQ 0 and keeping when they came."""

    def __init__(self) -> None:
        self.clock = InstructionClock()
        self.events = EventQueue(self.clock)
        self.bus = PortBus()
        self.rises: list[int] = []
        self.level = False
        self.pit = Pit8254(self.clock, self.events, self._irq)
        self.pit.attach(self.bus)
        self.port61 = Port61(self.clock, self.pit)
        self.port61.attach(self.bus)

    def _irq(self, level: bool) -> None:
        if level and not self.level:
            self.rises.append(self.clock.now_ns())
        self.level = level

    def out(self, port: int, *values: int) -> None:
        for value in values:
            self.bus.write(port, value, 1)

    def inb(self, port: int) -> int:
        return self.bus.read(port, 1)

    def run_until(self, ns: int) -> None:
        """Halt until `ns`, taking every event at its deadline."""
        while (deadline := self.events.next_deadline_ns()) is not None and deadline <= ns:
            self.clock.skip_to(deadline)
            self.events.run_due()
        self.clock.skip_to(ns)


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_a_tick_begins_at_the_first_nanosecond_that_belongs_to_it() -> None:
    for tick in (0, 1, 2, 1000, PIT_HZ, 10**15 + 7):
        assert tick_at(ns_of_tick(tick)) == tick
        assert tick == 0 or tick_at(ns_of_tick(tick) - 1) == tick - 1


def test_mode_2_interrupts_at_exactly_its_rate_with_no_drift(rig: Rig) -> None:
    rig.out(0x43, 0x34)
    rig.out(0x40, 11932 & 0xFF, 11932 >> 8)
    rig.rises.clear()
    rig.run_until(100 * NS_PER_SECOND)
    assert rig.rises == [ns_of_tick(1 + 11932 * n) for n in range(1, len(rig.rises) + 1)]
    assert len(rig.rises) == (100 * PIT_HZ - 1) // 11932


def test_mode_3_interrupts_once_a_period(rig: Rig) -> None:
    rig.out(0x43, 0x36)
    rig.out(0x40, 0, 0)
    rig.rises.clear()
    rig.run_until(NS_PER_SECOND)
    assert len(rig.rises) == 18


def test_mode_0_interrupts_once(rig: Rig) -> None:
    rig.out(0x43, 0x30)
    rig.out(0x40, 100, 0)
    rig.run_until(NS_PER_SECOND)
    assert rig.rises == [ns_of_tick(101)]
    assert rig.events.next_deadline_ns() is None


def test_mode_4_interrupts_after_its_strobe(rig: Rig) -> None:
    rig.out(0x43, 0x38)
    rig.out(0x40, 0xE8, 0x03)
    rig.rises.clear()
    rig.run_until(NS_PER_SECOND)
    assert rig.rises == [ns_of_tick(1002)]


def test_a_new_count_in_mode_4_moves_the_interrupt(rig: Rig) -> None:
    rig.out(0x43, 0x38)
    rig.out(0x40, 0xE8, 0x03)
    rig.rises.clear()
    rig.run_until(ns_of_tick(500))
    rig.out(0x40, 0xE8, 0x03)
    rig.run_until(NS_PER_SECOND)
    assert rig.rises == [ns_of_tick(1502)]


def test_no_edge_is_lost_when_the_machine_comes_late(rig: Rig) -> None:
    rig.out(0x43, 0x34)
    rig.out(0x40, 10, 0)
    rig.rises.clear()
    rig.clock.skip_to(ns_of_tick(1 + 10 * 50))
    rig.events.run_due()
    assert len(rig.rises) == 50


def test_reprogramming_stops_the_old_interrupts(rig: Rig) -> None:
    rig.out(0x43, 0x34)
    rig.out(0x40, 10, 0)
    rig.out(0x43, 0x30)
    assert not rig.level
    assert rig.events.next_deadline_ns() is None


def test_the_latch_command_holds_the_count_of_one_counter(rig: Rig) -> None:
    rig.out(0x43, 0x34)
    rig.out(0x40, 0x00, 0x10)
    rig.clock.skip_to(ns_of_tick(1 + 0x234))
    rig.out(0x43, 0x00)
    rig.clock.skip_to(ns_of_tick(3000))
    assert rig.inb(0x40) | rig.inb(0x40) << 8 == 0x1000 - 0x234


def test_read_back_latches_status_and_count_of_several_counters(rig: Rig) -> None:
    rig.out(0x43, 0x34, 0x54)
    rig.out(0x40, 0x00, 0x10)
    rig.out(0x41, 0x12)
    rig.clock.skip_to(ns_of_tick(1))
    rig.out(0x43, 0xC6)
    assert [rig.inb(0x40), rig.inb(0x40), rig.inb(0x40)] == [0x80 | 0x34, 0x00, 0x10]
    assert [rig.inb(0x41), rig.inb(0x41)] == [0x80 | 0x14, 0x12]


def test_the_control_register_reads_as_ones(rig: Rig) -> None:
    assert rig.inb(0x43) == 0xFF


def test_counter_2_counts_only_while_port_61_opens_its_gate(rig: Rig) -> None:
    rig.out(0x43, 0xB0)
    rig.out(0x42, 0x64, 0)
    rig.clock.skip_to(ns_of_tick(5000))
    assert not rig.inb(0x61) & 0x20
    rig.out(0x61, 0x01)
    rig.clock.skip_to(ns_of_tick(5099))
    assert not rig.inb(0x61) & 0x20
    rig.clock.skip_to(ns_of_tick(5100))
    assert rig.inb(0x61) & 0x20


def test_a_delay_loop_on_counter_2_takes_as_long_as_was_asked(rig: Rig) -> None:
    """How Linux calibrates its TSC: mode 0, wait for OUT 2."""
    rig.out(0x61, 0x01)
    rig.out(0x43, 0xB0)
    count = PIT_HZ // 100
    rig.out(0x42, count & 0xFF, count >> 8)
    start = rig.clock.tsc()
    while not rig.inb(0x61) & 0x20:
        rig.clock.count += 10
    assert 9_999_000 <= rig.clock.tsc() - start <= 10_002_000


def test_the_refresh_toggle_changes_every_15_microseconds(rig: Rig) -> None:
    seen = []
    for tick in range(0, 18 * 6, 18):
        rig.clock.skip_to(ns_of_tick(tick))
        seen.append(rig.inb(0x61) & 0x10)
    assert seen == [0, 0x10, 0, 0x10, 0, 0x10]


def test_port_61_keeps_its_control_bits_and_not_its_status_bits(rig: Rig) -> None:
    rig.out(0x61, 0xFF)
    assert rig.inb(0x61) & 0xCF == 0x0F


def test_a_saved_state_interrupts_again_at_the_same_times(rig: Rig) -> None:
    rig.out(0x43, 0x34)
    rig.out(0x40, 0x97, 0x02)
    rig.run_until(1_000_000)
    saved = rig.clock.state(), rig.events.state(), rig.pit.state(), rig.level
    rig.rises.clear()
    rig.run_until(5_000_000)
    first, rig.rises = rig.rises, []
    rig.out(0x43, 0x30)
    rig.clock.load_state(saved[0])
    rig.events.load_state(saved[1])
    rig.pit.load_state(saved[2])
    rig.level = saved[3]
    rig.run_until(5_000_000)
    assert rig.rises == first
    assert len(first) > 5


def test_reset_stops_the_counters_and_lowers_the_line(rig: Rig) -> None:
    rig.out(0x43, 0x36)
    rig.out(0x40, 0, 0)
    rig.pit.reset()
    assert not rig.level
    assert rig.events.next_deadline_ns() is None
