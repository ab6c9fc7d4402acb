from __future__ import annotations

import pytest

from dbgvmm.devices.bus import PortBus
from dbgvmm.devices.uart import Uart16550A

DATA, IER, IIR, FCR, LCR, MCR, LSR, MSR, SCR = 0, 1, 2, 2, 3, 4, 5, 6, 7
BASE = 0x3F8


class Rig:
    """A UART on a bus, with what it sent and the level of its interrupt line."""

    def __init__(self) -> None:
        self.sent = bytearray()
        self.level = False
        self.bus = PortBus()
        self.uart = Uart16550A(self.sent.extend, self._irq)
        self.uart.attach(self.bus)

    def _irq(self, level: bool) -> None:
        self.level = level

    def set(self, register: int, *values: int) -> None:
        for value in values:
            self.bus.write(BASE + register, value, 1)

    def get(self, register: int) -> int:
        return self.bus.read(BASE + register, 1)


@pytest.fixture
def rig() -> Rig:
    rig = Rig()
    rig.set(LCR, 0x03)
    rig.set(MCR, 0x0B)
    return rig


def test_a_byte_written_is_sent_at_once_and_the_transmitter_is_empty(rig: Rig) -> None:
    rig.set(DATA, *b"hello")
    assert rig.sent == b"hello"
    assert rig.get(LSR) == 0x60


def test_short_words_lose_their_upper_bits(rig: Rig) -> None:
    rig.set(LCR, 0x02)
    rig.set(DATA, 0xC1)
    assert rig.sent == b"\x41"


def test_the_divisor_is_behind_dlab_and_does_not_disturb_data(rig: Rig) -> None:
    rig.set(LCR, 0x83)
    rig.set(0, 0x34)
    rig.set(1, 0x12)
    assert (rig.get(0), rig.get(1)) == (0x34, 0x12)
    rig.set(LCR, 0x03)
    assert rig.get(IER) == 0
    assert rig.sent == b""


def test_the_scratch_register_keeps_what_it_is_given(rig: Rig) -> None:
    rig.set(SCR, 0xA5)
    assert rig.get(SCR) == 0xA5


def test_the_upper_bits_of_ier_and_mcr_do_not_exist(rig: Rig) -> None:
    rig.set(IER, 0xFF)
    rig.set(MCR, 0xFF)
    assert (rig.get(IER), rig.get(MCR)) == (0x0F, 0x1F)


def test_iir_shows_the_fifos_only_while_they_are_on(rig: Rig) -> None:
    assert rig.get(IIR) == 0x01
    rig.set(FCR, 0x01)
    assert rig.get(IIR) == 0xC1
    rig.set(FCR, 0x00)
    assert rig.get(IIR) == 0x01


def test_received_bytes_are_read_in_order_and_data_ready_goes_out_with_the_last(rig: Rig) -> None:
    rig.set(FCR, 0x01)
    rig.uart.receive(b"ab")
    assert rig.get(LSR) & 1
    assert [rig.get(DATA), rig.get(DATA)] == list(b"ab")
    assert not rig.get(LSR) & 1


@pytest.mark.parametrize("fcr", [0x00, 0x01])
def test_a_long_paste_is_not_lost(rig: Rig, fcr: int) -> None:
    rig.set(FCR, fcr)
    text = bytes(range(256)) * 4
    rig.uart.receive(text)
    got = bytearray()
    while rig.get(LSR) & 1:
        got.append(rig.get(DATA))
    assert got == text
    assert not rig.get(LSR) & 2


def test_received_data_interrupts_until_it_is_read(rig: Rig) -> None:
    rig.set(IER, 0x01)
    rig.uart.receive(b"x")
    assert rig.level
    assert rig.get(IIR) == 0x04
    rig.get(DATA)
    assert not rig.level


