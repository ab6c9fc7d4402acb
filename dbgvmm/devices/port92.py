"""Port 92h, system control port A: fast A20 and fast reset (IBM PS/2 technical reference)."""
from __future__ import annotations

from typing import Final

from dbgvmm.devices.a20 import A20Gate
from dbgvmm.devices.bus import PortBus
from dbgvmm.devices.wires import Signal

PORT_92: Final = 0x92


class Port92Bit:
    """Bits of port 92h."""

    FAST_RESET: Final = 0x01
    A20: Final = 0x02


class Port92:
    """Fast A20 in bit 1; a rising bit 0 resets the CPU."""

    def __init__(self, a20: A20Gate, on_reset: Signal) -> None:
        self._a20 = a20
        self._on_reset = on_reset
        self._value = 0

    def attach(self, ports: PortBus) -> None:
        """Claim the port."""
        ports.register(PORT_92, PORT_92, self)

    def read_port(self, port: int, size: int) -> int:
        """The value last written."""
        return self._value

    def write_port(self, port: int, value: int, size: int) -> None:
        """Set A20; reset when bit 0 goes from 0 to 1."""
        rising = value & ~self._value
        self._value = value
        self._a20.set_fast(bool(value & Port92Bit.A20))
        if rising & Port92Bit.FAST_RESET:
            self._on_reset()

    def reset(self) -> None:
        """Power on: both bits zero."""
        self._value = 0

    def state(self) -> int:
        """The register."""
        return self._value

    def load_state(self, state: int) -> None:
        """Take over the register; the gate's level is part of its own state."""
        self._value = state
