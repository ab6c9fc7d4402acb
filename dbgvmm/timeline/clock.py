"""The instruction clock: virtual time as a function of retired guest instructions.

    now_ns = floor(count * ns_per_insn) + skipped_ns

`count` is written by the machine. `skipped_ns` grows only when a halted guest jumps to its next timer, so
time never depends on the host, and every quantity is an integer: no rounding error can build up.
"""
from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

NS_PER_SECOND: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class ClockState:
    """What a snapshot keeps of an `InstructionClock` (the rates are configuration, not state)."""

    count: int
    skipped_ns: int


class InstructionClock:
    """Virtual time in nanoseconds, and the time stamp counter derived from it.

    `ns_per_insn` is the cost of one instruction in nanoseconds, as an `int` or a `Fraction` (for example
    `Fraction(1, 3)` for three instructions per nanosecond). `tsc_hz` is the fixed TSC frequency in Hz.
    Raises ValueError when either is not positive.
    """

    __slots__ = ("_den", "_num", "_skipped_ns", "_tsc_hz", "count")

    def __init__(self, ns_per_insn: int | Fraction = 10, tsc_hz: int = NS_PER_SECOND) -> None:
        ratio = Fraction(ns_per_insn)
        if ratio <= 0:
            raise ValueError(f"ns_per_insn must be above zero, not {ns_per_insn}")
        if tsc_hz <= 0:
            raise ValueError(f"tsc_hz must be above zero, not {tsc_hz}")
        self.count = 0
        self._num = ratio.numerator
        self._den = ratio.denominator
        self._skipped_ns = 0
        self._tsc_hz = tsc_hz

    @property
    def ns_per_insn(self) -> Fraction:
        """Nanoseconds per retired instruction."""
        return Fraction(self._num, self._den)

    @property
    def tsc_hz(self) -> int:
        """TSC ticks per second of virtual time."""
        return self._tsc_hz

    def now_ns(self) -> int:
        """Virtual nanoseconds since power on."""
        return self.count * self._num // self._den + self._skipped_ns

    def ns_at(self, count: int) -> int:
        """Virtual nanoseconds at an instruction count, if nothing is skipped until then."""
        return count * self._num // self._den + self._skipped_ns

    def skip_to(self, ns: int) -> None:
        """Let virtual time jump forward to `ns`, as a halted CPU does. A time already reached changes nothing."""
        behind = ns - self.now_ns()
        if behind > 0:
            self._skipped_ns += behind

    def count_at(self, ns: int) -> int:
        """The first instruction count at which `now_ns() >= ns` if nothing is skipped; `count` if it is reached."""
        by_instructions = ns - self._skipped_ns
        return max(self.count, -(-by_instructions * self._den // self._num))

    def tsc(self) -> int:
        """The time stamp counter (Intel SDM vol. 3, 18.17, invariant TSC), before any guest-written offset."""
        return self.now_ns() * self._tsc_hz // NS_PER_SECOND

    def state(self) -> ClockState:
        """What a snapshot must keep."""
        return ClockState(self.count, self._skipped_ns)

    def load_state(self, state: ClockState) -> None:
        """Go to the moment that `state` describes, forwards or backwards."""
        self.count = state.count
        self._skipped_ns = state.skipped_ns
