"""`GdbTarget`: a machine as the gdb stub sees one.

It answers what a debugger asks of a machine that stands still, and notes what a debugger wants a machine to do; running
it is the server's business (gdb_server.py). A breakpoint here is a translation unit that ends: memory is never changed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from dbgvmm.debug.agent import MachineAgent, ProgrammedCondition
from dbgvmm.debug.breakpoints import Condition
from dbgvmm.debug.gdb_description import target_description
from dbgvmm.debug.gdb_files import MachineFiles
from dbgvmm.debug.gdb_layouts import LONG
from dbgvmm.debug.gdb_modes import ModeFollower
from dbgvmm.debug.gdb_registers import GeneralRegisters
from dbgvmm.debug.regions import MEMORY_MAP, region_at
from dbgvmm.debug.register_row import RegisterError
from dbgvmm.debug.registers import write_register
from dbgvmm.debug.stops import Stop, StopKind
from dbgvmm.debug.watchpoints import Watch
from dbgvmm.mmu.linear import NotMapped
from gdbstub import (
    ONLY_THREAD,
    Access,
    Action,
    BreakpointHit,
    BreakpointPrograms,
    Continue,
    Executed,
    Exited,
    Host,
    Interrupted,
    MemoryFault,
    MemoryRegion,
    Region,
    Signal,
    Signalled,
    Stepped,
    StopReason,
    TargetError,
    Terminated,
    ThreadDetails,
    ThreadId,
    WatchpointHit,
)
from gdbstub.tracing import Experiment

if TYPE_CHECKING:
    from dbgvmm.machine import Machine

_SIGNALS: Final = {
    StopKind.TRIPLE_FAULT: Signal.SEGV,
    StopKind.UNSUPPORTED: Signal.ILL,
    StopKind.HALT: Signal.TRAP,
    StopKind.LIMIT: Signal.TRAP,
    StopKind.CATCHPOINT: Signal.TRAP,
    StopKind.MODE: Signal.TRAP,
    StopKind.SCRIPT: Signal.TRAP,
    StopKind.SCRIPT_ERROR: Signal.TRAP,
}
"""Stops at which the machine can still be looked at, though it may be unable to go on."""

_NO_TRACING: Final = "tracepoints collect the registers of 64-bit code: go on to it (a breakpoint there stops), then tstart"
_ACCESS: Final = {(False, True): Access.WRITE, (True, False): Access.READ, (True, True): Access.ANY}

MonitorCommand = Callable[[str, Callable[[str], None]], str]
"""Runs one command line. Its output goes to the function as it comes, and the rest is returned. Raises TargetError."""


class GdbTarget:
    """Implements the protocols of `gdbstub.target` that their names say. `monitor_command` runs gdb's `monitor`."""

    steps_ranges = True
    steps_take_interrupts: bool = True
    physical_addresses: bool = False
    owner_name = "gdb"

    def __init__(self, machine: Machine, monitor_command: MonitorCommand | None = None) -> None:
        self._machine = machine
        self._monitor_command = monitor_command
        self.modes = ModeFollower(machine)
        self._general = GeneralRegisters(machine)
        self._software: dict[int, Condition | None] = {}
        self._hardware: dict[int, Condition | None] = {}
        self._agent = MachineAgent(machine, lambda text: self.show(text))
        machine.tracing.show = lambda text: self.show(text)
        self._watches: set[Watch] = set()
        self._files = MachineFiles(machine)
        self.show: Callable[[str], None] = lambda text: None
        """Puts text on the debugger's console while the machine runs."""
        self.action: Action = Continue()
        self.interrupted = False
        self.halting = False
        self.resumed_at = 0
        """The instruction count at which the debugger had it run."""
        self.killed = False
        self._reason: StopReason = Signalled(Signal.TRAP)
        self._lay_out()

    # -- what the registers are, which depends on the CPU's mode

    def _lay_out(self) -> None:
        layout = self._layout = self.modes.layout
        self.register_sizes: Sequence[int] = tuple(row.bits // 8 for row in layout.all)
        self.expedited_registers: Sequence[int] = layout.expedited
        self.block_registers = len(layout.general)
        self._agent.rows = layout.all
        self.experiment.refusal = "" if layout is LONG else _NO_TRACING

    @property
    def takes_exec_events(self) -> bool:
        """The debugger can be told that the registers are others now."""
        return self.modes.follows

    @takes_exec_events.setter
    def takes_exec_events(self, takes: bool) -> None:
        self.modes.begin(takes)
        self._lay_out()

    # -- why it stands still

    def stop_reason(self) -> StopReason:
        """The last stop's reason."""
        return self._reason

    def note_stop(self, stop: Stop | None) -> StopReason:
        """Take in a stop of the machine (None: it has not run yet); the reason to report."""
        if stop is not None and self.modes.hold(stop):
            self.drop_breakpoints()
            self._lay_out()
            # A file that somebody gave gdb may have more symbols than the kernel: gdb keeps it if there is no other.
            self._reason = Executed(self.exec_file() if self._files.kernel_was_read else self._layout.title)
        else:
            self._reason = Signalled(Signal.TRAP) if stop is None else self._as_reason(stop)
        self.interrupted = self.halting = False
        return self._reason

    def owns(self, stop: Stop) -> bool:
        """Whether the breakpoint or watchpoint that stopped the machine is one of the debugger's."""
        if stop.kind is StopKind.WATCHPOINT:
            return stop.watch in self._watches
        address = self._machine.cpu.rip if stop.address is None else stop.address
        return address in self._software or address in self._hardware

    def _as_reason(self, stop: Stop) -> StopReason:
        match stop.kind:
            case StopKind.STEP:
                # gdb has forgotten that it was stepping, and would show a signal other than 0 as one that the guest got.
                return Signalled(Signal.NONE) if self.modes.told_late else Stepped()
            case StopKind.BREAKPOINT | StopKind.WATCHPOINT if not self.owns(stop):
                # gdb goes on at once when it is told of a breakpoint that it does not know.
                return Signalled(Signal.TRAP)
            case StopKind.BREAKPOINT:
                address = self._machine.cpu.rip if stop.address is None else stop.address
                return BreakpointHit(hardware=address in self._hardware and address not in self._software)
            case StopKind.WATCHPOINT:
                assert stop.watch is not None and stop.address is not None
                return WatchpointHit(stop.address, _ACCESS[stop.watch.reads, stop.watch.writes])
            case StopKind.INTERRUPT:
                return Signalled(Signal.NONE) if self.halting and not self.interrupted else Interrupted()
            case StopKind.EXIT:
                return Exited(stop.exit_code & 0xFF)
            case StopKind.POWER_OFF | StopKind.RESET:
                return Exited(0)
            case StopKind.QUIT:
                return Terminated(Signal.TERM)
            case kind:
                return Signalled(_SIGNALS[kind])

    # -- the one CPU

    def threads(self) -> Sequence[ThreadId]:
        """One thread for each CPU."""
        return (ONLY_THREAD,)

    def thread_details(self, thread: ThreadId) -> ThreadDetails:
        """CPU number, the mode and privilege that it is in, whether it waits in HLT, and its page tables."""
        cpu = self._machine.cpu
        state = f"{cpu.mode.value} CPL {cpu.cpl}, {'halted' if cpu.halted else 'running'}, CR3 {cpu.cr3:#x}"
        return ThreadDetails(f"CPU {cpu.index}", state, cpu.index)

    def host(self) -> Host:
        """x86-64, whatever mode it is in: the registers are those."""
        return Host("x86_64-unknown-none", 8)

    def memory_region(self, address: int) -> Region:
        """Of the current address space."""
        return region_at(self._machine, address)

    def memory_map(self) -> Sequence[MemoryRegion]:
        """All 64 bits (see regions.py)."""
        return MEMORY_MAP

    def register_name(self, number: int) -> tuple[str, str, str]:
        """Groups as the target description has them."""
        return self._layout.describe(number)

    def target_description(self) -> Mapping[str, str]:
        """target.xml."""
        return {"target.xml": target_description(self._layout)}

    def read_register(self, thread: ThreadId, number: int) -> bytes | None:
        """One register, little-endian."""
        row = self._layout.all[number]
        return row.read(self._machine).to_bytes(row.bits // 8, "little")

    def read_block(self, thread: ThreadId) -> bytes:
        """The registers that gdb wants at every stop."""
        return self._general.read(self._layout)

    def write_register(self, thread: ThreadId, number: int, data: bytes) -> None:
        """Set one register."""
        try:
            self._layout.all[number].write(self._machine, int.from_bytes(data, "little"))
        except RegisterError as error:
            raise TargetError(str(error)) from error

    # -- memory, at the current address space's linear addresses, or at physical ones

    def read_memory(self, thread: ThreadId, address: int, length: int) -> bytes:
        """Up to the first byte that is not mapped to RAM."""
        if self.physical_addresses:
            self._check_physical(address)
            return bytes(self._machine.ram.bytes[address : address + length])
        try:
            return self._machine.memory.peek_some(address, length)
        except NotMapped as error:
            raise MemoryFault(address, str(error)) from error

    def write_memory(self, thread: ThreadId, address: int, data: bytes) -> None:
        """Through traces: translations of changed code and shadows of changed page tables are renewed."""
        if self.physical_addresses:
            self._check_physical(address + len(data) - 1)
            self._machine.mmu.guest_write(address, data)
            return
        try:
            self._machine.memory.poke(address, data)
        except NotMapped as error:
            raise MemoryFault(address, str(error)) from error

    def _check_physical(self, address: int) -> None:
        size = self._machine.ram.size
        if address >= size:
            raise MemoryFault(address, f"physical {address:#x} is outside RAM, which ends at {size:#x}")

    # -- files

    def exec_file(self) -> str:
        """The kernel's name."""
        return self._files.exec_file()

    def read_file(self, name: str) -> bytes | None:
        """The kernel, or what is known of the run (see gdb_files.py)."""
        return self._files.read_file(name)

    # -- breakpoints

    def insert_breakpoint(self, address: int, kind: int) -> None:
        """A software breakpoint."""
        self._insert(self._software, address)

    def remove_breakpoint(self, address: int, kind: int) -> None:
        """Take it away."""
        self._remove(self._software, address)

    def insert_hardware_breakpoint(self, address: int, kind: int) -> None:
        """A hardware breakpoint, of which there is no end here."""
        self._insert(self._hardware, address)

    def remove_hardware_breakpoint(self, address: int, kind: int) -> None:
        """Take it away."""
        self._remove(self._hardware, address)

    def program_breakpoint(self, address: int, hardware: bool, programs: BreakpointPrograms) -> None:
        """Conditions and commands, in place of those it had."""
        addresses = self._hardware if hardware else self._software
        condition = ProgrammedCondition(self._agent, programs) if programs.conditions or programs.commands else None
        if condition is not addresses[address]:
            self._machine.breakpoints.replace(address, addresses[address], condition)
            addresses[address] = condition

    def _insert(self, addresses: dict[int, Condition | None], address: int) -> None:
        if address not in addresses:
            addresses[address] = None
            self._machine.breakpoints.add(address)

    def _remove(self, addresses: dict[int, Condition | None], address: int) -> None:
        if address in addresses:
            self._machine.breakpoints.remove(address, addresses.pop(address))

    def breakpoint_addresses(self) -> Collection[int]:
        """Linear addresses of the debugger's breakpoints."""
        return {*self._software, *self._hardware}

    # -- watchpoints

    def owned_watchpoints(self) -> Collection[Watch]:
        """The debugger's."""
        return self._watches

    def insert_watchpoint(self, address: int, length: int, access: Access) -> None:
        """Of any length and number."""
        watch = self._watch(address, length, access)
        if watch not in self._watches:
            try:
                self._machine.watchpoints.add(watch)
            except ValueError as error:
                raise TargetError(str(error)) from error
            self._watches.add(watch)

    def remove_watchpoint(self, address: int, length: int, access: Access) -> None:
        """Take it away."""
        watch = self._watch(address, length, access)
        if watch in self._watches:
            self._watches.remove(watch)
            self._machine.watchpoints.remove(watch)

    @staticmethod
    def _watch(address: int, length: int, access: Access) -> Watch:
        try:
            return Watch(address, length, reads=access is not Access.WRITE, writes=access is not Access.READ)
        except ValueError as error:
            raise TargetError(str(error)) from error

    # -- tracepoints, which outlive the debugger

    @property
    def experiment(self) -> Experiment:
        """The machine's."""
        return self._machine.tracing.experiment

    def save_trace(self, name: str, data: bytes) -> None:
        """As a file that can be read from here: nothing is written on the host."""
        self._files.save_trace(name, data)

    # -- running

    def resume(self, actions: Mapping[ThreadId, Action]) -> None:
        """Note what to do; the server does it. Signals mean nothing to a machine."""
        self.action = actions[ONLY_THREAD]
        self.resumed_at = self._machine.count

    def set_program_counter(self, thread: ThreadId, address: int) -> None:
        """Go on there."""
        try:
            write_register(self._machine, "rip", address)
        except RegisterError as error:
            raise TargetError(str(error)) from error

    def interrupt(self) -> None:
        """Stop the running machine. `interrupted` tells the server if it does not run at this moment."""
        self.interrupted = True
        if self._machine.running:
            self._machine.request_stop("interrupted by the debugger")

    def halt(self, threads: Collection[ThreadId]) -> None:
        """Stop, in non-stop mode. The machine is paused while packets are served, so the server finds `halting` set."""
        self.halting = True

    def restart(self) -> None:
        """Power-cycle."""
        try:
            self._machine.restart()
        except RuntimeError as error:
            raise TargetError(str(error)) from error
        self.killed = False
        self._reason = Signalled(Signal.TRAP)
        self.modes.begin(self.modes.follows)
        self._lay_out()

    def kill(self) -> None:
        """The server ends the run."""
        self.killed = True
        self._reason = Terminated()

    def detach(self) -> None:
        """The debugger has gone. The machine may be in the middle of running: the server stops it and clears up."""

    def drop_breakpoints(self) -> None:
        """Take all of the debugger's breakpoints and watchpoints away."""
        for watch in self._watches:
            self._machine.watchpoints.remove(watch)
        self._watches.clear()
        for addresses in (self._software, self._hardware):
            for address in sorted(addresses):
                self._remove(addresses, address)

    def let_go(self) -> None:
        """The debugger has gone: nothing of it stays, but tracing that was to go on."""
        self.drop_breakpoints()
        self.experiment.debugger_gone()
        self.experiment.refusal = ""

    # -- monitor

    def monitor(self, command: str) -> str:
        """One command of the command table."""
        if self._monitor_command is None:
            raise TargetError("this machine was made without monitor commands")
        text = self._monitor_command(command, self.show)
        return text if not text or text.endswith("\n") else text + "\n"
