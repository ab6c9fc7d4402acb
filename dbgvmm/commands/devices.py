"""The devices' registers, read without touching them: `info pic`, `info pit`, `info uart`, `info rtc`, `info i8042`."""

from __future__ import annotations

from dataclasses import dataclass

from dbgvmm.commands.columns import columns
from dbgvmm.commands.session import Session
from dbgvmm.commands.table import command
from dbgvmm.devices.i8042 import CommandByte, I8042State, OutputPort
from dbgvmm.devices.i8254_counter import CounterState
from dbgvmm.devices.i8259 import InitStep, PicChipState
from dbgvmm.devices.pic import PicState
from dbgvmm.devices.pit import PIT_HZ, PitState
from dbgvmm.devices.rtc import RegA, RegB, RegC, RtcState
from dbgvmm.devices.rtc_calendar import CalendarTime
from dbgvmm.devices.uart import UartState
from dbgvmm.devices.uart_registers import Ier, Lsr, Mcr, Msr

_PIT_MODES = ("terminal count", "one-shot", "rate generator", "square wave", "software strobe", "hardware strobe")
_UART_CLOCK_HZ = 115_200
_OSCILLATOR_HZ = 32_768


def _bits(names: type[object], value: int) -> str:
    """The set bits of a register class's single-bit constants, by name."""
    words = [
        name.lower().replace("_", " ")
        for name, bit in vars(names).items()
        if name.isupper() and isinstance(bit, int) and bit and not bit & bit - 1 and value & bit
    ]
    return ", ".join(words) or "none"


@dataclass(frozen=True)
class PicReport:
    """Both interrupt controllers, and whether INTR is high."""

    state: PicState
    intr: bool

    def __str__(self) -> str:
        rows = [self._row("master", self.state.master), self._row("slave", self.state.slave)]
        header = ("", "vectors", "request", "in service", "masked", "level", "state")
        return f"{columns(rows, header)}\nINTR is {'high' if self.intr else 'low'}"

    @staticmethod
    def _row(name: str, chip: PicChipState) -> tuple[str, ...]:
        irr = chip.edge_latch & ~chip.elcr | chip.lines & chip.elcr
        ready = "ready" if chip.init_step == InitStep.READY else "not initialised"
        if chip.auto_eoi:
            ready += ", automatic EOI"
        masks = (f"{mask:08b}" for mask in (irr, chip.isr, chip.imr, chip.elcr))
        return (name, f"{chip.vector_base:02x}h", *masks, ready)


@dataclass(frozen=True)
class PitReport:
    """The timer's counters: their programming, and what they hold now."""

    state: PitState
    counts: tuple[int, ...]

    def __str__(self) -> str:
        rows = [self._row(number, counter) for number, counter in enumerate(self.state.counters)]
        return columns(rows, ("counter", "mode", "reload", "count", "rate", "gate"))

    def _row(self, number: int, counter: CounterState) -> tuple[str, ...]:
        mode = f"{counter.mode} {_PIT_MODES[counter.mode]}"
        if not counter.period:
            return (str(number), mode, "-", "-", "stands still", "high" if counter.gate else "low")
        rate = f"{PIT_HZ / counter.period:.2f} Hz"
        gate = "high" if counter.gate else "low"
        return (str(number), mode, str(counter.period), str(self.counts[number]), rate, gate)


@dataclass(frozen=True)
class UartReport:
    """COM1's registers and queues."""

    state: UartState

    def __str__(self) -> str:
        state = self.state
        rows = [
            ("line", f"{_UART_CLOCK_HZ // (state.divisor or 0x10000)} baud, LCR {state.lcr:#04x}"),
            ("interrupts", _bits(Ier, state.ier)),
            ("modem control", _bits(Mcr, state.mcr)),
            ("modem status", _bits(Msr, state.msr)),
            ("line errors", _bits(Lsr, state.lsr_errors)),
            ("FIFOs", f"on, trigger at {state.trigger}" if state.fifos_on else "off"),
            ("input", f"{len(state.fifo) // 2} characters in the FIFO, {len(state.line) // 2} on the line"),
        ]
        return columns(rows)


