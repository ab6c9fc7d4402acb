"""`Machine`: a PC under the hypervisor. It puts the parts together and owns the loop of time.

This is the public Python API::

    from dbgvmm import Machine, MachineConfig
    machine = Machine(MachineConfig(memory=256 << 20))
    machine.boot("vmlinuz", cmdline="console=ttyS0", initrd="initramfs.cpio")
    machine.breakpoints.add(0xffffffff81000000)
    stop = machine.run()
    print(stop.text, hex(machine.cpu.rip), machine.count)
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Final, Self

from dbgvmm.boot.detect import load_kernel
from dbgvmm.boot.first_state import set_first_state
from dbgvmm.boot.state import BootState
from dbgvmm.bt.cache import TranslationCache
from dbgvmm.bt.callouts import Callouts
from dbgvmm.bt.dispatcher import Dispatcher
from dbgvmm.bt.mechanisms import ENTRY, MMIO
from dbgvmm.bt.sync import StateSync
from dbgvmm.bt.tcdata import GUEST_CR3, TcData
from dbgvmm.bt.watching import WatchHit
from dbgvmm.config import MachineConfig
from dbgvmm.cpu.cpuid import CpuidTable
from dbgvmm.cpu.faults import GuestFault, TripleFault, UnsupportedState
from dbgvmm.cpu.msr import MsrTable
from dbgvmm.cpu.state import VCpu
from dbgvmm.debug.breakpoints import Breakpoints
from dbgvmm.debug.catchpoints import Catchpoints
from dbgvmm.debug.physical_breakpoints import PhysicalBreakpoints
from dbgvmm.debug.serial_line import SerialLine
from dbgvmm.debug.stops import Stop, StopKind
from dbgvmm.debug.symbols import Symbols, load_symbols
from dbgvmm.debug.symbols.kernel import symbols_of_kernel
from dbgvmm.debug.tracepoints import MachineTracing
from dbgvmm.debug.watchpoints import Watchpoints
from dbgvmm.devices.board import Board
from dbgvmm.figures import figures_of
from dbgvmm.hardware.engine import Engine
from dbgvmm.hardware.fpu import reset_fpu
from dbgvmm.hardware.memory import PhysicalMemory
from dbgvmm.mmu.linear import GuestMemory
from dbgvmm.mmu.mmu import ShadowMmu
from dbgvmm.timeline.clock import InstructionClock
from dbgvmm.timeline.events import EventQueue
from dbgvmm.timeline.schedule import Schedule
from dbgvmm.tools import Tools

SERIAL_LOG: Final = 1 << 20
PHYSICAL_BITS: Final = 37
_FOR_HOOKS: Final = Stop(StopKind.SCRIPT, "stopped for a handler")


@dataclass(frozen=True)
class BootRequest:
    """What `boot` was asked for, kept for a restart."""

    kernel: Path
    cmdline: str
    initrd: Path | None


def _discard(data: bytes) -> None:
    """A serial line with nobody at its other end."""


class Machine(Tools):
    """A PC with one vCPU. Not thread-safe: one thread owns it (`request_stop` may be called from a signal handler).

    `serial_out` gets what the guest sends on COM1. `with Machine(...) as machine:` closes it at the end. Any number of them may
    be used in one process, in turn.
    """

    def __init__(self, config: MachineConfig | None = None, serial_out: Callable[[bytes], None] | None = None) -> None:
        self.config = config = config or MachineConfig()
        self.clock = InstructionClock(config.ns_per_insn)
        self.events = EventQueue(self.clock)
        self.ram = PhysicalMemory(config.memory)
        self.mmio_accesses = 0
        self.engine = Engine(self.ram, mmio_read=self._mmio_read, mmio_write=self._mmio_write)
        self.serial_out: Callable[[bytes], None] = serial_out or _discard
        self.board = Board(
            self.clock, self.events, memory_size=config.memory, serial_sink=self._on_serial,
            on_exit=self._on_exit, on_power_off=self._on_power_off, on_reset=self._on_reset, rtc_epoch=config.rtc_epoch,
        )
        self.cpuid = CpuidTable(overrides=config.cpu, tsc_hz=self.clock.tsc_hz, physical_bits=PHYSICAL_BITS)
        self.cpu: VCpu = VCpu(self.engine.context.gpr, self.cpuid.limits())
        self.msrs: MsrTable = MsrTable(self.cpuid, self.clock.tsc)
        self.mmu = ShadowMmu(
            self.engine, self.cpu, validate=config.validate, user_execute=config.user == "direct"
        )
        self.mmu.mmio_read = self._mmio_read
        self.mmu.mmio_write = self._mmio_write
        self.memory = GuestMemory(self.mmu)
        """The guest's memory: `memory[address]`, `memory[start:end]`, `memory.u64[address]`, `memory.physical[...]`."""
        self.data = TcData(self.engine.frames)
        self.cache = TranslationCache(self.engine, self.mmu, self.data, pages=config.tc_pages)
        self.sync = StateSync(self.engine, self.cpu)
        self.schedule = Schedule(self.clock, self.events, self.cpu, self.msrs, self.data, self._stop)
        self.callouts = Callouts(
            self.cpu, self.mmu, self.memory, self.board.ports, self.msrs, self.cpuid, self.schedule.synchronise_clock,
            self.sync.store_control, self.schedule.time_changed,
        )
        self.dispatcher = Dispatcher(
            self.engine, self.cpu, self.mmu, self.memory, self.cache, self.data, self.sync, self.callouts
        )
        if config.user == "direct":
            self.dispatcher.run_user_directly()
        self.symbols = Symbols(lambda: self.cpu.cr3)
        """Names of addresses: what commands, profiles and scripts show and understand."""
        self.serial_log = bytearray()
        """What the guest has printed on COM1: at least the newest SERIAL_LOG bytes."""
        self.breakpoints = Breakpoints(self.cache)
        self.watchpoints = Watchpoints(self.dispatcher.watching)
        self.physical_breakpoints = PhysicalBreakpoints(self.cpu, self.mmu, self.cache, self.breakpoints)
        self.catchpoints = Catchpoints(self.cpu, self.dispatcher, self.callouts, self._on_caught)
        self.serial = SerialLine(self)
        """COM1 for scripts: `serial.text`, `serial.send("...")`, `serial.wait_for("login:")`."""
        self.around_run: Callable[[], AbstractContextManager[None]] | None = None
        """Entered whenever the guest begins to run, and left when it stands still: a front end gives it the terminal."""
        self.max_count: int | None = None
        """No run goes beyond this instruction count."""
        self.tracing = MachineTracing(self)
        self.boot_state: BootState | None = None
        self.last_stop: Stop | None = None
        self._seconds = 0.0
        self._started: float | None = None
        self._request: BootRequest | None = None
        self._pending_stop: Stop | None = None
        self._early_stop: Stop | None = None
        self._running = False
        self.cache.translator.set_ticks(self.schedule.ticks)
        self._arrival: tuple[int, int] | None = None
        self._left: tuple[int, int] | None = None
        self._wire()

    def _wire(self) -> None:
        cpu, dispatcher = self.cpu, self.dispatcher
        cpu.on_cr3 = self._on_cr3
        cpu.on_paging_mode_changed = self._on_paging_mode
        dispatcher.on_breakpoint = self._on_breakpoint
        dispatcher.watching.on_hit = self._on_watchpoint
        dispatcher.acknowledge = self.board.acknowledge_interrupt
        dispatcher.interrupt_line = self.board.interrupt_pending
        self.schedule.attach(dispatcher)
        self.cr3_loads = 0

    # -- booting

    def boot(self, kernel: str | Path, cmdline: str = "", initrd: str | Path | None = None) -> None:
        """Load a kernel and set the CPU to its first instruction. Raises BootError, one clear line."""
        request = BootRequest(Path(kernel), cmdline, Path(initrd) if initrd else None)
        state = load_kernel(request.kernel, self.ram, request.cmdline, request.initrd)
        self._request = request
        self.start(state)

    def load_symbols(self, path: str | Path | None = None) -> None:
        """Know the symbols of an ELF file or a System.map, by default the booted kernel's own. Raises SymbolError."""
        if path is not None:
            self.symbols.add(load_symbols(Path(path)))
        elif self.kernel is not None and self.boot_state is not None:
            found = symbols_of_kernel(self.kernel, self.boot_state.symbols_file)
            if found is not None:
                self.symbols.add(found)

    @property
    def kernel(self) -> Path | None:
        """The file that was booted."""
        return None if self._request is None else self._request.kernel

    @property
    def cmdline(self) -> str:
        """The kernel's command line."""
        return "" if self._request is None else self._request.cmdline

    def restart(self) -> None:
        """Power-cycle: RAM cleared, devices reset, the same kernel loaded again. The instruction count goes on."""
        if self._request is None:
            raise RuntimeError("nothing was booted yet: call boot() first")
        count = self.count
        self.cache.flush()
        self.mmu.drop_all()
        self.ram.block.clear()
        self.board.reset()
        self.clock.count = count
        request = self._request
        self.start(load_kernel(request.kernel, self.ram, request.cmdline, request.initrd))

    def start(self, state: BootState) -> None:
        """Set CPU and devices to the state that a loader made."""
        self.boot_state = state
        self.last_stop = None
        reset_fpu(self.engine)
        set_first_state(self.cpu, state)
        self.board.program_as_firmware()
        self.sync.segments_dirty = True
        self._on_paging_mode(self.cpu)
        self.schedule.power_on()

    # -- running

    @property
    def count(self) -> int:
        """Instructions retired since power-on."""
        return self.dispatcher.count

    @property
    def service(self) -> Callable[[], None] | None:
        """Called every million instructions and while the guest is halted: who looks after it meanwhile."""
        return self.schedule.service

    @service.setter
    def service(self, service: Callable[[], None] | None) -> None:
        self.schedule.service = service

    @property
    def idle(self) -> Callable[[int], None] | None:
        """Called before a halted guest jumps so many virtual nanoseconds ahead."""
        return self.schedule.idle

    @idle.setter
    def idle(self, idle: Callable[[int], None] | None) -> None:
        self.schedule.idle = idle

    @property
    def running(self) -> bool:
        """`run` has not returned: what asks is called by it."""
        return self._running

    def run(self, *, steps: int | None = None, max_count: int | None = None) -> Stop:
        """Run until something stops the machine. Afterwards cpu, memory and count are exact.

        steps: stop after so many instructions (kind STEP). max_count: stop at this instruction count (kind LIMIT). Hooks are
        called on the way; what they raise is raised here. Raises RuntimeError if it runs already.
        """
        if self._running or self.hooks.calling:
            raise RuntimeError("the machine is in a run already: a handler returns True to stop it, and cannot run it itself")
        if self.max_count is not None:
            max_count = self.max_count if max_count is None else min(max_count, self.max_count)
        goal = None if steps is None else self.count + steps
        stop = self._run(steps, max_count)
        while self.hooks.noted:
            asked = self.hooks.call()
            if stop is not _FOR_HOOKS:
                return stop
            if asked is not None:
                self.last_stop = asked
                return asked
            stop = self._run(None if goal is None else goal - self.count, max_count, resumed=True)
        return stop

    def _run(self, steps: int | None, max_count: int | None, *, resumed: bool = False) -> Stop:
        """One run, up to a stop or to what hooks wait for. resumed: it goes on where that was."""
        if self.around_run is None:
            return self._run_guest(steps, max_count, resumed)
        with self.around_run():
            return self._run_guest(steps, max_count, resumed)

    def _run_guest(self, steps: int | None, max_count: int | None, resumed: bool) -> Stop:
        early, self._early_stop = self._early_stop, None
        if early is not None:
            self.last_stop = early
            return early
        self._running = True
        self._started = perf_counter()
        self._pending_stop = None
        # What stands here was stopped at, or was not there: but who is told of arrivals has to be told of this one, once.
        self._left = self.count, self.cpu.rip
        passed = not resumed and not self.breakpoints.observed(self.cpu.rip)
        self.dispatcher.ignore_breakpoint = self._arrival == self._left or passed
        self.schedule.begin(steps, max_count)
        collecting = gc.isenabled()
        gc.disable()  # units refer to each other in circles that only a flush unties: a collector finds nothing here
        try:
            if self.cpu.halted:
                self.dispatcher.stop_requested = False  # the last run's: with it, the wait would end before it is over
                self.dispatcher.ledger.timed(ENTRY, self.dispatcher.on_halt)
            if self._pending_stop is not None:
                pass  # still halted for good
            elif steps is None or steps > 0:
                self.dispatcher.run()
            else:
                self._stop(Stop(StopKind.STEP, "stepped"))
        except TripleFault as fault:
            if self.catchpoints.triple_fault(fault):
                self._pending_stop = Stop(StopKind.CATCHPOINT, f"caught a {fault}")
            else:
                self._pending_stop = Stop(StopKind.TRIPLE_FAULT, str(fault))
        except UnsupportedState as fault:
            self._pending_stop = Stop(StopKind.UNSUPPORTED, str(fault))
        finally:
            self._running = False
            self._seconds, self._started = self.seconds_total, None
            if collecting:
                gc.enable()
        self.schedule.synchronise_clock()
        recorded = self.tracing.take_records()
        if recorded == (self.count, self.cpu.rip):
            self._arrival = recorded  # in front of an instruction that faulted: its arrival has been seen
        stop = self._pending_stop or (_FOR_HOOKS if self.hooks.noted else Stop(StopKind.INTERRUPT, "interrupted"))
        self.last_stop = stop
        return stop

    @property
    def seconds_total(self) -> float:
        """Host seconds spent in `run`, up to now."""
        return self._seconds if self._started is None else self._seconds + perf_counter() - self._started

    def step(self, count: int = 1) -> Stop:
        """Execute exactly `count` instructions (interrupt and exception entries are not instructions)."""
        return self.run(steps=count)

    def request_stop(self, text: str = "interrupted", kind: StopKind = StopKind.INTERRUPT) -> None:
        """Have the machine stop at the next exit, at the latest after a million instructions.

        While it does not run, the next run() returns at once.
        """
        if not self._running:
            self._early_stop = Stop(kind, text)
        elif self._pending_stop is None:
            self._stop(Stop(kind, text))

    def call_after_next(self, call: Callable[[], None]) -> None:
        """Have `call` called once, when one more instruction has retired. Only while the machine runs and an exit is being
        handled."""
        self.schedule.call_after_next(call)

    def _stop(self, stop: Stop) -> None:
        self._pending_stop = stop
        self.dispatcher.stop_requested = True

    def _on_breakpoint(self, rip: int) -> None:
        self._arrival = self.count, rip
        self.breakpoints.tell_observers(rip)
        if self._arrival != self._left and self.breakpoints.stops_at(rip):
            self._stop(Stop(StopKind.BREAKPOINT, f"breakpoint at {rip:#x}", address=rip))
        else:
            self.dispatcher.ignore_breakpoint = True

    def _on_watchpoint(self, hits: tuple[WatchHit, ...]) -> None:
        hit = self.watchpoints.tell(hits)
        if hit is None:
            return
        what = "written" if hit.write else "read"
        self._stop(Stop(StopKind.WATCHPOINT, f"{hit.address:#x} was {what}", address=hit.address, watch=hit.watch))

    def _on_caught(self, text: str) -> None:
        self._stop(Stop(StopKind.CATCHPOINT, text))

    # -- paging

    def _on_cr3(self, cpu: VCpu, old: int, new: int) -> None:
        self.cr3_loads += 1
        self.mmu.load_cr3(new)
        self.data.words[GUEST_CR3 >> 3] = new
        self.engine.needs_flush = True
        self.catchpoints.cr3_written(old, new)

    def _on_paging_mode(self, cpu: VCpu) -> None:
        self.mmu.mode_changed()
        self.data.words[GUEST_CR3 >> 3] = cpu.cr3
        self.sync.store_control()
        self.engine.needs_flush = True

    # -- devices

    def _on_serial(self, data: bytes) -> None:
        self.serial.printed(data, SERIAL_LOG)
        log = self.serial_log
        log += data
        if len(log) > 2 * SERIAL_LOG:
            del log[:-SERIAL_LOG]
        self.serial_out(data)

    def serial_input(self, data: bytes) -> None:
        """Bytes that arrive on COM1 now."""
        self.clock.count = self.count
        self.board.uart.receive(data)
        self.dispatcher.update_pending()

    def _on_exit(self, code: int) -> None:
        self._stop(Stop(StopKind.EXIT, f"the guest left with code {code}", exit_code=code))

    def _on_power_off(self) -> None:
        self._stop(Stop(StopKind.POWER_OFF, "the guest powered off"))

    def _on_reset(self) -> None:
        self._stop(Stop(StopKind.RESET, "the guest asked for a reset"))

    def _mmio_read(self, gpa: int, size: int) -> int:
        self.mmio_accesses += 1
        return self.dispatcher.ledger.timed(MMIO, self.board.mmio.read, gpa, size)

    def _mmio_write(self, gpa: int, size: int, value: int) -> None:
        self.mmio_accesses += 1
        self.dispatcher.ledger.timed(MMIO, self.board.mmio.write, gpa, value, size)

    # -- the end

    def close(self) -> None:
        """Give the memory back to the host. The machine cannot be run after that, nor its memory be read."""
        if self._running or self.hooks.calling:
            raise RuntimeError("the machine is in a run: close it afterwards")
        self.engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- figures

    def stats(self) -> dict[str, float]:
        """All counters, flat; docs/statistics.md says what each means."""
        return figures_of(self)


__all__ = ["GuestFault", "Machine", "MachineConfig"]
