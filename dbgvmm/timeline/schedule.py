"""`Schedule`: what is due at which instruction count, and how long a halted guest waits.

Everything that has to happen at a moment rather than at an exit is here: devices' events, the end of a step, the limit of a
run, the next look at the outside world. The dispatcher is told the earliest of them, and comes back exactly there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from dbgvmm.bt.dispatcher import Dispatcher
from dbgvmm.bt.mechanisms import DEVICE_EVENT, OUTSIDE
from dbgvmm.bt.tcdata import BUDGET, TSC_BASE, TcData
from dbgvmm.cpu.bits import RFLAGS
from dbgvmm.cpu.msr import MsrTable
from dbgvmm.cpu.state import VCpu
from dbgvmm.debug.stops import Stop, StopKind
from dbgvmm.hardware.layout import MASK64
from dbgvmm.timeline.clock import NS_PER_SECOND, InstructionClock
from dbgvmm.timeline.events import EventQueue

SERVICE_INTERVAL: Final = 1_000_000
"""Instructions between two looks at the outside world (gdb, the REPL, Ctrl-C, serial input)."""
SLOW_SERVICE_INTERVAL: Final = 5_000
"""The same for 16- and 32-bit code, which is a hundred times slower."""
_NOTHING_DUE_NS: Final = 50_000_000


class Schedule:
    """The deadlines of one machine. `stop` is called with the stop of a step's or a run's end; `attach` comes before use."""

    def __init__(
        self, clock: InstructionClock, events: EventQueue, cpu: VCpu, msrs: MsrTable, data: TcData, stop: Callable[[Stop], None]
    ) -> None:
        self._clock = clock
        self._events = events
        self._cpu = cpu
        self._msrs = msrs
        self._data = data
        self._stop = stop
        self._dispatcher: Dispatcher
        self.service: Callable[[], None] | None = None
        """Called every SERVICE_INTERVAL instructions, and while the guest is halted."""
        self.idle: Callable[[int], None] | None = None
        """Called before a halted guest jumps so many virtual nanoseconds ahead."""
        ticks = clock.ns_per_insn * clock.tsc_hz / NS_PER_SECOND
        self.ticks: Final = int(ticks) if ticks == int(ticks) else 0
        """TSC ticks an instruction takes, if that is a whole number."""
        self._deadline: int | None = None
        self._tsc_offset = 0
        self._stop_at: int | None = None
        self._max_count: int | None = None
        self._after_next: Callable[[], None] | None = None
        self._after_count = 0
        self._next_service = SERVICE_INTERVAL

    def attach(self, dispatcher: Dispatcher) -> None:
        """Be asked by `dispatcher` when a limit is reached, and when the guest halts."""
        self._dispatcher = dispatcher
        dispatcher.on_limit = self._on_limit
        dispatcher.on_halt = self.wait

    # -- what is due

    def power_on(self) -> None:
        """The machine starts (again), at the count that it has."""
        count = self._dispatcher.count
        self._dispatcher.set_limit(count, count)
        self._next_service = min(self._next_service, count + self._service_interval())
        self.renew()

    def begin(self, steps: int | None, max_count: int | None) -> None:
        """A run begins: stop after so many instructions, and at this count."""
        self._stop_at = None if steps is None else self._dispatcher.count + steps
        self._max_count = max_count
        self.renew()

    def call_after_next(self, call: Callable[[], None]) -> None:
        """Have `call` called once, when one more instruction has retired."""
        self._after_next = call
        self._after_count = self._dispatcher.count + 1
        self.renew()

    def renew(self) -> None:
        """Have the dispatcher come back at the next thing that is due."""
        clock = self._clock
        clock.count = self._dispatcher.count
        limit = self._next_service
        deadline = self._events.next_deadline_ns()
        if deadline is not None:
            limit = min(limit, clock.count_at(deadline))
        if self._stop_at is not None:
            limit = min(limit, self._stop_at)
        if self._max_count is not None:
            limit = min(limit, self._max_count)
        if self._after_next is not None:
            limit = min(limit, self._after_count)
        self._deadline = deadline
        self._dispatcher.set_limit(limit)
        self._set_tsc_base()

    # -- the clock

    def synchronise_clock(self) -> None:
        """Tell the clock how many instructions have retired: what runs now may ask it."""
        self._clock.count = self._dispatcher.count

    def time_changed(self) -> None:
        """A device or the TSC was programmed: come back earlier if it wants that."""
        if self._events.next_deadline_ns() != self._deadline:
            self.renew()
        elif self._tsc_offset != self._cpu.tsc_offset:
            self._tsc_offset = self._cpu.tsc_offset
            self._set_tsc_base()

    def _set_tsc_base(self) -> None:
        """Let translated rdtsc know what time it is."""
        data = self._data
        data.words[TSC_BASE >> 3] = self._msrs.tsc(self._cpu) + data.signed[BUDGET >> 3] * self.ticks & MASK64

    # -- what the dispatcher asks

    def _on_limit(self) -> None:
        count = self._dispatcher.count
        self._clock.count = count
        ledger = self._dispatcher.ledger
        ledger.timed(DEVICE_EVENT, self._events.run_due)
        if self._after_next is not None and count >= self._after_count:
            call, self._after_next = self._after_next, None
            call()
        if self._stop_at is not None and count >= self._stop_at:
            self._stop_at = None
            self._stop(Stop(StopKind.STEP, "stepped"))
        if self._max_count is not None and count >= self._max_count:
            self._max_count = None
            self._stop(Stop(StopKind.LIMIT, "the instruction limit was reached"))
        if count >= self._next_service:
            self._next_service = count + self._service_interval()
            if self.service is not None:
                ledger.timed(OUTSIDE, self.service)
        self.renew()

    def _service_interval(self) -> int:
        return SERVICE_INTERVAL if self._cpu.in_64bit_code else SLOW_SERVICE_INTERVAL

    def wait(self) -> None:
        """HLT: jump in time to whatever ends it."""
        cpu, clock, events, interrupt_line = self._cpu, self._clock, self._events, self._dispatcher.interrupt_line
        ledger = self._dispatcher.ledger
        clock.count = self._dispatcher.count
        while not interrupt_line() or not cpu.rflags & RFLAGS.IF:
            if not cpu.rflags & RFLAGS.IF:
                self._stop(Stop(StopKind.HALT, "halted with interrupts off"))
                break
            deadline = events.next_deadline_ns()
            if deadline is None and self.service is None:
                self._stop(Stop(StopKind.HALT, "halted, and nothing is left that could wake it"))
                break
            if self.idle is not None:
                ns = _NOTHING_DUE_NS if deadline is None else max(deadline - clock.now_ns(), 0)
                ledger.timed(OUTSIDE, self.idle, ns)
            if self.service is not None:
                ledger.timed(OUTSIDE, self.service)
            if deadline is not None and not interrupt_line():
                clock.skip_to(deadline)
                ledger.timed(DEVICE_EVENT, events.run_due)
            if self._dispatcher.stop_requested:
                break
        else:
            cpu.halted = False
        self.renew()
