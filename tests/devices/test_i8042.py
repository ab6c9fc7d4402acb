from __future__ import annotations

import pytest

from dbgvmm.devices.a20 import A20Gate
from dbgvmm.devices.bus import PortBus
from dbgvmm.devices.i8042 import I8042
from dbgvmm.devices.port92 import Port92

OUTPUT_FULL = 0x01
AUX_DATA = 0x20
TIMEOUT = 0x40


class Rig:
    """The keyboard controller and port 92h with the A20 gate between them."""

    def __init__(self) -> None:
        self.level = False
        self.resets = 0
        self.a20_changes: list[bool] = []
        self.bus = PortBus()
        self.a20 = A20Gate(self.a20_changes.append)
        self.i8042 = I8042(self._irq, self.a20, self._reset)
        self.i8042.attach(self.bus)
        self.port92 = Port92(self.a20, self._reset)
        self.port92.attach(self.bus)

    def _irq(self, level: bool) -> None:
        self.level = level

    def _reset(self) -> None:
        self.resets += 1

    def command(self, command: int, *data: int) -> None:
        self.bus.write(0x64, command, 1)
        for byte in data:
            self.bus.write(0x60, byte, 1)

    def status(self) -> int:
        return self.bus.read(0x64, 1)

    def data(self) -> int:
        assert self.status() & OUTPUT_FULL, "a driver would wait here"
        return self.bus.read(0x60, 1)


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_the_output_buffer_starts_empty_and_input_is_never_busy(rig: Rig) -> None:
    assert rig.status() & 0x03 == 0


def test_the_self_test_passes(rig: Rig) -> None:
    rig.command(0xAA)
    assert rig.data() == 0x55
    assert not rig.status() & OUTPUT_FULL


def test_the_command_byte_can_be_read_and_written(rig: Rig) -> None:
    rig.command(0x60, 0x41)
    rig.command(0x20)
    assert rig.data() == 0x41


def test_disabling_and_enabling_the_keyboard_shows_in_the_command_byte(rig: Rig) -> None:
    rig.command(0xAD)
    rig.command(0x20)
    assert rig.data() & 0x10
    rig.command(0xAE)
    rig.command(0x20)
    assert not rig.data() & 0x10


def test_status_tells_a_command_from_data(rig: Rig) -> None:
    rig.command(0x60)
    assert rig.status() & 0x08
    rig.bus.write(0x60, 0x45, 1)
    assert not rig.status() & 0x08


def test_the_auxiliary_loop_answers_without_the_auxiliary_mark(rig: Rig) -> None:
    """Linux takes this for «no mouse port» and does not wait for anything."""
    rig.command(0xD3, 0x5A)
    assert not rig.status() & AUX_DATA
    assert rig.data() == 0x5A


def test_the_auxiliary_test_reports_an_error(rig: Rig) -> None:
    rig.command(0xA9)
    assert rig.data() == 0x01


def test_a_byte_for_the_absent_keyboard_times_out_at_once_with_irq_1(rig: Rig) -> None:
    rig.bus.write(0x60, 0xF2, 1)
    assert rig.level
    assert rig.status() & (OUTPUT_FULL | TIMEOUT) == OUTPUT_FULL | TIMEOUT
    assert rig.data() == 0xFE
    assert not rig.level
    assert not rig.status() & TIMEOUT


def test_controller_answers_do_not_interrupt(rig: Rig) -> None:
    rig.command(0xAA)
    assert not rig.level


def test_the_keyboard_interrupt_can_be_disabled(rig: Rig) -> None:
    rig.command(0x60, 0x44)
    rig.bus.write(0x60, 0xF2, 1)
    assert not rig.level


def test_the_keyboard_buffer_command_looks_like_a_key(rig: Rig) -> None:
    rig.command(0xD2, 0x1E)
    assert rig.level
    assert rig.data() == 0x1E


def test_command_fe_resets(rig: Rig) -> None:
    rig.command(0xFE)
    assert rig.resets == 1


@pytest.mark.parametrize("command", [0xFF, 0xF1, 0xFD])
def test_pulsing_other_outputs_does_not_reset(rig: Rig, command: int) -> None:
    rig.command(command)
    assert rig.resets == 0


def test_writing_the_reset_bit_of_the_output_port_as_zero_resets(rig: Rig) -> None:
    rig.command(0xD1, 0xDE)
    assert rig.resets == 1


def test_the_output_port_drives_a20(rig: Rig) -> None:
    rig.command(0xD1, 0xDD)
    assert not rig.a20.enabled
    rig.command(0xD1, 0xDF)
    assert rig.a20.enabled
    assert rig.a20_changes == [False, True]


def test_the_output_port_can_be_read_back(rig: Rig) -> None:
    rig.command(0xDD)
    rig.command(0xD0)
    assert rig.data() & 0x02 == 0
    rig.command(0xDF)
    rig.command(0xD0)
    assert rig.data() & 0x03 == 0x03


def test_a20_is_open_when_either_side_says_so(rig: Rig) -> None:
    rig.bus.write(0x92, 0x02, 1)
    rig.command(0xDD)
    assert rig.a20.enabled
    rig.bus.write(0x92, 0x00, 1)
    assert not rig.a20.enabled


def test_port_92_resets_on_the_rise_of_bit_0(rig: Rig) -> None:
    rig.bus.write(0x92, 0x01, 1)
    rig.bus.write(0x92, 0x01, 1)
    assert rig.resets == 1
    assert rig.bus.read(0x92, 1) == 0x01


def test_reset_empties_the_controller_and_opens_a20(rig: Rig) -> None:
    rig.command(0xDD)
    rig.bus.write(0x60, 0xF2, 1)
    rig.i8042.reset()
    rig.a20.reset()
    assert not rig.level
    assert not rig.status() & OUTPUT_FULL
    assert rig.a20.enabled


def test_a_saved_state_brings_back_answers_that_wait(rig: Rig) -> None:
    rig.command(0xAA)
    rig.command(0x60)
    saved = rig.i8042.state()
    rig.i8042.reset()
    rig.i8042.load_state(saved)
    assert rig.data() == 0x55
    rig.bus.write(0x60, 0x47, 1)
    rig.command(0x20)
    assert rig.data() == 0x47
