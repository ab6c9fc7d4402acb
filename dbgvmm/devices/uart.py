"""The 16550A UART (National Semiconductor PC16550D data sheet).

The line is infinitely fast: a byte written is sent at once, so the transmitter is always empty, and input that
waits in the receive FIFO below its trigger level has "timed out" at once. Nothing sent to the guest is lost:
input that does not fit in the FIFO waits on the line, as with perfect hardware flow control. Only loopback can
overrun. The far end is a terminal that keeps CTS, DSR and DCD asserted.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dbgvmm.devices.bus import PortBus
from dbgvmm.devices.uart_registers import FIFO_SIZE, Fcr, Ier, Iir, Lcr, Lsr, Mcr, Msr, Reg
from dbgvmm.devices.wires import ByteSink, IrqLine

COM1: Final = 0x3F8
COM1_IRQ: Final = 4
_PORTS: Final = 8
_TERMINAL_LINES: Final = Msr.CTS | Msr.DSR | Msr.DCD
_DIVISOR_9600: Final = 12


@dataclass(frozen=True, slots=True)
class UartState:
    """Registers and queues. `fifo` and `line` hold pairs of bytes: LSR errors of a character, the character."""

    divisor: int
    ier: int
    fifos_on: bool
    trigger: int
    lcr: int
    mcr: int
    lsr_errors: int
    msr: int
    scr: int
    thre_pending: bool
    fifo: bytes
    line: bytes


class Uart16550A:
    """A 16550A at `base`. `sink` gets what the guest sends; `irq` is its interrupt line."""

    _ier: int
    _fifos_on: bool
    _trigger: int
    _lcr: int
    _mcr: int
    _lsr_errors: int
    _msr: int
    _thre_pending: bool

    def __init__(self, sink: ByteSink, irq: IrqLine, base: int = COM1) -> None:
        self._sink = sink
        self._irq = irq
        self._base = base
        self._fifo: list[tuple[int, int]] = []
        self._line: list[tuple[int, int]] = []
        self._divisor = _DIVISOR_9600
        self._scr = 0
        self._clear_registers()

    def attach(self, ports: PortBus) -> None:
        """Claim the eight ports at `base`."""
        ports.register(self._base, self._base + _PORTS - 1, self)

    def receive(self, data: bytes) -> None:
        """Characters arrive from the far end."""
        self._line.extend((0, byte) for byte in data)
        self._take_from_line()
        self._update()

    def receive_break(self) -> None:
        """A break condition arrives (what Linux takes as the start of a SysRq)."""
        self._line.append((Lsr.BREAK, 0))
        self._take_from_line()
        self._update()

    def waiting_input(self) -> int:
        """How many characters the guest has not read yet."""
        return len(self._fifo) + len(self._line)

    # ---- the port side

    def read_port(self, port: int, size: int) -> int:
        """Read a register."""
        offset = port - self._base
        if self._lcr & Lcr.DLAB and offset <= Reg.IER:
            return self._divisor >> (8 * offset) & 0xFF
        match offset:
            case Reg.DATA:
                return self._read_data()
            case Reg.IER:
                return self._ier
            case Reg.IIR_FCR:
                return self._read_iir()
            case Reg.LCR:
                return self._lcr
            case Reg.MCR:
                return self._mcr
            case Reg.LSR:
                return self._read_lsr()
            case Reg.MSR:
                return self._read_msr()
            case _:
                return self._scr

    def write_port(self, port: int, value: int, size: int) -> None:
        """Write a register. LSR and MSR are read-only: writes to them are for factory tests and ignored."""
        offset = port - self._base
        if self._lcr & Lcr.DLAB and offset <= Reg.IER:
            shift = 8 * offset
            self._divisor = self._divisor & ~(0xFF << shift) | value << shift
            return
        match offset:
            case Reg.DATA:
                self._write_data(value)
            case Reg.IER:
                self._write_ier(value & Ier.ALL)
            case Reg.IIR_FCR:
                self._write_fcr(value)
            case Reg.LCR:
                self._lcr = value
            case Reg.MCR:
                self._write_mcr(value & Mcr.ALL)
            case Reg.SCR:
                self._scr = value
        self._update()

    def reset(self) -> None:
        """The MR pin: as the data sheet's table I. The divisor and scratch registers keep their values."""
        self._clear_registers()
        self._take_from_line()
        self._update()

    def state(self) -> UartState:
        """A copy of everything, input that waits included."""
        return UartState(
            self._divisor, self._ier, self._fifos_on, self._trigger, self._lcr, self._mcr, self._lsr_errors, self._msr,
            self._scr, self._thre_pending, _pack(self._fifo), _pack(self._line),
        )

    def load_state(self, state: UartState) -> None:
        """Take over everything; the IRQ line is left to the interrupt controller's own state."""
        self._divisor = state.divisor
        self._ier = state.ier
        self._fifos_on = state.fifos_on
        self._trigger = state.trigger
        self._lcr = state.lcr
        self._mcr = state.mcr
        self._lsr_errors = state.lsr_errors
        self._msr = state.msr
        self._scr = state.scr
        self._thre_pending = state.thre_pending
        self._fifo = _unpack(state.fifo)
        self._line = _unpack(state.line)

    # ---- registers

    def _clear_registers(self) -> None:
        self._ier = 0
        self._fifos_on = False
        self._trigger = Fcr.TRIGGER_LEVELS[0]
        self._lcr = 0
        self._mcr = 0
        self._lsr_errors = 0
        self._msr = _TERMINAL_LINES
        self._thre_pending = False
        self._fifo.clear()

    def _read_data(self) -> int:
        if not self._fifo:
            return 0
        value = self._fifo.pop(0)[1]
        self._take_from_line()
        self._update()
        return value

    def _write_data(self, value: int) -> None:
        value &= 0xFF >> (3 - (self._lcr & Lcr.WORD_LENGTH))
        if self._mcr & Mcr.LOOPBACK:
            self._push(0, value)
        else:
            self._sink(bytes((value,)))
        # The holding register was filled and is empty again: a new THRE interrupt.
        self._thre_pending = True

    def _write_ier(self, value: int) -> None:
        if value & ~self._ier & Ier.THR_EMPTY:
            self._thre_pending = True
        self._ier = value

    def _read_iir(self) -> int:
        source = self._interrupt_source()
        if source == Iir.THR_EMPTY:
            self._thre_pending = False
            self._update()
        return source | (Iir.FIFOS_ON if self._fifos_on else 0)

    def _write_fcr(self, value: int) -> None:
        enable = bool(value & Fcr.ENABLE)
        if enable != self._fifos_on or (enable and value & Fcr.CLEAR_RECEIVER):
            self._fifo.clear()
        self._fifos_on = enable
        self._trigger = Fcr.TRIGGER_LEVELS[value >> Fcr.TRIGGER_SHIFT & 3] if enable else Fcr.TRIGGER_LEVELS[0]
        self._take_from_line()

    def _write_mcr(self, value: int) -> None:
        self._mcr = value
        if value & Mcr.LOOPBACK:
            lines = (
                Msr.CTS * bool(value & Mcr.RTS)
                | Msr.DSR * bool(value & Mcr.DTR)
                | Msr.RI * bool(value & Mcr.OUT1)
                | Msr.DCD * bool(value & Mcr.OUT2)
            )
        else:
            lines = _TERMINAL_LINES
            self._take_from_line()
        changed = lines ^ self._msr
        deltas = (
            Msr.DELTA_CTS * bool(changed & Msr.CTS)
            | Msr.DELTA_DSR * bool(changed & Msr.DSR)
            | Msr.TRAILING_RI * bool(changed & ~lines & Msr.RI)
            | Msr.DELTA_DCD * bool(changed & Msr.DCD)
        )
        self._msr = lines | self._msr & 0x0F | deltas

    def _read_lsr(self) -> int:
        value = Lsr.THR_EMPTY | Lsr.TRANSMITTER_EMPTY | self._lsr_errors
        if self._fifo:
            value |= Lsr.DATA_READY | self._fifo[0][0]
            if self._fifos_on and any(errors for errors, _ in self._fifo):
                value |= Lsr.ERROR_IN_FIFO
            self._fifo[0] = (0, self._fifo[0][1])
        self._lsr_errors = 0
        self._update()
        return value

    def _read_msr(self) -> int:
        value = self._msr
        self._msr &= 0xF0
        self._update()
        return value

    # ---- queues and the interrupt

    def _capacity(self) -> int:
        return FIFO_SIZE if self._fifos_on else 1

    def _push(self, errors: int, byte: int) -> None:
        if len(self._fifo) < self._capacity():
            self._fifo.append((errors, byte))
            return
        self._lsr_errors |= Lsr.OVERRUN
        if not self._fifos_on:
            # Without FIFOs the newcomer overwrites the receiver buffer; with them it is lost in the shift register.
            self._fifo[0] = (errors, byte)

    def _take_from_line(self) -> None:
        room = self._capacity() - len(self._fifo)
        if self._line and not self._mcr & Mcr.LOOPBACK:
            self._fifo.extend(self._line[:room])
            del self._line[:room]

    def _interrupt_source(self) -> int:
        ier = self._ier
        if ier & Ier.LINE_STATUS and (self._lsr_errors or (self._fifo and self._fifo[0][0])):
            return Iir.LINE_STATUS
        if ier & Ier.RECEIVED_DATA and self._fifo:
            return Iir.RECEIVED_DATA if len(self._fifo) >= self._trigger else Iir.CHARACTER_TIMEOUT
        if ier & Ier.THR_EMPTY and self._thre_pending:
            return Iir.THR_EMPTY
        if ier & Ier.MODEM_STATUS and self._msr & 0x0F:
            return Iir.MODEM_STATUS
        return Iir.NONE

    def _update(self) -> None:
        # In loopback the OUT2 pin is inactive, which cuts the IRQ line off; IIR still tells.
        connected = self._mcr & (Mcr.OUT2 | Mcr.LOOPBACK) == Mcr.OUT2
        self._irq(connected and self._interrupt_source() != Iir.NONE)


def _pack(characters: list[tuple[int, int]]) -> bytes:
    return bytes(part for character in characters for part in character)


def _unpack(packed: bytes) -> list[tuple[int, int]]:
    return list(zip(packed[::2], packed[1::2], strict=True))
