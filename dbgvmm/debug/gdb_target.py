"""`GdbTarget`: a machine as the gdb stub sees one.

It answers what a debugger asks of a machine that stands still, and notes what a debugger wants a machine to do; running
it is the server's business (gdb_server.py). A breakpoint here is a translation unit that ends: memory is never changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from dbgvmm.cpu.bits import MASK64
from dbgvmm.debug.agent import MachineAgent, ProgrammedCondition
from dbgvmm.debug.breakpoints import Condition
from dbgvmm.debug.gdb_description import GDB_REGISTERS, IN_G_PACKET, target_description
from dbgvmm.debug.gdb_files import MachineFiles
from dbgvmm.debug.gdb_registers import GeneralRegisters
from dbgvmm.debug.regions import MEMORY_MAP, region_at
from dbgvmm.debug.register_row import RegisterError
from dbgvmm.debug.stops import Stop, StopKind
from dbgvmm.debug.watchpoints import Watch
from dbgvmm.hardware.layout import PAGE_SIZE
from dbgvmm.mmu.linear import NotMapped
from gdbstub import (
    ONLY_THREAD,
    Access,
    Action,
    BreakpointHit,
    BreakpointPrograms,
    Continue,
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

if TYPE_CHECKING:
    from dbgvmm.machine import Machine

_NUMBERS: Final = {row.name: number for number, row in enumerate(GDB_REGISTERS)}
_SIGNALS: Final = {
    StopKind.TRIPLE_FAULT: Signal.SEGV,
    StopKind.UNSUPPORTED: Signal.ILL,
    StopKind.HALT: Signal.TRAP,
    StopKind.LIMIT: Signal.TRAP,
    StopKind.CATCHPOINT: Signal.TRAP,
}
"""Stops at which the machine can still be looked at, though it may be unable to go on."""

_ACCESS: Final = {(False, True): Access.WRITE, (True, False): Access.READ, (True, True): Access.ANY}

_GENERIC: Final = {"rip": "pc", "rsp": "sp", "rbp": "fp", "eflags": "flags"}
"""What lldb wants to know of registers."""

MonitorCommand = Callable[[str, Callable[[str], None]], str]
"""Runs one command line. Its output goes to the function as it comes, and the rest is returned. Raises TargetError."""


class GdbTarget:
    """Implements the protocols of `gdbstub.target` that their names say. `monitor_command` runs gdb's `monitor`."""

    register_sizes: Sequence[int] = tuple(row.bits // 8 for row in GDB_REGISTERS)
    expedited_registers: Sequence[int] = (_NUMBERS["rip"], _NUMBERS["rsp"], _NUMBERS["rbp"])
    block_registers = IN_G_PACKET
    steps_ranges = True
    steps_take_interrupts: bool = True
    physical_addresses: bool = False

    def __init__(self, machine: Machine, monitor_command: MonitorCommand | None = None) -> None:
        self._machine = machine
        self._monitor_command = monitor_command
        self._general = GeneralRegisters(machine)
        self._software: dict[int, Condition | None] = {}
        self._hardware: dict[int, Condition | None] = {}
        self._agent = MachineAgent(machine, lambda text: self.show(text))
        self._watches: set[Watch] = set()
        self._files = MachineFiles(machine)
        self.show: Callable[[str], None] = lambda text: None
        """Puts text on the debugger's console while the machine runs."""
        self.action: Action = Continue()
        self.interrupted = False
        self.killed = False
        self._reason: StopReason = Signalled(Signal.TRAP)

    # -- why it stands still

    def stop_reason(self) -> StopReason:
        """The last stop's reason."""
        return self._reason

    def note_stop(self, stop: Stop | None) -> StopReason:
        """Take in a stop of the machine (None: it has not run yet); the reason to report."""
        self._reason = Signalled(Signal.TRAP) if stop is None else self._as_reason(stop)
        self.interrupted = False
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
                return Stepped()
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
                return Interrupted()
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
        name = GDB_REGISTERS[number].name
        group = "General Purpose Registers" if number < _NUMBERS["st0"] else "System Registers"
        if _NUMBERS["st0"] <= number <= _NUMBERS["mxcsr"]:
            group = "Floating Point Registers"
        return name, group, _GENERIC.get(name, "")

    def target_description(self) -> Mapping[str, str]:
        """target.xml."""
        return {"target.xml": target_description()}

    def read_register(self, thread: ThreadId, number: int) -> bytes | None:
        """One register, little-endian."""
        row = GDB_REGISTERS[number]
        return row.read(self._machine).to_bytes(row.bits // 8, "little")

    def read_block(self, thread: ThreadId) -> bytes:
        """The registers that gdb wants at every stop."""
        return self._general.read()

    def write_register(self, thread: ThreadId, number: int, data: bytes) -> None:
        """Set one register."""
        try:
            GDB_REGISTERS[number].write(self._machine, int.from_bytes(data, "little"))
        except RegisterError as error:
            raise TargetError(str(error)) from error

    # -- memory, at the current address space's linear addresses, or at physical ones

    def read_memory(self, thread: ThreadId, address: int, length: int) -> bytes:
        """Up to the first page that is not mapped to RAM."""
        if self.physical_addresses:
            self._check_physical(address)
            return bytes(self._machine.ram.bytes[address : address + length])
        data = b""
        while length > 0:
            size = min(length, PAGE_SIZE - address % PAGE_SIZE)
            try:
                data += self._machine.memory.peek(address, size)
            except NotMapped as error:
                if data:
                    break
                raise MemoryFault(address, str(error)) from error
            address = address + size & MASK64
            length -= size
        return data

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

    # -- watchpoints

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

    # -- running

    def resume(self, actions: Mapping[ThreadId, Action]) -> None:
        """Note what to do; the server does it. Signals mean nothing to a machine."""
        self.action = actions[ONLY_THREAD]

    def interrupt(self) -> None:
        """Stop the running machine. `interrupted` tells the server if it has not begun to run yet."""
        self.interrupted = True
        self._machine.request_stop("interrupted by the debugger")

    def restart(self) -> None:
        """Power-cycle."""
        try:
            self._machine.restart()
        except RuntimeError as error:
            raise TargetError(str(error)) from error
        self.killed = False
        self._reason = Signalled(Signal.TRAP)

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

    # -- monitor

    def monitor(self, command: str) -> str:
        """One command of the command table."""
        if self._monitor_command is None:
            raise TargetError("this machine was made without monitor commands")
        text = self._monitor_command(command, self.show)
        return text if not text or text.endswith("\n") else text + "\n"