@pytest.mark.parametrize(("fcr", "level"), [(0x01, 1), (0x41, 4), (0x81, 8), (0xC1, 14)])
def test_below_the_trigger_level_it_is_a_character_timeout(rig: Rig, fcr: int, level: int) -> None:
    rig.set(IER, 0x01)
    rig.set(FCR, fcr)
    rig.uart.receive(b"x" * level)
    assert rig.get(IIR) == 0xC4
    rig.get(DATA)
    assert rig.get(IIR) == (0xCC if level > 1 else 0xC1)


def test_enabling_thre_while_empty_interrupts(rig: Rig) -> None:
    rig.set(IER, 0x02)
    assert rig.level
    assert rig.get(IIR) == 0x02
    assert not rig.level, "reading IIR clears the THRE interrupt"
    rig.set(IER, 0x00, 0x02)
    assert rig.get(IIR) == 0x02


def test_enabling_thre_again_while_it_is_enabled_does_not_interrupt(rig: Rig) -> None:
    rig.set(IER, 0x02)
    rig.get(IIR)
    rig.set(IER, 0x02)
    assert not rig.level


def test_each_byte_sent_makes_a_new_thre_interrupt(rig: Rig) -> None:
    rig.set(IER, 0x02)
    rig.get(IIR)
    rig.set(DATA, ord("x"))
    assert rig.level
    assert rig.get(IIR) == 0x02


def test_received_data_comes_before_thre(rig: Rig) -> None:
    rig.set(IER, 0x03)
    rig.uart.receive(b"x")
    assert rig.get(IIR) == 0x04
    rig.get(DATA)
    assert rig.get(IIR) == 0x02


def test_a_break_is_a_line_status_interrupt_and_a_zero_byte(rig: Rig) -> None:
    rig.set(IER, 0x05)
    rig.set(FCR, 0x01)
    rig.uart.receive_break()
    rig.uart.receive(b"h")
    assert rig.get(IIR) == 0xC6
    assert rig.get(LSR) == 0x60 | 0x80 | 0x10 | 0x01
    assert rig.get(LSR) == 0x61
    assert [rig.get(DATA), rig.get(DATA)] == [0, ord("h")]


def test_an_error_shows_when_its_character_is_at_the_top_of_the_fifo(rig: Rig) -> None:
    rig.set(FCR, 0x01)
    rig.uart.receive(b"a")
    rig.uart.receive_break()
    assert rig.get(LSR) == 0x60 | 0x80 | 0x01
    rig.get(DATA)
    assert rig.get(LSR) & 0x10


def test_out2_connects_the_interrupt_line(rig: Rig) -> None:
    rig.set(MCR, 0x03)
    rig.set(IER, 0x02)
    assert not rig.level
    rig.set(MCR, 0x0B)
    assert rig.level


def test_loopback_cuts_the_interrupt_line_off(rig: Rig) -> None:
    rig.set(IER, 0x02)
    rig.set(MCR, 0x1B)
    assert not rig.level
    assert rig.get(IIR) == 0x02


def test_clearing_the_receive_fifo_drops_what_is_in_it(rig: Rig) -> None:
    rig.set(FCR, 0x01)
    rig.uart.receive(b"abc")
    rig.set(FCR, 0x03)
    assert not rig.get(LSR) & 1


def test_the_terminal_keeps_cts_dsr_and_dcd_asserted(rig: Rig) -> None:
    assert rig.get(MSR) == 0xB0


def test_loopback_returns_the_modem_outputs_crosswise(rig: Rig) -> None:
    rig.set(MCR, 0x10)
    for output, line in ((0x01, 0x20), (0x02, 0x10), (0x04, 0x40), (0x08, 0x80)):
        rig.set(MCR, 0x10 | output)
        assert rig.get(MSR) & 0xF0 == line


def test_a_modem_line_that_changed_interrupts_until_msr_is_read(rig: Rig) -> None:
    rig.set(IER, 0x08)
    rig.set(MCR, 0x10)
    assert rig.get(IIR) == 0x00
    assert rig.get(MSR) == 0x0B
    assert rig.get(IIR) == 0x01


