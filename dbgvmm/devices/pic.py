"""The PC's pair of 8259A interrupt controllers, the slave on the master's IR2.

Ports: master 20h-21h, slave A0h-A1h, edge/level control 4D0h-4D1h (Intel 82371SB data sheet, 2.5.8).
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from dbgvmm.devices.bus import PortBus
from dbgvmm.devices.i8259 import NO_REQUEST, Pic8259, PicChipState
from dbgvmm.devices.wires import IrqLine

CASCADE_LEVEL: Final = 2
MASTER_COMMAND: Final = 0x20
MASTER_DATA: Final = 0x21
SLAVE_COMMAND: Final = 0xA0
SLAVE_DATA: Final = 0xA1
ELCR_MASTER: Final = 0x4D0
ELCR_SLAVE: Final = 0x4D1

# The timer, keyboard, cascade, RTC and FPU lines are edge-triggered for good (82371SB, ELCR1 and ELCR2).
_MASTER_LEVEL_CAPABLE: Final = 0xF8
_SLAVE_LEVEL_CAPABLE: Final = 0xDE


@dataclass(frozen=True, slots=True)
class PicState:
    """Both chips."""

    master: PicChipState
    slave: PicChipState


class DualPic:
    """Sixteen interrupt lines into one INTR. `on_change` is called with INTR's new level whenever it changes."""

    def __init__(self, on_change: Callable[[bool], None] | None = None) -> None:
        self._master = Pic8259(level_capable=_MASTER_LEVEL_CAPABLE, slaves=1 << CASCADE_LEVEL)
        self._slave = Pic8259(level_capable=_SLAVE_LEVEL_CAPABLE, slaves=0)
        self._on_change = on_change
        self._intr = False

    def attach(self, ports: PortBus) -> None:
        """Claim the ports."""
        ports.register(MASTER_COMMAND, MASTER_DATA, self)
        ports.register(SLAVE_COMMAND, SLAVE_DATA, self)
        ports.register(ELCR_MASTER, ELCR_SLAVE, self)

    def set_irq(self, line: int, level: bool) -> None:
        """Drive IRQ `line` (0-15, not 2: that input is the slave's). Raises ValueError for a line that isn't there."""
        if not 0 <= line <= 15 or line == CASCADE_LEVEL:
            raise ValueError(f"there is no IRQ {line}: lines are 0-15 without 2, the cascade (ISA IRQ 2 is line 9)")
        chip = self._slave if line & 8 else self._master
        if chip.line_is_high(line & 7) != level:
            chip.set_line(line & 7, level)
            self._update()

    def line(self, number: int) -> IrqLine:
        """The wire of IRQ `number`, to hand to a device."""
        return lambda level: self.set_irq(number, level)

    def has_interrupt(self) -> bool:
        """The level of INTR."""
        return self._intr

    def acknowledge(self) -> int:
        """The CPU's INTA sequence: the vector to deliver. Without a request it is a spurious IRQ 7 (or 15)."""
        level = self._master.acknowledge()
        if level == CASCADE_LEVEL and not self._master.single:
            vector = self._slave.vector_base + self._slave.acknowledge()
            self._slave_acknowledged()
        else:
            vector = self._master.vector_base + level
        self._update()
        return vector

    def read_port(self, port: int, size: int) -> int:
        """Read a PIC or ELCR register. A poll read acknowledges."""
        if port == ELCR_MASTER:
            return self._master.elcr
        if port == ELCR_SLAVE:
            return self._slave.elcr
        chip = self._chip(port)
        polled = chip.polled
        value = chip.read(port & 1)
        if polled:
            if chip is self._slave:
                self._slave_acknowledged()
            self._update()
        return value

    def write_port(self, port: int, value: int, size: int) -> None:
        """Write a command word or an ELCR."""
        if port == ELCR_MASTER:
            self._master.elcr = value
        elif port == ELCR_SLAVE:
            self._slave.elcr = value
        else:
            self._chip(port).write(port & 1, value)
        self._update()

    def reset(self) -> None:
        """Power on: both chips wait for their initialization words."""
        self._master.reset()
        self._slave.reset()
        self._update()

    def state(self) -> PicState:
        """A copy of both chips' registers."""
        return PicState(self._master.state(), self._slave.state())

    def load_state(self, state: PicState) -> None:
        """Take over both chips' registers."""
        self._master.load_state(state.master)
        self._slave.load_state(state.slave)
        self._set_intr()

    def _chip(self, port: int) -> Pic8259:
        return self._slave if port & 0x80 else self._master

    def _slave_acknowledged(self) -> None:
        # INT falls with INTA, so that a further request makes a new edge at the master.
        self._master.set_line(CASCADE_LEVEL, False)

    def _update(self) -> None:
        self._master.set_line(CASCADE_LEVEL, self._slave.pending() != NO_REQUEST)
        self._set_intr()

    def _set_intr(self) -> None:
        intr = self._master.pending() != NO_REQUEST
        if intr != self._intr:
            self._intr = intr
            if self._on_change is not None:
                self._on_change(intr)
