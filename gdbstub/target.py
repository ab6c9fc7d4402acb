"""What a target can do, one small protocol per capability.

Only `Target` is required. Each other protocol that a target implements (by having its methods: no base class is
needed) turns on the packets that need it, and `qSupported` advertises them; everything else gets the empty reply,
which is how the remote protocol says "not supported".

A method that cannot do what is asked raises `TargetError` (or `MemoryFault`); the debugger is told. Threads are given
as `ThreadId`; a target without `Threads` is always given `ONLY_THREAD`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, runtime_checkable

from gdbstub.agent import Program
from gdbstub.stop import Access, StopReason
from gdbstub.threadid import ThreadId
from gdbstub.tracing import Experiment


@dataclass(frozen=True, slots=True)
class Continue:
    """Run on; a `signal` other than 0 is delivered first."""

    signal: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """Run one instruction; a `signal` other than 0 is delivered first."""

    signal: int = 0


@dataclass(frozen=True, slots=True)
class StepRange:
    """Step while the program counter is in `start` <= pc < `end`. At least one instruction is run."""

    start: int
    end: int


Action = Continue | Step | StepRange


class MemoryKind(Enum):
    """Region types of a memory map (GDB manual, "Memory Map Format")."""

    RAM = "ram"
    ROM = "rom"


@dataclass(frozen=True, slots=True)
class MemoryRegion:
    """`length` bytes of one kind from `start`."""

    kind: MemoryKind
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class ThreadDetails:
    """What people see of a thread: a name, a word on its state, and the core it is on (None: not said)."""

    name: str = ""
    state: str = ""
    core: int | None = None


@runtime_checkable
class Target(Protocol):
    """Every target. It stands still whenever the stub is not running."""

    def stop_reason(self) -> StopReason:
        """Why it stands still now: asked for when a debugger connects."""


@runtime_checkable
class Threads(Protocol):
    """A target of several threads (CPUs)."""

    def threads(self) -> Sequence[ThreadId]:
        """All that exist now, in a fixed order; the first is the default one."""


@runtime_checkable
class DescribeThreads(Threads, Protocol):
    """Threads that have names or states."""

    def thread_details(self, thread: ThreadId) -> ThreadDetails:
        """For `info threads`."""


@runtime_checkable
class ReadRegisters(Protocol):
    """Registers by the debugger's numbers, which are those of the target description (from 0, in its order)."""

    @property
    def register_sizes(self) -> Sequence[int]:
        """Bytes of each register; 0 for a number that is not used."""

    def read_register(self, thread: ThreadId, number: int) -> bytes | None:
        """The raw bytes in target byte order; None when unavailable."""


@runtime_checkable
class RegisterBlock(ReadRegisters, Protocol):
    """Registers that can be read at once, which is what a debugger does at every stop. Those behind the block it reads
    one by one, when it wants them."""

    @property
    def block_registers(self) -> int:
        """How many registers, from number 0 on, are in the block."""

    def read_block(self, thread: ThreadId) -> bytes:
        """Their raw bytes, one behind the other."""


@runtime_checkable
class WriteRegisters(ReadRegisters, Protocol):
    """Registers that can be set."""

    def write_register(self, thread: ThreadId, number: int, data: bytes) -> None:
        """Set one; `data` has the register's size. Raise TargetError for one that is read-only."""


@runtime_checkable
class ExpediteRegisters(ReadRegisters, Protocol):
    """Registers to send with every stop reply, which saves the debugger a round trip."""

    @property
    def expedited_registers(self) -> Sequence[int]:
        """Their numbers: the program counter, the stack and the frame pointer are the ones that pay."""


@runtime_checkable
class ReadMemory(Protocol):
    """Memory as a thread sees it."""

    def read_memory(self, thread: ThreadId, address: int, length: int) -> bytes:
        """`length` bytes, or fewer if the rest is not accessible. Raise MemoryFault if the first byte is not."""


