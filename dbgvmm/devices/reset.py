"""The reset control register at CF9h (Intel 82371SB data sheet, "RC, reset control register").

It sits in the middle of the PCI configuration address register CF8h, which is only ever accessed as a dword: the
width tells the two apart. There is no PCI here, so CF8h-CFBh read as ones otherwise and a dword written there
must not be split into bytes, one of which would look like a reset.
"""
from __future__ import annotations

from typing import Final

from dbgvmm.devices.bus import PortBus
from dbgvmm.devices.wires import Signal

PCI_CONFIG_ADDRESS: Final = 0xCF8
RESET_CONTROL: Final = 0xCF9


class ResetBit:
    """Bits of the reset control register."""

    HARD: Final = 0x02
    RESET_CPU: Final = 0x04
    FULL_POWER_CYCLE: Final = 0x08
    WRITABLE: Final = HARD | RESET_CPU | FULL_POWER_CYCLE


class ResetControl:
    """Calls `on_reset` when RESET_CPU goes from 0 to 1, for a soft and a hard reset alike."""

    def __init__(self, on_reset: Signal) -> None:
        self._on_reset = on_reset
        self._value = 0

    def attach(self, ports: PortBus) -> None:
        """Claim CF8h-CFBh at every width."""
        ports.register(PCI_CONFIG_ADDRESS, PCI_CONFIG_ADDRESS + 3, self, widest=4)

    def read_port(self, port: int, size: int) -> int:
        """The register for a byte access to CF9h; no PCI bridge for everything else."""
        if port == RESET_CONTROL and size == 1:
            return self._value
        return 0xFFFF_FFFF

    def write_port(self, port: int, value: int, size: int) -> None:
        """Reset on a byte access to CF9h that raises RESET_CPU."""
        if port == RESET_CONTROL and size == 1:
            rising = value & ~self._value
            self._value = value & ResetBit.WRITABLE
            if rising & ResetBit.RESET_CPU:
                self._on_reset()

    def reset(self) -> None:
        """Power on: zero."""
        self._value = 0

    def state(self) -> int:
        """The register."""
        return self._value

    def load_state(self, state: int) -> None:
        """Take over the register."""
        self._value = state