def test_the_ring_indicator_reports_only_its_trailing_edge(rig: Rig) -> None:
    rig.set(MCR, 0x10)
    rig.get(MSR)
    rig.set(MCR, 0x14)
    assert rig.get(MSR) == 0x40
    rig.set(MCR, 0x10)
    assert rig.get(MSR) == 0x04


def test_loopback_receives_what_it_sends_and_nothing_else(rig: Rig) -> None:
    rig.set(MCR, 0x1B)
    rig.uart.receive(b"outside")
    rig.set(DATA, 0xAE)
    assert rig.get(DATA) == 0xAE
    assert not rig.get(LSR) & 1
    assert rig.sent == b""
    rig.set(MCR, 0x0B)
    assert rig.get(DATA) == ord("o")


def test_loopback_overruns_a_full_fifo_and_keeps_the_old_bytes(rig: Rig) -> None:
    rig.set(FCR, 0x01)
    rig.set(MCR, 0x10)
    rig.set(DATA, *range(17))
    assert rig.get(LSR) & 2
    assert [rig.get(DATA) for _ in range(16)] == list(range(16))


def test_without_fifos_an_overrun_keeps_the_new_byte(rig: Rig) -> None:
    rig.set(MCR, 0x10)
    rig.set(DATA, 1, 2)
    assert rig.get(LSR) & 2
    assert rig.get(DATA) == 2


def test_linux_finds_a_16550a() -> None:
    """The probing sequence of drivers/tty/serial/8250, as far as it tells chips apart."""
    rig = Rig()
    rig.set(IER, 0x00)
    assert rig.get(IER) & 0x0F == 0
    rig.set(IER, 0x0F)
    assert rig.get(IER) & 0x0F == 0x0F
    rig.set(IER, 0)
    rig.set(MCR, 0x1A)
    assert rig.get(MSR) & 0xF0 == 0x90, "the loopback test"
    rig.set(MCR, 0)
    rig.set(LCR, 0xBF)
    rig.set(FCR, 0)
    rig.set(LCR, 0)
    rig.set(FCR, 0x01)
    assert rig.get(IIR) >> 6 == 3, "FIFOs that work"
    rig.set(LCR, 0x80)
    assert rig.get(2) != 0, "no EFR: not a 16650"
    rig.set(LCR, 0xBF)
    assert rig.get(2) != 0, "no EFR: not a 16650V2"
    rig.set(LCR, 0)
    rig.set(FCR, 0x01)
    without_64 = rig.get(IIR) >> 5
    rig.set(LCR, 0x80)
    rig.set(FCR, 0x21)
    assert (without_64, rig.get(IIR) >> 5) == (6, 6), "no 64-byte FIFO: not a 16750"
    rig.set(LCR, 0)
    rig.set(IER, 0x40)
    assert not rig.get(IER) & 0x40, "no UUE bit: not an XScale"


def test_linux_finds_no_thre_bug(rig: Rig) -> None:
    rig.set(IER, 0x02)
    first = rig.get(IIR)
    rig.set(IER, 0)
    rig.set(IER, 0x02)
    second = rig.get(IIR)
    assert not (first & 1 == 0 and second & 1)


def test_reset_keeps_divisor_and_scratch_and_clears_the_rest(rig: Rig) -> None:
    rig.set(SCR, 0x77)
    rig.set(IER, 0x0F)
    rig.uart.reset()
    assert (rig.get(SCR), rig.get(IER), rig.get(MCR), rig.get(LCR)) == (0x77, 0, 0, 0)
    assert not rig.level


def test_a_saved_state_brings_back_registers_and_input(rig: Rig) -> None:
    rig.set(FCR, 0xC1)
    rig.set(IER, 0x01)
    rig.uart.receive(b"0123456789abcdefXYZ")
    saved = rig.uart.state()
    while rig.get(LSR) & 1:
        rig.get(DATA)
    rig.uart.load_state(saved)
    assert rig.uart.waiting_input() == 19
    assert rig.get(IIR) == 0xC4
    assert bytes(rig.get(DATA) for _ in range(19)) == b"0123456789abcdefXYZ"
