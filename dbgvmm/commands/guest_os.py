"""The operating system in the guest: what it is, its tasks, its log, its modules, its system calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

from dbgvmm.commands.columns import columns
from dbgvmm.commands.errors import CommandError
from dbgvmm.commands.parameters import Count, Value
from dbgvmm.commands.session import Session
from dbgvmm.commands.table import command
from dbgvmm.guest_os import Area, GuestOs, GuestOsError, LogLine, Module, Task

T = TypeVar("T")
_LEVELS: Final = ("emerg", "alert", "crit", "err", "warn", "notice", "info", "debug")
"""By number, as syslog(2) and dmesg(1) call them."""
Level = Literal["emerg", "alert", "crit", "err", "warn", "notice", "info", "debug"]
_NANOSECONDS: Final = 1_000_000_000


def _ask(session: Session, question: Callable[[GuestOs], T]) -> T:
    try:
        return question(session.machine.os)
    except GuestOsError as error:
        raise CommandError(str(error)) from error


@dataclass(frozen=True)
class OsReport:
    """The guest's operating system. abilities: what can be asked of it; "" or why not."""

    name: str
    version: str
    facts: tuple[tuple[str, str], ...]
    abilities: dict[str, str]

    def __str__(self) -> str:
        able = ", ".join(name for name, problem in self.abilities.items() if not problem)
        rows = [("system", self.name), ("version", self.version), *self.facts, ("can tell", able or "nothing")]
        rows += [(f"no {name}", problem) for name, problem in self.abilities.items() if problem]
        return columns(rows)


@dataclass(frozen=True)
class TaskList:
    """Tasks, and why there may be more that could not be read ("" if all were)."""

    tasks: tuple[Task, ...]
    problem: str

    def __str__(self) -> str:
        rows = [
            (
                "*" if task.current else "", task.pid, task.parent, task.state,
                "-" if task.cr3 is None else hex(task.cr3), f"[{task.name}]" if task.kernel else task.name,
            )
            for task in self.tasks
        ]  # fmt: skip
        text = columns(rows, ("", "pid", "parent", "state", "cr3", "name"), right=(1, 2, 4))
        return f"{text}\n{self.problem}" if self.problem else text


@dataclass(frozen=True)
class TaskReport:
    """One task, and what it has mapped."""

    task: Task
    areas: tuple[Area, ...]
    problem: str

    def __str__(self) -> str:
        task = self.task
        rows = [
            ("name", task.name), ("pid", f"{task.pid}, of process {task.tgid}, whose parent is {task.parent}"),
            ("state", f"{task.state}{', it runs now' if task.current else ''}"),
            ("kind", "kernel thread" if task.kernel else "user process"),
            ("cr3", f"{task.cr3:#x}" if task.cr3 is not None else "no address space of its own"),
            ("structure", f"{task.address:#x}"), ("kernel stack", f"{task.stack:#x}"),
        ]  # fmt: skip
        text = columns(rows)
        if self.areas:
            mapped = [(hex(area.start), hex(area.end), area.rights, hex(area.offset), area.file) for area in self.areas]
            text += "\n" + columns(mapped, ("from", "to", "rights", "offset", "file"), right=(0, 1, 3))
        return f"{text}\n{self.problem}" if self.problem else text


@dataclass(frozen=True)
class KernelLog:
    """Lines of the kernel's log, the oldest first, and why some may be missing."""

    lines: tuple[LogLine, ...]
    problem: str

    def __str__(self) -> str:
        shown = [
            line.text if line.time_ns is None
            else f"[{line.time_ns // _NANOSECONDS:5}.{line.time_ns % _NANOSECONDS // 1000:06}] {line.text}"
            for line in self.lines
        ]  # fmt: skip
        return "\n".join([*shown, *([self.problem] if self.problem else [])]) or "the log is empty"


