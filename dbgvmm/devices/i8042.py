"""The 8042 keyboard controller with nothing plugged in (IBM PS/2 technical reference, keyboard controller).

It answers every command that has an answer, so that no driver waits: the self test passes, a byte sent to the
keyboard comes back as a time-out at once, and there is no auxiliary (mouse) port. Its output port drives the
CPU's reset line and one side of the A20 gate.
"""
from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from dbgvmm.devices.a20 import A20Gate
from dbgvmm.devices.bus import PortBus
from dbgvmm.devices.wires import IrqLine, Signal

DATA_PORT: Final = 0x60
COMMAND_PORT: Final = 0x64
KEYBOARD_IRQ: Final = 1
NO_COMMAND: Final = -1
_RAM_SIZE: Final = 0x20


class Status:
    """The status register, port 64h."""

    OUTPUT_FULL: Final = 0x01
    SYSTEM_FLAG: Final = 0x04
    LAST_WAS_COMMAND: Final = 0x08
    NOT_LOCKED: Final = 0x10
    TIMEOUT: Final = 0x40


class CommandByte:
    """Byte 0 of the controller's RAM."""

    KEYBOARD_INTERRUPT: Final = 0x01
    SYSTEM_FLAG: Final = 0x04
    KEYBOARD_DISABLED: Final = 0x10
    AUX_DISABLED: Final = 0x20
    TRANSLATE: Final = 0x40
    POWER_ON: Final = KEYBOARD_INTERRUPT | SYSTEM_FLAG | AUX_DISABLED | TRANSLATE


class OutputPort:
    """The output port; RESET is active low."""

    RESET: Final = 0x01
    A20: Final = 0x02
    OUTPUT_FULL: Final = 0x10
    POWER_ON: Final = 0xCF & ~OUTPUT_FULL


class Command:
    """Commands written to port 64h."""

    READ_RAM: Final = 0x20
    WRITE_RAM: Final = 0x60
    DISABLE_AUX: Final = 0xA7
    ENABLE_AUX: Final = 0xA8
    TEST_AUX: Final = 0xA9
    SELF_TEST: Final = 0xAA
    TEST_KEYBOARD: Final = 0xAB
    DISABLE_KEYBOARD: Final = 0xAD
    ENABLE_KEYBOARD: Final = 0xAE
    READ_INPUT_PORT: Final = 0xC0
    READ_OUTPUT_PORT: Final = 0xD0
    WRITE_OUTPUT_PORT: Final = 0xD1
    WRITE_KEYBOARD_BUFFER: Final = 0xD2
    WRITE_AUX_BUFFER: Final = 0xD3
    WRITE_AUX: Final = 0xD4
    DISABLE_A20: Final = 0xDD
    ENABLE_A20: Final = 0xDF
    PULSE_OUTPUT: Final = 0xF0


SELF_TEST_PASSED: Final = 0x55
_TEST_PASSED: Final = 0x00
_CLOCK_STUCK_LOW: Final = 0x01
_RESEND: Final = 0xFE
_INPUT_PORT: Final = 0xA0  # keyboard not inhibited, manufacturing jumper not installed


@dataclass(frozen=True, slots=True)
class I8042State:
    """RAM, output port, the command that waits for its data byte, and the answers not yet read."""

    ram: bytes
    output_port: int
    command: int
    last_was_command: bool
    timeout: bool
    data: int
    answers: bytes
    from_keyboard: bool


