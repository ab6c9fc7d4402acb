"""The 8254 programmable interval timer of a PC: ports 40h-43h, 1193182 Hz, OUT 0 on IRQ 0.

Ticks are numbered from power on, and tick k begins at ceil(k * 10^9 / 1193182) ns: each is placed by itself, so
no error adds up however long the guest runs. GATE 0 and 1 are tied high; GATE 2 and OUT 2 belong to port 61h.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dbgvmm.devices.bus import PortBus
from dbgvmm.devices.i8254_counter import Counter8254, CounterState
from dbgvmm.devices.wires import IrqLine
from dbgvmm.timeline.clock import NS_PER_SECOND, InstructionClock
from dbgvmm.timeline.events import Event, EventQueue, SavedEvent

PIT_HZ: Final = 1_193_182
COUNTER_0: Final = 0x40
CONTROL: Final = 0x43
_READ_BACK: Final = 3
_EVENT_NAME: Final = "PIT counter 0"


class ReadBack:
    """The read-back command. The two latch bits are active low."""

    NO_COUNT: Final = 0x20
    NO_STATUS: Final = 0x10
    COUNTER_0: Final = 0x02


@dataclass(frozen=True, slots=True)
class PitState:
    """The three counters, and the edge of OUT 0 that is waited for (`edge_tick`) with its event."""

    counters: tuple[CounterState, CounterState, CounterState]
    edge_tick: int
    event: SavedEvent | None


def tick_at(ns: int) -> int:
    """The PIT tick that is running at virtual time `ns`."""
    return ns * PIT_HZ // NS_PER_SECOND


def ns_of_tick(tick: int) -> int:
    """The first virtual nanosecond of PIT tick `tick`."""
    return -(-tick * NS_PER_SECOND // PIT_HZ)


class Pit8254:
    """Three counters. `irq` follows the OUT pin of counter 0."""

    def __init__(self, clock: InstructionClock, events: EventQueue, irq: IrqLine) -> None:
        self._clock = clock
        self._events = events
        self._irq = irq
        self._counters = self._new_counters()
        self._edge_tick = 0
        self._event: Event | None = None

    def attach(self, ports: PortBus) -> None:
        """Claim the ports."""
        ports.register(COUNTER_0, CONTROL, self)

    def set_gate2(self, level: bool) -> None:
        """Drive GATE 2 (port 61h bit 0)."""
        self._counters[2].set_gate(self._tick(), level)

    def out2(self) -> bool:
        """The OUT pin of counter 2 (port 61h bit 5)."""
        return self._counters[2].output(self._tick())

    def count(self, counter: int) -> int:
        """What counter 0, 1 or 2 holds now, without touching its latches."""
        return self._counters[counter].count(self._tick())

    def read_port(self, port: int, size: int) -> int:
        """Read a counter; the control register cannot be read and floats high."""
        if port == CONTROL:
            return 0xFF
        return self._counters[port - COUNTER_0].read(self._tick())

    def write_port(self, port: int, value: int, size: int) -> None:
        """Write a counter or the control word register."""
        tick = self._tick()
        if port == CONTROL:
            self._control(tick, value)
        else:
            counter = port - COUNTER_0
            self._counters[counter].write(tick, value)
            if counter == 0:
                self._follow_out0(tick)

    def reset(self) -> None:
        """Power on. The chip has no reset pin: its counters stand still until they are programmed."""
        self._counters = self._new_counters()
        self._events.cancel(self._event)
        self._irq(False)

    def state(self) -> PitState:
        """A copy of everything."""
        first, second, third = (counter.state() for counter in self._counters)
        return PitState((first, second, third), self._edge_tick, self._events.save(self._event))

    def load_state(self, state: PitState) -> None:
        """Take over everything; IRQ 0 is left to the interrupt controller's own state."""
        for counter, saved in zip(self._counters, state.counters, strict=True):
            counter.load_state(saved)
        self._edge_tick = state.edge_tick
        self._events.cancel(self._event)
        self._event = self._events.resume(state.event, self._on_edge, _EVENT_NAME)

    @staticmethod
    def _new_counters() -> tuple[Counter8254, Counter8254, Counter8254]:
        return Counter8254(gate=True), Counter8254(gate=True), Counter8254(gate=False)

    def _tick(self) -> int:
        return tick_at(self._clock.now_ns())

    def _control(self, tick: int, value: int) -> None:
        selected = value >> 6
        access = value >> 4 & 3
        if selected == _READ_BACK:
            for index, counter in enumerate(self._counters):
                if value & ReadBack.COUNTER_0 << index:
                    if not value & ReadBack.NO_STATUS:
                        counter.latch_status(tick)
                    if not value & ReadBack.NO_COUNT:
                        counter.latch_count(tick)
        elif access == 0:
            self._counters[selected].latch_count(tick)
        else:
            self._counters[selected].program(tick, access, value >> 1 & 7, bool(value & 1))
            if selected == 0:
                self._follow_out0(tick)

    def _follow_out0(self, tick: int) -> None:
        """Put OUT 0 as it is at `tick` on IRQ 0 and wait for its next edge."""
        counter = self._counters[0]
        self._irq(counter.output(tick))
        self._events.cancel(self._event)
        edge = counter.next_edge(tick)
        if edge is None:
            self._event = None
        else:
            self._edge_tick = edge
            self._event = self._events.schedule(ns_of_tick(edge), self._on_edge, _EVENT_NAME)

    def _on_edge(self) -> None:
        # Even when the machine comes late, each edge is taken at its own tick: none is lost.
        self._follow_out0(self._edge_tick)
