"""Ways to switch the machine off without ACPI tables: the ports that hobby kernels know by heart.

- 604h: PM1a_CNT where QEMU's PIIX4 has it. SLP_EN with SLP_TYP 0 (soft off), that is the word 2000h.
- B004h: the same register where Bochs and old QEMU have it.
- 8900h: Bochs takes the string "Shutdown", byte by byte.
"""
from __future__ import annotations

from typing import Final

from dbgvmm.devices.bus import PortBus
from dbgvmm.devices.wires import Signal

PIIX4_PM1A_CNT: Final = 0x604
BOCHS_PM1A_CNT: Final = 0xB004
BOCHS_SHUTDOWN: Final = 0x8900
SHUTDOWN_WORD: Final = b"Shutdown"


class Pm1Control:
    """The PM1 control register (ACPI specification, 4.8.3.2.1)."""

    SLEEP_ENABLE: Final = 1 << 13
    SLEEP_TYPE: Final = 7 << 10


class PowerOff:
    """All power-off ports; `on_power_off` is called when one of them is asked."""

    def __init__(self, on_power_off: Signal) -> None:
        self._on_power_off = on_power_off
        self._matched = 0

    def attach(self, ports: PortBus) -> None:
        """Claim the ports."""
        ports.register(PIIX4_PM1A_CNT, PIIX4_PM1A_CNT + 1, self, widest=2)
        ports.register(BOCHS_PM1A_CNT, BOCHS_PM1A_CNT + 1, self, widest=2)
        ports.register(BOCHS_SHUTDOWN, BOCHS_SHUTDOWN, self)

    def read_port(self, port: int, size: int) -> int:
        """There is nothing to read: all ones."""
        return 0xFFFF

    def write_port(self, port: int, value: int, size: int) -> None:
        """Switch off if the value says so."""
        if port == BOCHS_SHUTDOWN:
            self._spell(value)
        elif size == 2 and value & (Pm1Control.SLEEP_ENABLE | Pm1Control.SLEEP_TYPE) == Pm1Control.SLEEP_ENABLE:
            self._on_power_off()

    def reset(self) -> None:
        """Power on: no letter of the word was written."""
        self._matched = 0

    def state(self) -> int:
        """How many letters of the word were written in a row."""
        return self._matched

    def load_state(self, state: int) -> None:
        """Take over the letters."""
        self._matched = state

    def _spell(self, letter: int) -> None:
        if letter != SHUTDOWN_WORD[self._matched]:
            self._matched = 0
        if letter == SHUTDOWN_WORD[self._matched]:
            self._matched += 1
        if self._matched == len(SHUTDOWN_WORD):
            self._matched = 0
            self._on_power_off()
