"""`GuestOs`: what an operating system in the guest can be asked, as far as the monitor can read its memory.

Another system is one more file with a subclass of `GuestOs` and its line in finder.py. A subclass overrides what it can do;
the rest says that it cannot. Nothing here changes the guest, and nothing runs before a person asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from dbgvmm.boot.state import BootState
    from dbgvmm.cpu.state import VCpu
    from dbgvmm.debug.symbols import Symbols, SymbolSource
    from dbgvmm.debug.unwind import Unwinder, UnwindMethod
    from dbgvmm.hardware.memory import PhysicalMemory
    from dbgvmm.mmu.linear import GuestMemory

T = TypeVar("T")
ABILITIES: Final = ("symbols", "modules", "tasks", "areas", "log", "syscalls", "unwind")
"""What a guest's system may be able to do, in the order in which people read it."""


class GuestOsError(Exception):
    """The system cannot be read. The message is one line that says why, and what to do."""


class GuestMachine(Protocol):
    """The part of a Machine that is needed to read a guest's system."""

    @property
    def ram(self) -> PhysicalMemory: ...

    @property
    def cpu(self) -> VCpu: ...

    @property
    def memory(self) -> GuestMemory: ...

    @property
    def symbols(self) -> Symbols: ...

    @property
    def unwinder(self) -> Unwinder: ...

    @property
    def serial_log(self) -> bytearray: ...

    @property
    def boot_state(self) -> BootState | None: ...

    @property
    def kernel(self) -> Path | None: ...

    @property
    def count(self) -> int: ...


@dataclass(frozen=True)
class Listing(Generic[T]):
    """What could be read of a list in guest memory. problem: why it ends early, "" if it does not."""

    items: tuple[T, ...]
    problem: str = ""


@dataclass(frozen=True)
class Task:
    """A thread of the guest.

    pid: the thread's number, tgid: its process's, parent: its parent process's. state: a letter as ps(1) shows it. kernel:
    it has no address space of its own. cr3: guest-physical address of its top-level page table, None without one. address,
    stack: linear addresses of its structure and of the lowest byte of its kernel stack.
    """

    pid: int
    tgid: int
    parent: int
    name: str
    state: str
    kernel: bool
    cr3: int | None
    address: int
    stack: int
    current: bool


@dataclass(frozen=True)
class Area:
    """A stretch of a process's address space. rights: "rwxp" as in /proc/PID/maps. offset: in the file, in bytes."""

    start: int
    end: int
    rights: str
    offset: int
    file: str


@dataclass(frozen=True)
class Module:
    """A part of the kernel that was loaded later. size: bytes of all its parts; address: of its structure."""

    name: str
    base: int
    size: int
    state: str
    address: int


@dataclass(frozen=True)
class LogLine:
    """A line of the kernel's log. time_ns: its own time, None if it keeps none; level: 0 is the most urgent, None unknown."""

    text: str
    sequence: int
    time_ns: int | None
    level: int | None


class GuestOs(Protocol):
    """An operating system in guest memory."""

    @property
    def name(self) -> str:
        """What it is called: "Linux"."""

    @property
    def version(self) -> str:
        """Which one it is, as it says itself."""

    def present(self) -> bool:
        """Whether memory still holds this very system: asked each time before it is used, so it has to be quick."""

    def abilities(self) -> dict[str, str]:
        """For each of ABILITIES "" if it can be asked, else why not. As it stands: what a subclass has overridden."""
        methods = {"symbols": "symbol_sources", "unwind": "unwind_method"}
        return {
            ability: ""
            if getattr(type(self), method) is not getattr(GuestOs, method)
            else f"dbgvmm cannot read that of {self.name}"
            for ability in ABILITIES
            for method in (methods.get(ability, ability),)
        }

    def facts(self) -> tuple[tuple[str, str], ...]:
        """More that is worth knowing, as (name, text)."""
        return ()

    def symbol_sources(self) -> Sequence[SymbolSource]:
        """Names that it has in memory; they become the machine's."""
        return ()

    def current_task(self) -> Task | None:
        """The task that runs, None if there is none yet. Raises GuestOsError."""
        raise self._cannot("tasks")

    def running(self) -> tuple[int, str] | None:
        """Id and name of the task that `current_task` has: for a profiler, which asks often. Raises GuestOsError."""
        task = self.current_task()
        return None if task is None else (task.pid, task.name)

    def tasks(self, *, threads: bool = False) -> Listing[Task]:
        """Its processes, or all their threads. Raises GuestOsError."""
        raise self._cannot("tasks")

    def areas(self, task: Task) -> Listing[Area]:
        """What a task has mapped, by address. Raises GuestOsError."""
        raise self._cannot("mapped areas")

    def modules(self) -> Listing[Module]:
        """What was loaded into the kernel, the newest first. Raises GuestOsError."""
        raise self._cannot("modules")

    def log(self) -> Listing[LogLine]:
        """What the kernel has said, the oldest first. Raises GuestOsError."""
        raise self._cannot("log")

    def syscalls(self) -> dict[int, str]:
        """The system calls' names by number. Raises GuestOsError."""
        raise self._cannot("system calls")

    def unwind_method(self) -> UnwindMethod | None:
        """What finds callers by the kernel's own tables, None if it has none."""
        return None

    def _cannot(self, what: str) -> GuestOsError:
        return GuestOsError(f"{self.name} has no {what} that dbgvmm can read: `info os` shows what it can")
