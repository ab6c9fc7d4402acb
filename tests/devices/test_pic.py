from __future__ import annotations

import pytest

from dbgvmm.devices.bus import PortBus
from dbgvmm.devices.pic import DualPic


class Rig:
    """A pair of PICs on a bus, initialized as an operating system does: vectors 20h and 28h."""

    def __init__(self, master_icw4: int = 0x01, slave_icw4: int = 0x01) -> None:
        self.changes: list[bool] = []
        self.bus = PortBus()
        self.pic = DualPic(self.changes.append)
        self.pic.attach(self.bus)
        for port, value in (
            (0x20, 0x11), (0x21, 0x20), (0x21, 0x04), (0x21, master_icw4),
            (0xA0, 0x11), (0xA1, 0x28), (0xA1, 0x02), (0xA1, slave_icw4),
        ):
            self.out(port, value)

    def out(self, port: int, value: int) -> None:
        self.bus.write(port, value, 1)

    def inb(self, port: int) -> int:
        return self.bus.read(port, 1)

    def irr(self, port: int = 0x20) -> int:
        self.out(port, 0x0A)
        return self.inb(port)

    def isr(self, port: int = 0x20) -> int:
        self.out(port, 0x0B)
        return self.inb(port)

    def pulse(self, line: int) -> None:
        self.pic.set_irq(line, False)
        self.pic.set_irq(line, True)


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_a_chip_that_was_never_initialized_requests_nothing() -> None:
    pic = DualPic()
    pic.set_irq(0, True)
    assert not pic.has_interrupt()


def test_an_edge_raises_intr_and_gives_the_vector_of_icw2(rig: Rig) -> None:
    rig.pic.set_irq(4, True)
    assert rig.pic.has_interrupt()
    assert rig.pic.acknowledge() == 0x24
    assert not rig.pic.has_interrupt()


def test_a_slave_interrupt_comes_through_the_cascade(rig: Rig) -> None:
    rig.pic.set_irq(8, True)
    assert rig.pic.acknowledge() == 0x28
    assert (rig.isr(0x20), rig.isr(0xA0)) == (0x04, 0x01)


def test_on_change_hears_each_change_of_intr_once(rig: Rig) -> None:
    rig.pic.set_irq(1, True)
    rig.pic.set_irq(5, True)
    rig.pic.acknowledge()
    assert rig.changes == [True, False]


def test_a_line_that_stays_high_requests_only_once_when_edge_triggered(rig: Rig) -> None:
    rig.pic.set_irq(4, True)
    rig.pic.acknowledge()
    rig.out(0x20, 0x20)
    rig.pic.set_irq(4, True)
    assert not rig.pic.has_interrupt()


def test_a_line_that_stays_high_requests_again_when_level_triggered(rig: Rig) -> None:
    rig.out(0x4D0, 0x20)
    rig.pic.set_irq(5, True)
    rig.pic.acknowledge()
    rig.out(0x20, 0x20)
    assert rig.pic.has_interrupt()
    rig.pic.set_irq(5, False)
    assert not rig.pic.has_interrupt()


def test_elcr_keeps_the_timer_keyboard_cascade_rtc_and_fpu_lines_edge_triggered(rig: Rig) -> None:
    rig.bus.write(0x4D0, 0xFFFF, 2)
    assert rig.bus.read(0x4D0, 2) == 0xDEF8


def test_a_masked_line_is_latched_and_delivered_when_unmasked(rig: Rig) -> None:
    rig.out(0x21, 0x10)
    rig.pic.set_irq(4, True)
    assert not rig.pic.has_interrupt()
    assert (rig.irr(), rig.inb(0x21)) == (0x10, 0x10)
    rig.out(0x21, 0)
    assert rig.pic.has_interrupt()


def test_a_lower_priority_waits_for_eoi_and_a_higher_one_interrupts(rig: Rig) -> None:
    rig.pic.set_irq(4, True)
    rig.pic.acknowledge()
    rig.pic.set_irq(5, True)
    assert not rig.pic.has_interrupt()
    rig.pic.set_irq(3, True)
    assert rig.pic.acknowledge() == 0x23
    assert rig.isr() == 0x18


