"""Tracepoints on a machine: gdb's experiment, and what it collects from.

A tracepoint is an observer among the breakpoints. A fast one (gdb's `ftrace`) collects in the translation, without an exit,
where what it collects has a fixed length (trace_compiler.py); a plain one, and a fast one that cannot, is an exit at each
hit, and Python collects. Collecting changes nothing of the guest: memory is peeked at (no A or D bits), and no instruction
is added.

    experiment = machine.tracing.experiment         # from Python, without gdb
    key = Key(1, 0xffffffff81000000)
    experiment.define(Tracepoint(key, Plan(actions=(CollectRegisters(1 << 5), CollectMemory(7, 0, 64)))), enabled=True)
    experiment.complete(key)
    experiment.start()
    machine.run()
    print([hex(frame.count) for frame in experiment.buffer])

Registers have the numbers of docs/gdb-packets.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from dbgvmm.bt.probes import Probe
from dbgvmm.bt.trace_area import TraceArea
from dbgvmm.cpu.bits import MASK64
from dbgvmm.debug.agent import MachineAgent
from dbgvmm.debug.agent_compiler import compile_conditions
from dbgvmm.debug.gdb_description import GDB_REGISTERS, IN_G_PACKET
from dbgvmm.debug.gdb_layouts import LONG
from dbgvmm.debug.gdb_registers import GeneralRegisters
from dbgvmm.debug.trace_compiler import UNAVAILABLE, FastTracepoint, compile_tracepoint
from dbgvmm.debug.trace_records import TIMESTAMP, read_record, record_number
from dbgvmm.hardware.layout import PAGE_SIZE
from dbgvmm.mmu.linear import NotMapped
from gdbstub.tracing import Experiment, Key, Tracepoint, Variable, register_numbers

if TYPE_CHECKING:
    from dbgvmm.machine import Machine

_NUMBERS: Final = {row.name: number for number, row in enumerate(GDB_REGISTERS)}
_SIZES: Final = tuple(row.bits // 8 for row in GDB_REGISTERS)
_OFFSETS: Final = (0, *accumulate(_SIZES))
_BLOCK: Final = (1 << IN_G_PACKET) - 1
_SLOW: Final = _BLOCK & -(1 << _NUMBERS["st0"])
"""Registers of the block that are read one by one at a price: with any of these, all of it is read at once."""


class _Arrivals:
    """Observes one tracepoint's place. A condition that can be compiled runs in the translation, which leaves where it may
    hold; a fast tracepoint's probe leaves where it could not record the hit."""

    def __init__(self, tracing: MachineTracing, tracepoint: Tracepoint, fast: FastTracepoint | None) -> None:
        self._tracing = tracing
        self._key = tracepoint.key
        self._available = -1
        self.probe: Probe | None = None
        if fast is not None:
            self.probe = fast.probe
            self._available = ~UNAVAILABLE
        elif tracepoint.plan.condition is not None:
            self.probe = compile_conditions((tracepoint.plan.condition,))

    def __call__(self) -> None:
        tracing = self._tracing
        tracing.take_records()
        tracing.source.available = self._available
        tracing.experiment.hit(self._key)


class MachineTracing:
    """Implements `gdbstub.tracing.TraceHost` and, through `source`, `TraceSource`. The machine owns it: an experiment goes
    on when its debugger has gone."""

    register_sizes: Sequence[int] = _SIZES
    block_registers: int = IN_G_PACKET
    pc_register: int = _NUMBERS["rip"]

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._observers: dict[Key, _Arrivals] = {}
        self._area = TraceArea(machine.engine.frames, machine.data)
        self._fast: list[tuple[Tracepoint, FastTracepoint]] = []
        """Fast tracepoints, by the numbers that their records begin with."""
        self.show: Callable[[str], None] = lambda text: None
        """Puts text on the debugger's console, if there is one."""
        self.saved: dict[str, bytes] = {}
        """Trace files that were saved here, by their names (see gdb_files.py)."""
        self.source = MachineSource(machine, lambda text: self.show(text))
        timestamp = Variable(TIMESTAMP, "trace_timestamp", read=lambda: machine.count)
        self.experiment = Experiment(self, builtin=(timestamp,))

    def install(self, tracepoint: Tracepoint) -> None:
        """Observe arrivals."""
        fast = compile_tracepoint(tracepoint, len(self._fast)) if tracepoint.fast else None
        if fast is not None:
            self._fast.append((tracepoint, fast))
        observer = _Arrivals(self, tracepoint, fast)
        self._observers[tracepoint.key] = observer
        self._machine.breakpoints.add_observer(tracepoint.address, observer)

    def remove(self, tracepoint: Tracepoint) -> None:
        """Observe no more."""
        self._machine.breakpoints.remove_observer(tracepoint.address, self._observers.pop(tracepoint.key))
        if not self._observers:
            self._fast = []

    def take_records(self) -> tuple[int, int] | None:
        """Make frames of what fast tracepoints have recorded. Returns count and address of the last one."""
        data = memoryview(self._area.take()) if self._area.used else memoryview(b"")
        last: tuple[int, int] | None = None
        at, known = 0, self._fast  # a full buffer removes the tracepoints
        while at < len(data):
            tracepoint, fast = known[record_number(data, at)]
            frame = read_record(data, at, tracepoint, fast.layout)
            last = frame.count, frame.address
            self.experiment.record(tracepoint.key, frame)
            at += fast.layout.size
        return last

    def follow(self) -> None:
        """Behind each instruction, until nothing steps any more."""
        self._machine.call_after_next(self._stepped)

    def _stepped(self) -> None:
        experiment = self.experiment
        self.source.available = -1
        experiment.stepped()
        if experiment.stepping:
            self.follow()

    def microseconds(self) -> int:
        """Virtual time."""
        self._machine.clock.count = self._machine.count
        return self._machine.clock.now_ns() // 1000


class MachineSource(MachineAgent):
    """A machine that stands in front of an instruction, as a collector looks at it."""

    def __init__(self, machine: Machine, show: Callable[[str], None]) -> None:
        super().__init__(machine, show)
        self._general = GeneralRegisters(machine)
        self.available = -1
        """The mask of the registers that can be collected now: all frames of a fast tracepoint have the same."""

    def place(self) -> tuple[int, int]:
        """RIP, and the instruction count."""
        return self._machine.cpu.rip & MASK64, self._machine.count

    def peek_registers(self, mask: int) -> tuple[int, bytes]:
        """In every mode."""
        machine = self._machine
        mask &= self.available
        block = self._general.read(LONG) if mask & _SLOW else b""
        if block and mask & _BLOCK == _BLOCK:
            parts, rest = [block], mask & ~_BLOCK
        else:
            parts, rest = [], mask
        for number in register_numbers(rest):
            if block and number < IN_G_PACKET:
                parts.append(block[_OFFSETS[number] : _OFFSETS[number + 1]])
            else:
                parts.append(GDB_REGISTERS[number].read(machine).to_bytes(_SIZES[number], "little"))
        return mask, b"".join(parts)

    def peek_memory(self, address: int, length: int) -> bytes:
        """Up to the first page that is not mapped to RAM."""
        parts = []
        while length > 0:
            size = min(length, PAGE_SIZE - address % PAGE_SIZE)
            try:
                parts.append(self._machine.memory.peek(address, size))
            except NotMapped:
                break
            address = address + size & MASK64
            length -= size
        return b"".join(parts)
