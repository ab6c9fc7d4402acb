"""Registers and bits of the 16550A UART (National Semiconductor PC16550D data sheet)."""
from __future__ import annotations

from typing import Final


class Reg:
    """Register offsets. Offsets 0 and 1 are the divisor latch while LCR.DLAB is set."""

    DATA: Final = 0
    IER: Final = 1
    IIR_FCR: Final = 2
    LCR: Final = 3
    MCR: Final = 4
    LSR: Final = 5
    MSR: Final = 6
    SCR: Final = 7


class Ier:
    """Interrupt enable register."""

    RECEIVED_DATA: Final = 0x01
    THR_EMPTY: Final = 0x02
    LINE_STATUS: Final = 0x04
    MODEM_STATUS: Final = 0x08
    ALL: Final = 0x0F


class Iir:
    """Interrupt identification register: bits 3:0 by priority, bits 7:6 set while the FIFOs are on."""

    NONE: Final = 0x01
    LINE_STATUS: Final = 0x06
    RECEIVED_DATA: Final = 0x04
    CHARACTER_TIMEOUT: Final = 0x0C
    THR_EMPTY: Final = 0x02
    MODEM_STATUS: Final = 0x00
    FIFOS_ON: Final = 0xC0


class Fcr:
    """FIFO control register; all but ENABLE are taken only together with ENABLE."""

    ENABLE: Final = 0x01
    CLEAR_RECEIVER: Final = 0x02
    CLEAR_TRANSMITTER: Final = 0x04
    TRIGGER_SHIFT: Final = 6
    TRIGGER_LEVELS: Final = (1, 4, 8, 14)


class Lcr:
    """Line control register."""

    WORD_LENGTH: Final = 0x03
    DLAB: Final = 0x80


class Mcr:
    """Modem control register. On a PC, OUT2 connects the UART's interrupt to its IRQ line."""

    DTR: Final = 0x01
    RTS: Final = 0x02
    OUT1: Final = 0x04
    OUT2: Final = 0x08
    LOOPBACK: Final = 0x10
    ALL: Final = 0x1F


class Lsr:
    """Line status register."""

    DATA_READY: Final = 0x01
    OVERRUN: Final = 0x02
    PARITY: Final = 0x04
    FRAMING: Final = 0x08
    BREAK: Final = 0x10
    THR_EMPTY: Final = 0x20
    TRANSMITTER_EMPTY: Final = 0x40
    ERROR_IN_FIFO: Final = 0x80
    ERRORS: Final = OVERRUN | PARITY | FRAMING | BREAK


class Msr:
    """Modem status register: line levels in bits 7:4, their changes since the last read in bits 3:0."""

    DELTA_CTS: Final = 0x01
    DELTA_DSR: Final = 0x02
    TRAILING_RI: Final = 0x04
    DELTA_DCD: Final = 0x08
    CTS: Final = 0x10
    DSR: Final = 0x20
    RI: Final = 0x40
    DCD: Final = 0x80


FIFO_SIZE: Final = 16