def test_a_nonspecific_eoi_ends_the_highest_priority_in_service(rig: Rig) -> None:
    rig.pic.set_irq(4, True)
    rig.pic.acknowledge()
    rig.pic.set_irq(1, True)
    rig.pic.acknowledge()
    rig.out(0x20, 0x20)
    assert rig.isr() == 0x10


def test_a_specific_eoi_ends_the_level_it_names(rig: Rig) -> None:
    rig.pic.set_irq(4, True)
    rig.pic.acknowledge()
    rig.pic.set_irq(1, True)
    rig.pic.acknowledge()
    rig.out(0x20, 0x64)
    assert rig.isr() == 0x02


def test_auto_eoi_leaves_nothing_in_service() -> None:
    rig = Rig(master_icw4=0x03)
    rig.pic.set_irq(4, True)
    rig.pic.acknowledge()
    assert rig.isr() == 0


def test_rotation_on_eoi_makes_the_served_level_the_lowest(rig: Rig) -> None:
    rig.pic.set_irq(3, True)
    rig.pic.acknowledge()
    rig.out(0x20, 0xA0)
    rig.pulse(3)
    rig.pulse(4)
    assert rig.pic.acknowledge() == 0x24


def test_rotation_in_auto_eoi_mode_takes_turns() -> None:
    rig = Rig(master_icw4=0x03)
    rig.out(0x20, 0x80)
    rig.pulse(0)
    rig.pulse(1)
    assert rig.pic.acknowledge() == 0x20
    rig.pulse(0)
    assert [rig.pic.acknowledge(), rig.pic.acknowledge()] == [0x21, 0x20]


def test_set_priority_names_the_lowest_level(rig: Rig) -> None:
    rig.out(0x20, 0xC0 | 4)
    rig.pulse(0)
    rig.pulse(5)
    assert rig.pic.acknowledge() == 0x25


def test_rotate_on_specific_eoi_ends_and_rotates(rig: Rig) -> None:
    rig.pic.set_irq(5, True)
    rig.pic.acknowledge()
    rig.out(0x20, 0xE5)
    assert rig.isr() == 0
    rig.pulse(5)
    rig.pulse(6)
    assert rig.pic.acknowledge() == 0x26


def test_special_mask_mode_lets_lower_levels_through_a_masked_one_in_service(rig: Rig) -> None:
    rig.pic.set_irq(3, True)
    rig.pic.acknowledge()
    rig.pic.set_irq(6, True)
    assert not rig.pic.has_interrupt()
    rig.out(0x21, 0x08)
    rig.out(0x20, 0x68)
    assert rig.pic.acknowledge() == 0x26
    rig.out(0x20, 0x20)
    assert rig.isr() == 0x08, "a masked in-service bit is not seen by a non-specific EOI in special mask mode"


def test_special_fully_nested_mode_lets_the_slave_interrupt_itself() -> None:
    rig = Rig(master_icw4=0x11)
    rig.pic.set_irq(12, True)
    rig.pic.acknowledge()
    rig.pic.set_irq(5, True)
    assert not rig.pic.has_interrupt()
    rig.pic.set_irq(8, True)
    assert rig.pic.acknowledge() == 0x28


def test_without_special_nesting_the_slave_is_locked_out_while_in_service(rig: Rig) -> None:
    rig.pic.set_irq(12, True)
    rig.pic.acknowledge()
    rig.pic.set_irq(8, True)
    assert not rig.pic.has_interrupt()


def test_two_slave_interrupts_are_both_delivered(rig: Rig) -> None:
    rig.pic.set_irq(8, True)
    rig.pic.set_irq(14, True)
    assert rig.pic.acknowledge() == 0x28
    rig.out(0xA0, 0x20)
    rig.out(0x20, 0x20)
    assert rig.pic.acknowledge() == 0x2E