class I8042:
    """The controller. `on_reset` is called when the guest pulses the CPU's reset line."""

    _ram: bytearray
    _output_port: int
    _command: int
    _last_was_command: bool
    _timeout: bool
    _data: int
    _from_keyboard: bool

    def __init__(self, irq: IrqLine, a20: A20Gate, on_reset: Signal) -> None:
        self._irq = irq
        self._a20 = a20
        self._on_reset = on_reset
        self._answers: deque[int] = deque()
        self._clear()

    def attach(self, ports: PortBus) -> None:
        """Claim ports 60h and 64h."""
        ports.register(DATA_PORT, DATA_PORT, self)
        ports.register(COMMAND_PORT, COMMAND_PORT, self)

    def read_port(self, port: int, size: int) -> int:
        """Read the status register or take a byte from the output buffer."""
        if port == COMMAND_PORT:
            return (
                Status.NOT_LOCKED
                | (Status.OUTPUT_FULL if self._answers else 0)
                | (Status.SYSTEM_FLAG if self._ram[0] & CommandByte.SYSTEM_FLAG else 0)
                | (Status.LAST_WAS_COMMAND if self._last_was_command else 0)
                | (Status.TIMEOUT if self._timeout else 0)
            )
        if self._answers:
            self._data = self._answers.popleft()
            if not self._answers:
                self._timeout = False
                self._from_keyboard = False
            self._update_irq()
        return self._data

    def write_port(self, port: int, value: int, size: int) -> None:
        """Write a command, or a data byte for the last command or the keyboard."""
        if port == COMMAND_PORT:
            self._last_was_command = True
            self._run_command(value)
        else:
            self._last_was_command = False
            self._run_data(value)
        self._update_irq()

    def reset(self) -> None:
        """Power on."""
        self._clear()
        self._irq(False)

    def state(self) -> I8042State:
        """A copy of everything."""
        return I8042State(
            bytes(self._ram), self._output_port, self._command, self._last_was_command, self._timeout, self._data,
            bytes(self._answers), self._from_keyboard,
        )

    def load_state(self, state: I8042State) -> None:
        """Take over everything; IRQ 1 and A20 are part of their own owners' state."""
        self._ram = bytearray(state.ram)
        self._output_port = state.output_port
        self._command = state.command
        self._last_was_command = state.last_was_command
        self._timeout = state.timeout
        self._data = state.data
        self._answers = deque(state.answers)
        self._from_keyboard = state.from_keyboard

    def _clear(self) -> None:
        self._ram = bytearray(_RAM_SIZE)
        self._ram[0] = CommandByte.POWER_ON
        self._output_port = OutputPort.POWER_ON
        self._command = NO_COMMAND
        self._last_was_command = False
        self._timeout = False
        self._data = 0
        self._answers.clear()
        self._from_keyboard = False

    def _run_command(self, command: int) -> None:
        self._command = NO_COMMAND
        if Command.READ_RAM <= command < Command.READ_RAM + _RAM_SIZE:
            self._answer(self._ram[command % _RAM_SIZE])
        elif Command.WRITE_RAM <= command < Command.WRITE_RAM + _RAM_SIZE:
            self._command = command
        elif command >= Command.PULSE_OUTPUT:
            # A zero among the low four bits pulls that output low for some microseconds; only bit 0 leads somewhere.
            if not command & OutputPort.RESET:
                self._on_reset()
        else:
            self._run_simple_command(command)

    def _run_simple_command(self, command: int) -> None:
        match command:
            case Command.SELF_TEST:
                self._ram[0] |= CommandByte.SYSTEM_FLAG
                self._answers.clear()
                self._answer(SELF_TEST_PASSED)
            case Command.TEST_KEYBOARD:
                self._answer(_TEST_PASSED)
            case Command.TEST_AUX:
                self._answer(_CLOCK_STUCK_LOW)
            case Command.DISABLE_KEYBOARD:
                self._ram[0] |= CommandByte.KEYBOARD_DISABLED
            case Command.ENABLE_KEYBOARD:
                self._ram[0] &= ~CommandByte.KEYBOARD_DISABLED
            case Command.DISABLE_AUX:
                self._ram[0] |= CommandByte.AUX_DISABLED
            case Command.ENABLE_AUX:
                self._ram[0] &= ~CommandByte.AUX_DISABLED
            case Command.READ_INPUT_PORT:
                self._answer(_INPUT_PORT)
            case Command.READ_OUTPUT_PORT:
                self._answer(self._output_port | (OutputPort.OUTPUT_FULL if self._answers else 0))
            case Command.DISABLE_A20:
                self._set_output_port(self._output_port & ~OutputPort.A20)
            case Command.ENABLE_A20:
                self._set_output_port(self._output_port | OutputPort.A20)
            case (
                Command.WRITE_OUTPUT_PORT
                | Command.WRITE_KEYBOARD_BUFFER
                | Command.WRITE_AUX_BUFFER
                | Command.WRITE_AUX
            ):
                self._command = command

    def _run_data(self, value: int) -> None:
        command, self._command = self._command, NO_COMMAND
        match command:
            case Command.WRITE_OUTPUT_PORT:
                self._set_output_port(value)
            case Command.WRITE_KEYBOARD_BUFFER:
                self._answer(value, from_keyboard=True)
            case Command.WRITE_AUX_BUFFER:
                # Without an auxiliary port the byte does not come back marked as one from it.
                self._answer(value)
            case Command.WRITE_AUX:
                self._answer(_RESEND, timeout=True)
            case _ if command != NO_COMMAND:
                self._ram[command % _RAM_SIZE] = value
            case _:
                self._ram[0] &= ~CommandByte.KEYBOARD_DISABLED
                self._answer(_RESEND, from_keyboard=True, timeout=True)

    def _answer(self, value: int, *, from_keyboard: bool = False, timeout: bool = False) -> None:
        self._answers.append(value)
        self._from_keyboard = from_keyboard
        self._timeout = timeout

    def _set_output_port(self, value: int) -> None:
        self._output_port = value
        self._a20.set_keyboard(bool(value & OutputPort.A20))
        if not value & OutputPort.RESET:
            self._on_reset()

    def _update_irq(self) -> None:
        enabled = self._ram[0] & CommandByte.KEYBOARD_INTERRUPT
        self._irq(bool(enabled and self._answers and self._from_keyboard))