@runtime_checkable
class WriteMemory(Protocol):
    """Memory that can be set."""

    def write_memory(self, thread: ThreadId, address: int, data: bytes) -> None:
        """Write all of `data`, or raise MemoryFault and write nothing."""


@runtime_checkable
class Resume(Protocol):
    """A target that can run."""

    def resume(self, actions: Mapping[ThreadId, Action]) -> None:
        """Begin to run the threads in `actions`; the others stand still. Return at once: when the target has stopped,
        the caller of the stub passes the reason to `Stub.report_stop` (never from within this method)."""

    def interrupt(self) -> None:
        """Stop soon, the reason being `Interrupted` unless another comes first. Return at once."""


@runtime_checkable
class SetProgramCounter(Resume, Protocol):
    """A target that `c` and `s` can resume at an address."""

    def set_program_counter(self, thread: ThreadId, address: int) -> None:
        """Where `thread` goes on when it is resumed. Raise TargetError for an address that cannot be."""


@runtime_checkable
class NonStop(Resume, Protocol):
    """A target for non-stop mode. Then `resume` is called for threads that stand still while others run, each stop is
    reported for its own thread, and all other methods may be called at any time: whoever drives the stub lets the target
    stand still for as long as `Stub.feed` takes."""

    def halt(self, threads: Collection[ThreadId]) -> None:
        """Stop these threads soon, the reason being `Signalled(Signal.NONE)` unless another comes first. Return at once."""


@runtime_checkable
class StepRanges(Resume, Protocol):
    """A target whose `resume` also takes `StepRange`: then stepping a source line is one round trip."""

    @property
    def steps_ranges(self) -> bool:
        """Whether it does."""


@runtime_checkable
class SoftwareBreakpoints(Protocol):
    """Breakpoints without number. `kind` is the size in bytes of the instruction that a debugger would have put there.
    Setting one twice is the same as once; removing one that isn't set does nothing."""

    def insert_breakpoint(self, address: int, kind: int) -> None:
        """Stop before `address` is executed."""

    def remove_breakpoint(self, address: int, kind: int) -> None:
        """Take it away."""


@runtime_checkable
class HardwareBreakpoints(Protocol):
    """As `SoftwareBreakpoints`, but they never change memory, and may run out (raise TargetError)."""

    def insert_hardware_breakpoint(self, address: int, kind: int) -> None:
        """Stop before `address` is executed."""

    def remove_hardware_breakpoint(self, address: int, kind: int) -> None:
        """Take it away."""


@dataclass(frozen=True, slots=True)
class BreakpointPrograms:
    """What is to be evaluated when a breakpoint is reached. It holds if there are no conditions, or one of them is not 0.

    Where it holds: without commands, stop. With commands, run them and go on. `persist`: also when no debugger is there.
    """

    conditions: tuple[Program, ...] = ()
    commands: tuple[Program, ...] = ()
    persist: bool = False


@runtime_checkable
class ProgrammedBreakpoints(Protocol):
    """Breakpoints whose conditions and commands are evaluated on the target's side."""

    def program_breakpoint(self, address: int, hardware: bool, programs: BreakpointPrograms) -> None:
        """For the breakpoint that was just inserted, in place of what it had before; often there is nothing in it.
        Raise TargetError for a program that cannot be evaluated here."""


@runtime_checkable
class Watchpoints(Protocol):
    """Breakpoints on data. Idempotent as breakpoints are."""

    def insert_watchpoint(self, address: int, length: int, access: Access) -> None:
        """Stop after (or at) an access to any of `length` bytes."""

    def remove_watchpoint(self, address: int, length: int, access: Access) -> None:
        """Take it away."""


@runtime_checkable
class Tracepoints(Protocol):
    """A target whose code can be traced. What the packets do, they do to its experiment."""

    @property
    def experiment(self) -> Experiment:
        """The same one for all debuggers, one after the other."""


