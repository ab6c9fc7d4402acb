"""The MC146818 real-time clock and CMOS memory, ports 70h-71h, IRQ 8 (Motorola MC146818 data sheet).

The time is a given epoch plus virtual time, never the host's clock. Nothing is stepped: the calendar and the
flags of register C are brought up to date when somebody looks, and an event is scheduled only for an interrupt
that the guest has enabled. Time registers are kept as plain numbers and put into BCD or binary, 12 or 24 hours,
as register B says at the moment of access.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dbgvmm.devices.bus import PortBus
from dbgvmm.devices.cmos import CMOS_SIZE, Cmos
from dbgvmm.devices.rtc_calendar import DONT_CARE, AlarmTime, CalendarTime
from dbgvmm.devices.wires import IrqLine
from dbgvmm.timeline.clock import NS_PER_SECOND, InstructionClock
from dbgvmm.timeline.events import Event, EventQueue, SavedEvent

RTC_IRQ: Final = 8
INDEX_PORT: Final = 0x70
DATA_PORT: Final = 0x71
_EVENT_NAME: Final = "RTC interrupt"
_OSCILLATOR_HZ: Final = 32_768
# With a 32.768 kHz crystal the update takes 1984 us, and UIP warns 244 us before it (data sheet, table 6).
UIP_NS: Final = (1984 + 244) * 1000
# After the divider is released from reset, the first update comes half a second later.
_FIRST_UPDATE_NS: Final = NS_PER_SECOND // 2


class RegA:
    """Register A."""

    RATE: Final = 0x0F
    DIVIDER: Final = 0x70
    DIVIDER_32KHZ: Final = 0x20
    UPDATE_IN_PROGRESS: Final = 0x80
    POWER_ON: Final = 0x26


class RegB:
    """Register B. The interrupt enables have the same places as their flags in register C."""

    HOURS_24: Final = 0x02
    BINARY: Final = 0x04
    SQUARE_WAVE: Final = 0x08
    UPDATE: Final = 0x10
    ALARM: Final = 0x20
    PERIODIC: Final = 0x40
    SET: Final = 0x80
    INTERRUPTS: Final = UPDATE | ALARM | PERIODIC


class RegC:
    """Register C."""

    UPDATE: Final = 0x10
    ALARM: Final = 0x20
    PERIODIC: Final = 0x40
    REQUEST: Final = 0x80


REG_D_POWER_GOOD: Final = 0x80
_ALARM_REGISTERS: Final = (1, 3, 5)
_HOUR_REGISTERS: Final = (4, 5)
_TIME_FIELDS: Final = {0: "second", 2: "minute", 4: "hour", 6: "weekday", 7: "day", 8: "month"}
_PM: Final = 0x80


class Index:
    """Addresses of the registers that are not simple time fields."""

    YEAR: Final = 0x09
    A: Final = 0x0A
    B: Final = 0x0B
    C: Final = 0x0C
    D: Final = 0x0D
    CENTURY: Final = 0x32


@dataclass(frozen=True, slots=True)
class RtcState:
    """Everything: `base_ns` is when `time` became current, `periods` how many periodic ticks were accounted for."""

    index: int
    time: CalendarTime
    base_ns: int
    alarm: bytes
    reg_a: int
    reg_b: int
    flags: int
    periods: int
    memory: bytes
    event: SavedEvent | None


class Rtc:
    """The clock and its CMOS memory. `epoch` is the time at power on, in UTC seconds after 1970."""

    def __init__(
        self, clock: InstructionClock, events: EventQueue, irq: IrqLine, *, epoch: int, memory_size: int
    ) -> None:
        self._clock = clock
        self._events = events
        self._irq = irq
        self._cmos = Cmos(memory_size)
        self._index = 0
        self._time = CalendarTime.from_unix(epoch)
        self._base_ns = clock.now_ns()
        self._alarm = bytearray(3)
        self._reg_a = RegA.POWER_ON
        self._reg_b = RegB.HOURS_24
        self._flags = 0
        self._periods = 0
        self._event: Event | None = None

    def attach(self, ports: PortBus) -> None:
        """Claim the ports."""
        ports.register(INDEX_PORT, DATA_PORT, self)

    @property
    def nmi_masked(self) -> bool:
        """Bit 7 of the index port: the PC's NMI mask."""
        return bool(self._index & 0x80)

    def now(self) -> CalendarTime:
        """The date and time that the guest would read."""
        self._sync()
        return self._time

    # ---- the port side

    def read_port(self, port: int, size: int) -> int:
        """Read the register that the index selects; the index itself is write-only and floats high."""
        if port == INDEX_PORT:
            return 0xFF
        index = self._index % CMOS_SIZE
        self._sync()
        if index in _TIME_FIELDS:
            return self._encode(index, getattr(self._time, _TIME_FIELDS[index]))
        if index in _ALARM_REGISTERS:
            return self._alarm[index >> 1]
        match index:
            case Index.YEAR:
                return self._encode(index, self._time.year % 100)
            case Index.CENTURY:
                return self._encode(index, self._time.year // 100)
            case Index.A:
                return self._reg_a | (RegA.UPDATE_IN_PROGRESS if self._updating() else 0)
            case Index.B:
                return self._reg_b
            case Index.C:
                return self._read_flags()
            case Index.D:
                return REG_D_POWER_GOOD
        return self._cmos.read(index)

    def write_port(self, port: int, value: int, size: int) -> None:
        """Write the index, or the register that it selects."""
        if port == INDEX_PORT:
            self._index = value
            return
        index = self._index % CMOS_SIZE
        self._sync()
        if index in _TIME_FIELDS:
            self._time = self._time.with_field(_TIME_FIELDS[index], self._decode(index, value))
        elif index in _ALARM_REGISTERS:
            self._alarm[index >> 1] = value
        elif index == Index.YEAR:
            century = self._time.year // 100
            self._time = self._time.with_field("year", century * 100 + self._decode(index, value) % 100)
        elif index == Index.CENTURY:
            year = self._time.year % 100
            self._time = self._time.with_field("year", self._decode(index, value) % 100 * 100 + year)
        elif index == Index.A:
            self._write_a(value & ~RegA.UPDATE_IN_PROGRESS)
        elif index == Index.B:
            self._write_b(value)
        elif index not in (Index.C, Index.D):
            self._cmos.write(index, value)
        self._update()

    def reset(self) -> None:
        """The RESET pin: interrupts off and flags clear. Time, alarm, rate and memory go on."""
        self._sync()
        self._reg_b &= ~(RegB.INTERRUPTS | RegB.SQUARE_WAVE)
        self._flags = 0
        self._update()

    def state(self) -> RtcState:
        """A copy of everything."""
        return RtcState(
            self._index, self._time, self._base_ns, bytes(self._alarm), self._reg_a, self._reg_b, self._flags,
            self._periods, self._cmos.state(), self._events.save(self._event),
        )

    def load_state(self, state: RtcState) -> None:
        """Take over everything; IRQ 8 is left to the interrupt controller's own state."""
        self._index = state.index
        self._time = state.time
        self._base_ns = state.base_ns
        self._alarm[:] = state.alarm
        self._reg_a = state.reg_a
        self._reg_b = state.reg_b
        self._flags = state.flags
        self._periods = state.periods
        self._cmos.load_state(state.memory)
        self._events.cancel(self._event)
        self._event = self._events.resume(state.event, self._on_event, _EVENT_NAME)

    # ---- registers A, B, C

    def _write_a(self, value: int) -> None:
        was_running, self._reg_a = self._divider_runs(), value
        now = self._clock.now_ns()
        if self._divider_runs() and not was_running:
            self._base_ns = now - _FIRST_UPDATE_NS
        # A new rate counts from the divider chain as it stands: no flag for the change itself.
        self._periods = self._periods_at(now)

    def _write_b(self, value: int) -> None:
        if value & RegB.SET:
            value &= ~RegB.UPDATE
        self._reg_b = value

    def _read_flags(self) -> int:
        value = self._flags | (RegC.REQUEST if self._requests() else 0)
        self._flags = 0
        self._update()
        return value

    def _requests(self) -> bool:
        return bool(self._flags & self._reg_b & RegB.INTERRUPTS)

    # ---- time

    def _divider_runs(self) -> bool:
        return self._reg_a & RegA.DIVIDER == RegA.DIVIDER_32KHZ

    def _calendar_runs(self) -> bool:
        return self._divider_runs() and not self._reg_b & RegB.SET

    def _updating(self) -> bool:
        return self._calendar_runs() and self._base_ns + NS_PER_SECOND - self._clock.now_ns() <= UIP_NS

    def _sync(self) -> None:
        """Account for the seconds and periods that went by since the last look."""
        now = self._clock.now_ns()
        if not self._divider_runs():
            self._base_ns = now
            return
        periods = self._periods_at(now)
        if periods > self._periods:
            self._flags |= RegC.PERIODIC
        seconds = (now - self._base_ns) // NS_PER_SECOND
        if seconds > 0:
            self._base_ns += seconds * NS_PER_SECOND
            if not self._reg_b & RegB.SET:
                to_alarm = self._alarm_time().seconds_after(self._time)
                if to_alarm is not None and to_alarm <= seconds:
                    self._flags |= RegC.ALARM
                self._flags |= RegC.UPDATE
                self._time = self._time.plus(seconds)
        self._periods = self._periods_at(now)

    def _period_cycles(self) -> int:
        """Oscillator cycles per periodic tick, 0 for none (data sheet, table 5, 32.768 kHz column)."""
        rate = self._reg_a & RegA.RATE
        if rate == 0:
            return 0
        return 1 << (rate + 6 if rate <= 2 else rate - 1)

    def _periods_at(self, now: int) -> int:
        """Periodic ticks since `base_ns`, a whole second of the divider chain."""
        cycles = self._period_cycles()
        if not cycles or not self._divider_runs():
            return 0
        return (now - self._base_ns) * _OSCILLATOR_HZ // (cycles * NS_PER_SECOND)

    def _alarm_time(self) -> AlarmTime:
        second, minute, hour = (
            None if raw & DONT_CARE == DONT_CARE else self._decode(register, raw)
            for register, raw in zip(_ALARM_REGISTERS, self._alarm, strict=True)
        )
        return AlarmTime(second, minute, hour)

    # ---- the interrupt

    def _update(self) -> None:
        """Drive IRQ 8 and wait for whatever enabled interrupt comes next; none matters while one is requested."""
        self._events.cancel(self._event)
        self._event = None
        requests = self._requests()
        self._irq(requests)
        deadline = None if requests else self._next_interrupt_ns()
        if deadline is not None:
            self._event = self._events.schedule(deadline, self._on_event, _EVENT_NAME)

    def _on_event(self) -> None:
        self._sync()
        self._update()

    def _next_interrupt_ns(self) -> int | None:
        if not self._divider_runs():
            return None
        deadlines: list[int] = []
        cycles = self._period_cycles()
        if self._reg_b & RegB.PERIODIC and cycles:
            deadlines.append(self._base_ns - (-(self._periods + 1) * cycles * NS_PER_SECOND // _OSCILLATOR_HZ))
        if self._calendar_runs() and self._reg_b & RegB.UPDATE:
            deadlines.append(self._base_ns + NS_PER_SECOND)
        if self._calendar_runs() and self._reg_b & RegB.ALARM:
            seconds = self._alarm_time().seconds_after(self._time)
            if seconds is not None:
                deadlines.append(self._base_ns + seconds * NS_PER_SECOND)
        return min(deadlines, default=None)

    # ---- formats

    def _encode(self, register: int, value: int) -> int:
        pm = 0
        if register in _HOUR_REGISTERS and not self._reg_b & RegB.HOURS_24:
            pm = _PM if value >= 12 else 0
            value = value % 12 or 12
        if not self._reg_b & RegB.BINARY:
            value = value // 10 << 4 | value % 10
        return value & 0xFF | pm

    def _decode(self, register: int, raw: int) -> int:
        twelve_hours = register in _HOUR_REGISTERS and not self._reg_b & RegB.HOURS_24
        digits = raw & ~_PM if twelve_hours else raw
        value = digits if self._reg_b & RegB.BINARY else (digits >> 4) * 10 + (digits & 0xF)
        if twelve_hours:
            value = value % 12 + (12 if raw & _PM else 0)
        return value