@dataclass(frozen=True)
class ModuleList:
    """Modules, the newest first, and why some may be missing."""

    modules: tuple[Module, ...]
    problem: str

    def __str__(self) -> str:
        rows = [(module.name, module.size, f"{module.base:#x}", module.state) for module in self.modules]
        text = columns(rows, ("module", "bytes", "at", "state"), right=(1,)) if rows else "no module is loaded"
        return f"{text}\n{self.problem}" if self.problem else text


@dataclass(frozen=True)
class SyscallNames:
    """System calls' names by number."""

    names: dict[int, str]

    def __str__(self) -> str:
        if not self.names:
            return "none that fits"
        return columns(((number, name) for number, name in self.names.items()), ("number", "name"), right=(0,))


@command("info os", aliases=("os",))
def info_os(session: Session) -> OsReport:
    """Show which operating system is in the guest, and what it can be asked.

    It is looked for in guest memory: Linux is known by its own tables, the guests of dbgvmm by their symbols. From then on
    its names (Linux' kallsyms, modules included, moved by KASLR or not) are symbols as those of a file.

    For example:
        info os
    """
    found = _ask(session, lambda system: system)
    return _ask(session, lambda system: OsReport(found.name, found.version, found.facts(), found.abilities()))


@command("ps", aliases=("info tasks", "info processes"))
def ps(session: Session, *, threads: bool = False) -> TaskList:
    """Show the guest's processes, in the kernel's order; --threads shows each thread.

    A star marks what runs. Kernel threads are in brackets. cr3 is the guest-physical address of the top-level page table.
    States: R runs or waits to, S sleeps, D sleeps and takes no signal, I idle kernel thread, T stopped, t traced, Z has ended,
    X is being removed, P parked.

    For example:
        ps
        ps --threads
    """
    found = _ask(session, lambda system: system.tasks(threads=threads))
    return TaskList(found.items, found.problem)


@command("info task", aliases=("task",))
def info_task(session: Session, pid: Value | None = None) -> TaskReport:
    """Show the task with the number PID (the one that runs), and what it has mapped.

    For example:
        info task
        info task 1
    """
    task = _ask(session, lambda system: _find_task(system, pid))
    areas = _ask(session, lambda system: system.areas(task))
    return TaskReport(task, areas.items, areas.problem)


def _find_task(system: GuestOs, pid: int | None) -> Task:
    if pid is None:
        current = system.current_task()
        if current is None:
            raise CommandError("no task runs yet: the kernel has not set itself up so far")
        return current
    found = system.tasks(threads=True)
    for task in found.items:
        if task.pid == pid:
            return task
    more = f" ({found.problem})" if found.problem else ""
    raise CommandError(f"there is no task {pid}: `ps --threads` lists them{more}")


@command("dmesg", aliases=("info log",))
def dmesg(session: Session, last: Count | None = None, *, level: Level | None = None) -> KernelLog:
    """Show the kernel's log out of its memory: all, the LAST lines, or --level and what is as urgent.

    It is there before the kernel has a console, and after it has died. Levels are emerg, alert, crit, err, warn, notice,
    info and debug.

    For example:
        dmesg
        dmesg 20
        dmesg --level err
    """
    found = _ask(session, lambda system: system.log())
    lines = found.items
    if level is not None:
        limit = _LEVELS.index(level)
        lines = tuple(line for line in lines if line.level is not None and line.level <= limit)
    return KernelLog(lines if last is None else lines[-last:], found.problem)


@command("info modules", aliases=("lsmod",))
def info_modules(session: Session) -> ModuleList:
    """Show what was loaded into the guest's kernel, the newest first.

    For example:
        info modules
    """
    found = _ask(session, lambda system: system.modules())
    return ModuleList(found.items, found.problem)


@command("info syscalls")
def info_syscalls(session: Session, pattern: str = "") -> SyscallNames:
    """Show the guest's system calls: all, or those whose name contains PATTERN or that have that number.

    For example:
        info syscalls
        info syscalls open
        info syscalls 59
    """
    names = _ask(session, lambda system: system.syscalls())
    return SyscallNames({
        number: name for number, name in names.items() if (pattern == str(number) if pattern.isdigit() else pattern in name)
    })  # fmt: skip
