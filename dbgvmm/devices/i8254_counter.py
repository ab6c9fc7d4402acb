"""One counter of an 8254 programmable interval timer (Intel 8254 data sheet, 231164).

A counter is not stepped. It keeps the tick at which its counting element (CE) was loaded; the count and the OUT
pin at any tick follow by arithmetic, so reading it is exact however long ago it was programmed.

Times here are ticks of CLK. A count or trigger that comes during tick t is taken into CE at tick t+1.
"""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

NOT_PAUSED: Final = -1
NOTHING: Final = -1


class Mode:
    """The six counting modes."""

    TERMINAL_COUNT: Final = 0
    ONE_SHOT: Final = 1
    RATE_GENERATOR: Final = 2
    SQUARE_WAVE: Final = 3
    SOFTWARE_STROBE: Final = 4
    HARDWARE_STROBE: Final = 5


class Access:
    """How the bytes of a count are read and written (control word bits 5:4)."""

    LOW: Final = 1
    HIGH: Final = 2
    LOW_THEN_HIGH: Final = 3


class Status:
    """The status byte of the read-back command."""

    BCD: Final = 0x01
    MODE_SHIFT: Final = 1
    ACCESS_SHIFT: Final = 4
    NULL_COUNT: Final = 0x40
    OUT: Final = 0x80


PERIODIC: Final = (Mode.RATE_GENERATOR, Mode.SQUARE_WAVE)
TRIGGERED: Final = (Mode.ONE_SHOT, Mode.HARDWARE_STROBE)


@dataclass(slots=True)
class CounterState:
    """Everything a counter knows. `period` is the count in CE (1..65536), 0 before one was loaded."""

    mode: int = Mode.TERMINAL_COUNT
    access: int = Access.LOW_THEN_HIGH
    bcd: bool = False
    gate: bool = True
    reload: int = 0
    waits_for_trigger: bool = False
    period: int = 0
    start: int = 0
    phase: int = 0
    next_period: int = 0
    switch_tick: int = 0
    paused_at: int = NOT_PAUSED
    held_out: bool = False
    held_count: int = 0
    low_byte: int = NOTHING
    read_high: bool = False
    latched_count: int = NOTHING
    latched_status: int = NOTHING


