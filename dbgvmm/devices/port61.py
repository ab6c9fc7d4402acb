"""Port 61h, the PC's system control port B: speaker, counter 2's gate and output, the refresh toggle.

Intel 82371SB data sheet, "NMI status and control register". There are no parity or channel-check errors here,
so bits 7:6 read as zero.
"""
from __future__ import annotations

from typing import Final

from dbgvmm.devices.bus import PortBus
from dbgvmm.devices.pit import Pit8254, tick_at
from dbgvmm.timeline.clock import InstructionClock

PORT_61: Final = 0x61
_REFRESH_TICKS: Final = 18
"""The refresh request toggles every 18 PIT ticks (15.085 us), as the firmware programs counter 1."""


class Port61Bit:
    """Bits of port 61h; those above WRITABLE are status."""

    COUNTER_2_GATE: Final = 0x01
    SPEAKER: Final = 0x02
    WRITABLE: Final = 0x0F
    REFRESH_TOGGLE: Final = 0x10
    COUNTER_2_OUT: Final = 0x20


class Port61:
    """System control port B, in front of counter 2 of `pit`."""

    def __init__(self, clock: InstructionClock, pit: Pit8254) -> None:
        self._clock = clock
        self._pit = pit
        self._control = 0

    def attach(self, ports: PortBus) -> None:
        """Claim the port."""
        ports.register(PORT_61, PORT_61, self)

    def read_port(self, port: int, size: int) -> int:
        """The control bits as written, the refresh toggle and OUT 2."""
        refresh = tick_at(self._clock.now_ns()) // _REFRESH_TICKS & 1
        return self._control | refresh * Port61Bit.REFRESH_TOGGLE | self._pit.out2() * Port61Bit.COUNTER_2_OUT

    def write_port(self, port: int, value: int, size: int) -> None:
        """Set the control bits; bit 0 drives GATE 2."""
        self._control = value & Port61Bit.WRITABLE
        self._pit.set_gate2(bool(value & Port61Bit.COUNTER_2_GATE))

    def reset(self) -> None:
        """Power on: gate and speaker off."""
        self.write_port(PORT_61, 0, 1)

    def state(self) -> int:
        """The control bits."""
        return self._control

    def load_state(self, state: int) -> None:
        """Take over the control bits; GATE 2 is part of the PIT's own state."""
        self._control = state