@runtime_checkable
class SaveTraces(Tracepoints, Protocol):
    """A target that keeps traces as files."""

    def save_trace(self, name: str, data: bytes) -> None:
        """Keep a whole trace file under `name`. Raise TargetError for a name that cannot be."""


@runtime_checkable
class StepFlags(Protocol):
    """A target whose single steps may hold interrupts back."""

    steps_take_interrupts: bool
    """Whether a step may end at the first instruction of an interrupt handler. If not, the interrupt waits."""


@runtime_checkable
class PhysicalMemory(Protocol):
    """A target that can be asked for physical memory."""

    physical_addresses: bool
    """Whether `read_memory` and `write_memory` take physical addresses from now on."""


@runtime_checkable
class Files(Protocol):
    """A target with files that a debugger may read: the program that runs, logs, figures."""

    def read_file(self, name: str) -> bytes | None:
        """All of a file, as it is now; None if there is none of that name."""


@runtime_checkable
class ExecFile(Files, Protocol):
    """A target that knows which of its files runs."""

    def exec_file(self) -> str:
        """Its absolute name; empty if it is not known."""


@dataclass(frozen=True, slots=True)
class Host:
    """What code runs on: an LLVM target triple, bytes of a pointer, and the system (`none` for bare metal)."""

    triple: str
    pointer_bytes: int
    system: str = "none"


@runtime_checkable
class DescribeHost(Protocol):
    """A target that says what it is, for lldb."""

    def host(self) -> Host:
        """What it is now."""


@dataclass(frozen=True, slots=True)
class Region:
    """`length` bytes from `start`. permissions: of the letters r, w, x; empty where nothing is mapped."""

    start: int
    length: int
    permissions: str = ""
    name: str = ""


@runtime_checkable
class DescribeMemory(Protocol):
    """A target that knows what of its address space is mapped."""

    def memory_region(self, address: int) -> Region:
        """A range around `address` in which all is alike."""


@runtime_checkable
class NameRegisters(ReadRegisters, Protocol):
    """Registers with names, for debuggers that ask for them one by one."""

    def register_name(self, number: int) -> tuple[str, str, str]:
        """Its name, the group that it is shown in, and what it is for (pc, sp, fp, flags) or ""."""


@runtime_checkable
class DescribeTarget(Protocol):
    """A target description (GDB manual, "Target Descriptions")."""

    def target_description(self) -> Mapping[str, str]:
        """XML by annex; `target.xml` is the one that debuggers read first."""


@runtime_checkable
class ExecEvents(Protocol):
    """A target that may begin to run another program, or the same with other registers: a CPU that changes its mode."""

    takes_exec_events: bool
    """Set when the debugger says whether it understands `Executed`, which is before it reads the description. If it does
    not, its description must stay as it is."""


@runtime_checkable
class MapMemory(Protocol):
    """A memory map. With one, gdb refuses every address outside it (unless `set mem inaccessible-by-default off`),
    so a target that shows virtual memory had better not have one."""

    def memory_map(self) -> Sequence[MemoryRegion]:
        """All regions, none overlapping another."""


@runtime_checkable
class Monitor(Protocol):
    """gdb's `monitor` commands."""

    def monitor(self, command: str) -> str:
        """Run `command` and return what to print, with its line ends. TargetError fails the command. A long-running one
        may send text meanwhile with `Stub.console`."""


@runtime_checkable
class Kill(Protocol):
    """A target that a debugger may end."""

    def kill(self) -> None:
        """End it for good; from then on `stop_reason` is `Terminated`."""


@runtime_checkable
class Restart(Protocol):
    """A target that can begin again: gdb's `target extended-remote` and `run`."""

    def restart(self) -> None:
        """Back to the first instruction, standing still, also after an exit or `kill`."""


@runtime_checkable
class Detach(Protocol):
    """A target that wants to know when its debugger is gone."""

    def detach(self) -> None:
        """The debugger has detached, killed or lost the connection: drop its breakpoints. Called once a session."""