class Counter8254:
    """A counter. Every method takes `tick`, the current tick; it never runs backwards between calls."""

    def __init__(self, *, gate: bool) -> None:
        self._s = CounterState(gate=gate)

    # ---- programming

    def program(self, tick: int, access: int, mode: int, bcd: bool) -> None:
        """A control word: counting stops and OUT takes the mode's first level until a count is written."""
        old = self._s
        self._s = CounterState(
            mode=mode & 3 if mode > Mode.HARDWARE_STROBE else mode,
            access=access,
            bcd=bcd,
            gate=old.gate,
            held_count=self.count(tick),
            held_out=mode != Mode.TERMINAL_COUNT,
        )

    def write(self, tick: int, value: int) -> None:
        """One byte of a new count."""
        s = self._s
        if s.access == Access.LOW:
            self._load(tick, value)
        elif s.access == Access.HIGH:
            self._load(tick, value << 8)
        elif s.low_byte == NOTHING:
            s.low_byte = value
            if s.mode == Mode.TERMINAL_COUNT:
                # The first of two bytes stops the count and drives OUT low.
                s.held_count, s.held_out, s.period = self.count(tick), False, 0
        else:
            low, s.low_byte = s.low_byte, NOTHING
            self._load(tick, value << 8 | low)

    def set_gate(self, tick: int, gate: bool) -> None:
        """Drive GATE: it holds the count in modes 0, 2, 3, 4 and triggers it in modes 1, 2, 3, 5."""
        s = self._s
        if gate == s.gate:
            return
        self._sync(tick)
        count, out = self.count(tick), self.output(tick)
        s.gate = gate
        if s.mode in TRIGGERED:
            if gate and s.reload:
                s.held_count, s.held_out = count, out
                s.period, s.start, s.waits_for_trigger = s.reload, tick + 1, False
        elif s.period == 0:
            return
        elif not gate:
            s.paused_at = max(tick, s.start)
        elif s.mode in PERIODIC:
            s.held_count, s.held_out = count, True
            s.period, s.start, s.phase, s.next_period = s.reload, tick + 1, 0, 0
            s.paused_at = NOT_PAUSED
        else:
            s.start += tick - s.paused_at
            s.paused_at = NOT_PAUSED

    def latch_count(self, tick: int) -> None:
        """Counter latch command; ignored while an earlier latch has not been read."""
        s = self._s
        if s.latched_count == NOTHING:
            s.latched_count = self._encoded(self.count(tick))

    def latch_status(self, tick: int) -> None:
        """Read-back command for the status; ignored while an earlier one has not been read."""
        s = self._s
        if s.latched_status == NOTHING:
            s.latched_status = (
                s.bcd * Status.BCD
                | s.mode << Status.MODE_SHIFT
                | s.access << Status.ACCESS_SHIFT
                | self._is_null_count(tick) * Status.NULL_COUNT
                | self.output(tick) * Status.OUT
            )

    def read(self, tick: int) -> int:
        """One byte: latched status, else latched count, else the count as it is now."""
        s = self._s
        if s.latched_status != NOTHING:
            status, s.latched_status = s.latched_status, NOTHING
            return status
        count = s.latched_count if s.latched_count != NOTHING else self._encoded(self.count(tick))
        if s.access == Access.LOW_THEN_HIGH:
            high = s.read_high
            s.read_high = not high
            finished = high
        else:
            high, finished = s.access == Access.HIGH, True
        if finished:
            s.latched_count = NOTHING
        return count >> 8 if high else count & 0xFF

    # ---- what can be seen at a tick

    def count(self, tick: int) -> int:
        """The value in the counting element, as a plain number (never BCD)."""
        self._sync(tick)
        s = self._s
        elapsed = self._elapsed(tick)
        if s.period == 0 or elapsed < 0:
            return s.held_count
        period = s.period
        if s.mode == Mode.RATE_GENERATOR:
            left = period - elapsed % period
        elif s.mode == Mode.SQUARE_WAVE:
            # Odd counts load one less, so both halves count even numbers down; the high half has one more.
            half = self._high_ticks(period)
            step = elapsed % period
            left = (period & ~1) - 2 * (step if step < half else step - half)
        else:
            left = period - elapsed
        return left % self._modulus()

    def output(self, tick: int) -> bool:
        """The OUT pin."""
        self._sync(tick)
        s = self._s
        if s.mode in PERIODIC and not s.gate:
            return True
        elapsed = self._elapsed(tick)
        if s.period == 0 or elapsed < 0:
            return s.held_out
        match s.mode:
            case Mode.TERMINAL_COUNT | Mode.ONE_SHOT:
                return elapsed >= s.period
            case Mode.RATE_GENERATOR:
                return elapsed % s.period != s.period - 1
            case Mode.SQUARE_WAVE:
                return elapsed % s.period < self._high_ticks(s.period)
            case _:
                return elapsed != s.period

    def next_edge(self, tick: int) -> int | None:
        """The next tick after `tick` at which OUT may change if nothing is written, or None."""
        self._sync(tick)
        s = self._s
        edges: tuple[int, ...]
        if s.period == 0 or s.paused_at != NOT_PAUSED:
            return None
        match s.mode:
            case Mode.RATE_GENERATOR | Mode.SQUARE_WAVE:
                if s.period < 2:
                    return s.switch_tick if s.next_period else None
                falls = s.period - 1 if s.mode == Mode.RATE_GENERATOR else self._high_ticks(s.period)
                first = max(tick + 1, s.start)
                step = (first - s.start + s.phase) % s.period
                return first + min((-step) % s.period, (falls - step) % s.period)
            case Mode.TERMINAL_COUNT:
                edges = (s.start + s.period,)
            case Mode.ONE_SHOT:
                edges = (s.start, s.start + s.period)
            case _:
                edges = (s.start + s.period, s.start + s.period + 1)
                if not s.held_out:  # it was loaded during the strobe, which ends with that
                    edges = (s.start, *edges)
        return next((edge for edge in edges if edge > tick), None)

    def state(self) -> CounterState:
        """A copy of everything."""
        return replace(self._s)

    def load_state(self, state: CounterState) -> None:
        """Take over everything from `state`."""
        self._s = replace(state)

    # ---- inside

    def _load(self, tick: int, value: int) -> None:
        """A whole count was written: it reaches CE at the next tick, the next trigger or the end of the period."""
        s = self._s
        modulus = self._modulus()
        new = (self._from_bcd(value) if s.bcd else value) % modulus or modulus
        self._sync(tick)
        s.reload = new
        if s.mode in TRIGGERED:
            s.waits_for_trigger = True
        elif s.mode in PERIODIC and s.period and self._elapsed(tick) >= 0 and s.gate:
            s.next_period = new
            s.switch_tick = self._end_of_cycle(tick)
        else:
            if s.period:
                s.held_count, s.held_out = self.count(tick), self.output(tick)
            if s.mode == Mode.TERMINAL_COUNT:
                s.held_out = False
            s.period, s.start, s.phase = new, tick + 1, 0
            s.paused_at = NOT_PAUSED if s.gate else s.start

    def _end_of_cycle(self, tick: int) -> int:
        """The tick at which a count written now replaces the running one: a half cycle of mode 3 is enough."""
        s = self._s
        step = self._elapsed(tick) % s.period
        half = self._high_ticks(s.period)
        if s.mode == Mode.SQUARE_WAVE and step < half < s.period:
            return tick + half - step
        return tick + s.period - step

    def _sync(self, tick: int) -> None:
        """Take a waiting count into CE if its moment has come."""
        s = self._s
        if s.next_period and s.paused_at == NOT_PAUSED and tick >= s.switch_tick:
            at_high_end = (s.switch_tick - s.start + s.phase) % s.period != 0
            s.period, s.start, s.next_period = s.next_period, s.switch_tick, 0
            s.phase = self._high_ticks(s.period) if at_high_end else 0

    def _elapsed(self, tick: int) -> int:
        s = self._s
        now = tick if s.paused_at == NOT_PAUSED else s.paused_at
        return now - s.start + s.phase if now >= s.start else -1

    def _is_null_count(self, tick: int) -> bool:
        self._sync(tick)
        s = self._s
        return bool(s.waits_for_trigger or s.period == 0 or tick < s.start or s.next_period)

    def _modulus(self) -> int:
        return 10_000 if self._s.bcd else 0x10000

    def _encoded(self, count: int) -> int:
        return int(str(count), 16) if self._s.bcd else count

    @staticmethod
    def _from_bcd(value: int) -> int:
        return sum((value >> (4 * digit) & 0xF) * 10**digit for digit in range(4))

    @staticmethod
    def _high_ticks(period: int) -> int:
        return (period + 1) // 2
