from __future__ import annotations

import pytest

from dbgvmm.devices.board import Board
from dbgvmm.timeline.clock import InstructionClock
from dbgvmm.timeline.events import EventQueue


class Rig:
    """A board, with everything that it told the machine."""

    def __init__(self) -> None:
        self.clock = InstructionClock()
        self.events = EventQueue(self.clock)
        self.serial = bytearray()
        self.exits: list[int] = []
        self.told: list[str] = []
        self.board = Board(
            self.clock,
            self.events,
            memory_size=64 << 20,
            serial_sink=self.serial.extend,
            on_exit=self.exits.append,
            on_power_off=lambda: self.told.append("off"),
            on_reset=lambda: self.told.append("reset"),
            rtc_epoch=0,
        )

    def out(self, port: int, value: int, size: int = 1) -> None:
        self.board.ports.write(port, value, size)

    def run_until(self, ns: int) -> list[int]:
        """Halt until `ns` taking every interrupt; the vectors in order."""
        vectors = []
        while (deadline := self.events.next_deadline_ns()) is not None and deadline <= ns:
            self.clock.skip_to(deadline)
            self.events.run_due()
            while self.board.interrupt_pending():
                vectors.append(self.board.acknowledge_interrupt())
                self.out(0xA0, 0x20)
                self.out(0x20, 0x20)
        self.clock.skip_to(ns)
        return vectors


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.mark.parametrize("port", [0x1F0, 0x1F7, 0x3F6, 0x170, 0x376, 0x3F4, 0x378, 0x2F8, 0x3D4, 0x000, 0x388])
def test_absent_hardware_reads_as_ones(rig: Rig, port: int) -> None:
    assert rig.board.ports.read(port, 1) == 0xFF


def test_there_is_no_pci(rig: Rig) -> None:
    rig.out(0xCF8, 0x8000_0000, 4)
    assert rig.board.ports.read(0xCF8, 4) == 0xFFFF_FFFF
    assert rig.board.ports.read(0xCFC, 4) == 0xFFFF_FFFF


def test_a_pci_probe_is_not_taken_for_a_reset(rig: Rig) -> None:
    rig.out(0xCF8, 0x8000_FFFC, 4)
    rig.out(0xCF8, 0x0606, 2)
    assert rig.told == []


@pytest.mark.parametrize("value", [0x06, 0x04, 0x0E])
def test_reset_control_resets_when_bit_2_rises(rig: Rig, value: int) -> None:
    rig.out(0xCF9, value & ~0x04)
    assert rig.told == []
    rig.out(0xCF9, value)
    assert rig.told == ["reset"]


def test_reset_control_does_not_reset_again_while_bit_2_stays(rig: Rig) -> None:
    rig.out(0xCF9, 0x04)
    rig.out(0xCF9, 0x06)
    assert rig.told == ["reset"]


@pytest.mark.parametrize("port", [0x604, 0xB004])
def test_the_word_2000_switches_off(rig: Rig, port: int) -> None:
    rig.out(port, 0x2000, 2)
    assert rig.told == ["off"]


@pytest.mark.parametrize("value", [0x0000, 0x0001, 0x3400, 0x2400])
def test_other_words_do_not_switch_off(rig: Rig, value: int) -> None:
    rig.out(0x604, value, 2)
    assert rig.told == []


@pytest.mark.parametrize(
    ("text", "told"),
    [("Shutdown", ["off"]), ("ShShutdown", ["off"]), ("shutdown", []), ("Shut", []), ("Shut-down", [])],
)
def test_spelling_shutdown_switches_off(rig: Rig, text: str, told: list[str]) -> None:
    for letter in text:
        rig.out(0x8900, ord(letter))
    assert rig.told == told


@pytest.mark.parametrize(("value", "size", "code"), [(0, 1, 1), (0x10, 1, 33), (0x31, 4, 99), (0xFF, 1, 511)])
def test_the_debug_exit_gives_the_code_that_qemu_gives(rig: Rig, value: int, size: int, code: int) -> None:
    rig.out(0xF4, value, size)
    assert rig.exits == [code]


def test_the_debug_console_puts_bytes_out_and_says_it_is_there(rig: Rig) -> None:
    rig.out(0xE9, ord("!"))
    assert rig.serial == b"!"
    assert rig.board.ports.read(0xE9, 1) == 0xE9


def test_port_80_keeps_the_last_code_and_counts(rig: Rig) -> None:
    rig.out(0x80, 0x12)
    rig.out(0x80, 0x34)
    assert (rig.board.post.last, rig.board.post.count) == (0x34, 2)


def test_com1_is_at_3f8(rig: Rig) -> None:
    rig.out(0x3FB, 3)
    rig.out(0x3F8, ord("A"))
    assert rig.serial == b"A"


def test_nothing_is_requested_before_anything_is_programmed(rig: Rig) -> None:
    assert rig.run_until(10**9) == []


def test_firmware_leaves_the_timer_running_at_vector_8(rig: Rig) -> None:
    rig.board.program_as_firmware()
    assert rig.run_until(10**9) == [8] * 19, "one for OUT 0 high at programming, 18 for the second"


def test_firmware_leaves_the_slave_at_vector_70(rig: Rig) -> None:
    rig.board.program_as_firmware()
    rig.out(0xA1, 0xFE)
    rig.board.pic.set_irq(8, True)
    assert rig.board.acknowledge_interrupt() == 0x08
    rig.out(0x20, 0x20)
    assert rig.board.acknowledge_interrupt() == 0x70


def test_the_devices_are_on_the_lines_of_a_pc(rig: Rig) -> None:
    rig.board.program_as_firmware()
    rig.out(0x43, 0x30)
    rig.out(0x21, 0x00)
    rig.out(0xA1, 0x00)
    rig.out(0x3FC, 0x08)
    rig.out(0x3F9, 0x01)
    rig.board.uart.receive(b"x")
    rig.out(0x60, 0xF2)
    rig.out(0x70, 0x0B)
    rig.out(0x71, 0x12)
    rig.clock.skip_to(10**9)
    rig.events.run_due()
    irr = rig.board.ports.read(0x20, 1)
    assert irr == 1 << 4 | 1 << 2 | 1 << 1
    assert rig.board.ports.read(0xA0, 1) == 1


def test_reset_silences_every_device(rig: Rig) -> None:
    rig.board.program_as_firmware()
    rig.out(0x70, 0x0B)
    rig.out(0x71, 0x42)
    rig.board.reset()
    assert rig.events.next_deadline_ns() is None
    assert not rig.board.interrupt_pending()


def test_a_board_restored_from_a_snapshot_runs_as_it_did(rig: Rig) -> None:
    rig.board.program_as_firmware()
    rig.out(0xA1, 0xFE)
    rig.out(0x70, 0x0B)
    rig.out(0x71, 0x52)
    rig.run_until(300_000_000)
    saved = rig.clock.state(), rig.events.state(), rig.board.state()
    first = rig.run_until(2_000_000_000), rig.board.state()
    rig.clock.load_state(saved[0])
    rig.events.load_state(saved[1])
    rig.board.load_state(saved[2])
    assert (rig.run_until(2_000_000_000), rig.board.state()) == first