@dataclass(frozen=True)
class RtcReport:
    """The real-time clock: the time that the guest would read, and registers A and B."""

    now: CalendarTime
    state: RtcState

    def __str__(self) -> str:
        now, state = self.now, self.state
        rows = [
            ("time", f"{now.year:04}-{now.month:02}-{now.day:02} {now.hour:02}:{now.minute:02}:{now.second:02} UTC"),
            ("register A", f"{state.reg_a:#04x}: {_periodic_rate(state.reg_a)}"),
            ("register B", f"{state.reg_b:#04x}: {_bits(RegB, state.reg_b)}"),
            ("register C", f"{state.flags:#04x}: {_bits(RegC, state.flags)}"),
            ("alarm", ":".join(f"{byte:02x}" for byte in reversed(state.alarm)) + " (as the guest has written it)"),
            ("index", f"{state.index & 0x7F:#04x}{', NMI masked' if state.index & 0x80 else ''}"),
        ]
        return columns(rows)


def _periodic_rate(reg_a: int) -> str:
    """How often the periodic interrupt would come (MC146818 data sheet, table 5)."""
    rate = reg_a & RegA.RATE
    if reg_a & RegA.DIVIDER != RegA.DIVIDER_32KHZ:
        return "the divider is held in reset"
    if not rate:
        return "no periodic rate"
    return f"periodic rate {_OSCILLATOR_HZ >> (rate if rate > 2 else rate + 7) - 1} Hz"


@dataclass(frozen=True)
class KeyboardReport:
    """The keyboard controller: command byte, output port, and what waits to be read."""

    state: I8042State
    a20: bool

    def __str__(self) -> str:
        state = self.state
        rows = [
            ("command byte", f"{state.ram[0]:#04x}: {_bits(CommandByte, state.ram[0])}"),
            ("output port", f"{state.output_port:#04x}: {_bits(OutputPort, state.output_port)}"),
            ("waits for", f"the data byte of command {state.command:#04x}" if state.command >= 0 else "a command"),
            ("answers", state.answers.hex(" ") or "none"),
            ("A20 line", "open" if self.a20 else "held low"),
        ]
        return columns(rows)


@command("info pic", aliases=("pic",))
def info_pic(session: Session) -> PicReport:
    """Show the two interrupt controllers.

    Request, in-service and mask registers have IRQ 0 (of the slave: IRQ 8) on the right.

    For example:

        info pic
    """
    board = session.machine.board
    return PicReport(board.pic.state(), board.interrupt_pending())


@command("info pit", aliases=("pit",))
def info_pit(session: Session) -> PitReport:
    """Show the timer's three counters.

    For example:

        info pit
    """
    pit = session.machine.board.pit
    return PitReport(pit.state(), tuple(pit.count(number) for number in range(3)))


@command("info uart", aliases=("uart",))
def info_uart(session: Session) -> UartReport:
    """Show COM1: its line, interrupts, modem lines and what waits to be read.

    For example:

        info uart
    """
    return UartReport(session.machine.board.uart.state())


@command("info rtc", aliases=("rtc",))
def info_rtc(session: Session) -> RtcReport:
    """Show the real-time clock.

    For example:

        info rtc
    """
    rtc = session.machine.board.rtc
    now = rtc.now()
    return RtcReport(now, rtc.state())


@command("info i8042", aliases=("info keyboard",))
def info_i8042(session: Session) -> KeyboardReport:
    """Show the keyboard controller: command byte, output port, and answers that wait to be read.

    For example:

        info i8042
    """
    board = session.machine.board
    return KeyboardReport(board.keyboard.state(), board.a20.enabled)