def test_a_slave_in_auto_eoi_mode_makes_a_new_edge_for_its_next_request() -> None:
    rig = Rig(slave_icw4=0x03)
    rig.pic.set_irq(8, True)
    rig.pic.set_irq(14, True)
    assert rig.pic.acknowledge() == 0x28
    rig.out(0x20, 0x20)
    assert rig.pic.acknowledge() == 0x2E


def test_a_poll_read_acknowledges_and_names_the_level(rig: Rig) -> None:
    rig.pic.set_irq(4, True)
    rig.out(0x20, 0x0C)
    assert rig.inb(0x20) == 0x84
    assert rig.isr() == 0x10


def test_a_poll_without_a_request_says_so(rig: Rig) -> None:
    rig.out(0x20, 0x0C)
    assert rig.inb(0x20) & 0x80 == 0


def test_polling_the_slave_releases_the_cascade_for_the_next_request(rig: Rig) -> None:
    rig.pic.set_irq(9, True)
    rig.pic.set_irq(10, True)
    rig.out(0x20, 0x0C)
    assert rig.inb(0x20) == 0x82
    rig.out(0xA0, 0x0C)
    assert rig.inb(0xA0) == 0x81
    rig.out(0xA0, 0x20)
    rig.out(0x20, 0x20)
    assert rig.pic.acknowledge() == 0x2A


def test_a_request_withdrawn_before_the_acknowledge_is_a_spurious_irq_7(rig: Rig) -> None:
    rig.pic.set_irq(3, True)
    rig.pic.set_irq(3, False)
    assert not rig.pic.has_interrupt()
    assert rig.pic.acknowledge() == 0x27
    assert rig.isr() == 0


def test_a_slave_request_masked_under_the_cascade_is_a_spurious_irq_15() -> None:
    rig = Rig()
    rig.pic.set_irq(10, True)
    # A slave that stops requesting lowers the cascade at once, so the only way to a spurious IRQ 15 is a poll
    # that takes the slave's request away between the master's decision and the slave's.
    state = rig.pic.state()
    state.slave.imr = 0xFF
    rig.pic.load_state(state)
    assert rig.pic.acknowledge() == 0x2F
    assert (rig.isr(0x20), rig.isr(0xA0)) == (0x04, 0x00)


def test_icw1_clears_mask_service_and_latched_edges(rig: Rig) -> None:
    rig.out(0x21, 0xFF)
    rig.pic.set_irq(4, True)
    for port, value in ((0x20, 0x11), (0x21, 0x40), (0x21, 0x04), (0x21, 0x01)):
        rig.out(port, value)
    assert (rig.inb(0x21), rig.irr(), rig.isr()) == (0, 0, 0)
    rig.pulse(4)
    assert rig.pic.acknowledge() == 0x44


def test_icw3_and_icw4_are_skipped_when_icw1_says_so(rig: Rig) -> None:
    rig.out(0x20, 0x12)
    rig.out(0x21, 0x60)
    rig.out(0x21, 0xFE)
    assert rig.inb(0x21) == 0xFE
    rig.pulse(0)
    assert rig.pic.acknowledge() == 0x60


def test_icw2_gives_only_the_upper_five_bits_of_the_vector() -> None:
    rig = Rig()
    for port, value in ((0x20, 0x11), (0x21, 0x47), (0x21, 0x04), (0x21, 0x01)):
        rig.out(port, value)
    rig.pulse(1)
    assert rig.pic.acknowledge() == 0x41


@pytest.mark.parametrize("line", [-1, 2, 16])
def test_a_line_that_is_not_there_is_refused(rig: Rig, line: int) -> None:
    with pytest.raises(ValueError, match="there is no IRQ"):
        rig.pic.set_irq(line, True)


def test_a_saved_state_brings_back_pending_and_in_service_interrupts(rig: Rig) -> None:
    rig.pic.set_irq(12, True)
    rig.pic.acknowledge()
    rig.pic.set_irq(1, True)
    saved = rig.pic.state()
    rig.pic.reset()
    assert not rig.pic.has_interrupt()
    rig.pic.load_state(saved)
    assert rig.pic.acknowledge() == 0x21
    assert rig.pic.state() != saved, "the saved state is a copy"
