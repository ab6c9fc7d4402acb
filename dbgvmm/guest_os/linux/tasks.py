"""Linux' tasks: the one that runs, the ring of processes, their threads (include/linux/sched.h)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from dbgvmm.guest_os.interface import GuestOsError, Listing, Task
from dbgvmm.guest_os.linux.names import NameTable
from dbgvmm.guest_os.linux.records import BrokenList, Record, Records
from dbgvmm.guest_os.reading import NotReadable
from dbgvmm.hardware.layout import MASK64

_PF_WQ_WORKER: Final = 0x20
_PF_KTHREAD: Final = 0x0020_0000
_LONGEST_NAME: Final = 64
_IDLE: Final = 0x402
"""TASK_IDLE: TASK_UNINTERRUPTIBLE | TASK_NOLOAD."""
_LETTERS: Final = "RSDTtXZP"
"""By bit: running is no bit at all, then TASK_INTERRUPTIBLE, UNINTERRUPTIBLE, STOPPED, TRACED, EXIT_DEAD, ZOMBIE, PARKED."""
_REPORTED: Final = 0x7F
_DEAD: Final = 0x80
_ZOMBIE: Final = 0x20
_RTLOCK_WAIT: Final = 0x1000


def state_letter(state: int, exit_state: int) -> str:
    """As ps(1) shows it (fs/proc/array.c, get_task_state)."""
    if state & _IDLE == _IDLE:
        return "I"
    if state & _RTLOCK_WAIT:
        return "D"
    return _LETTERS[((state | exit_state) & _REPORTED).bit_length()]


class Tasks:
    """Reads tasks of the kernel that `names` and `records` are of."""

    def __init__(self, names: NameTable, records: Records) -> None:
        self._names = names
        self._records = records
        init_task = names.address("init_task")
        if init_task is None:
            raise GuestOsError("Linux' symbols have no init_task: it was built without CONFIG_KALLSYMS_ALL")
        self._init_task = init_task

    def per_cpu(self, symbol: int, cpu: int) -> int:
        """The address of a per-CPU variable on one CPU. Raises NotReadable."""
        table = self._names.address("__per_cpu_offset")
        return symbol + (0 if table is None else self._records.space.u64(table + 8 * cpu)) & MASK64

    def current_address(self, cpu: int) -> int | None:
        """The running task's structure; None while per-CPU memory is not set up. Raises GuestOsError."""
        symbol = self._names.address("current_task")
        if symbol is None:
            symbol = self._names.address("pcpu_hot")  # 6.2 to 6.14
            if symbol is None:
                raise GuestOsError("Linux' symbols have neither current_task nor pcpu_hot: the running task is not known")
            symbol += self._records.types.field("pcpu_hot", "current_task").offset
        try:
            return self._records.space.u64(self.per_cpu(symbol, cpu)) or None
        except NotReadable:
            return None

    def at(self, address: int, current: int | None = None) -> Task:
        """The task whose structure is at an address. Raises NotReadable, GuestOsError."""
        task = self._records("task_struct", address)
        mm = task.at("mm", "mm_struct") if task.has("mm") else None
        parent = task.at("real_parent", "task_struct") if task.has("real_parent") else None
        tables = None if mm is None or not mm.has("pgd") else self._records.space.physical(mm["pgd"])
        return Task(
            task["pid"], task["tgid"], 0 if parent is None else parent["tgid"], self._name(task),
            state_letter(self._state(task), self._exit_state(task)), bool(task["flags"] & _PF_KTHREAD) or not task["pid"],
            tables, address, task["stack"], address == current,
        )  # fmt: skip

    def identity(self, address: int) -> tuple[int, str]:
        """A task's id and name. Raises NotReadable, GuestOsError."""
        task = self._records("task_struct", address)
        return task["pid"], self._name(task)

    def _state(self, task: Record) -> int:
        return task["__state"] if task.has("__state") else task["state"]  # renamed in 5.14

    def _exit_state(self, task: Record) -> int:
        """Without the field: what is dead and still listed is a zombie."""
        if task.has("exit_state"):
            return task["exit_state"]
        return _ZOMBIE if self._state(task) & _DEAD else 0

    def _name(self, task: Record) -> str:
        """As /proc/PID/comm has it: `comm` has 16 bytes, and kernel threads have more to say (proc_task_name)."""
        name, flags = task.text("comm"), task["flags"]
        if not flags & _PF_KTHREAD or not task.has("worker_private"):
            return name
        thread = task.at("worker_private", "kthread")
        if thread is None:
            return name
        if flags & _PF_WQ_WORKER:
            worker = thread.at("data", "worker")
            described = worker.text("desc") if worker is not None else ""
            return f"{name}{'+' if worker is not None and worker['current_work'] else '-'}{described}" if described else name
        full = thread["full_name"] if thread.has("full_name") else 0
        return self._records.space.text(full, _LONGEST_NAME) if full else name

    def list(self, *, threads: bool, current: int | None) -> Listing[Task]:
        """Processes in the kernel's order, the idle task first; or threads, each process's together."""
        found: list[Task] = []
        try:
            for leader in self._leaders():
                for task in self._threads(leader) if threads else (leader,):
                    found.append(self.at(task.address, current))
        except (BrokenList, NotReadable) as error:
            return Listing(tuple(found), f"the list of tasks is damaged: {error}")
        return Listing(tuple(found))

    def _leaders(self) -> Iterator[Record]:
        first = self._records("task_struct", self._init_task)
        yield first
        yield from self._records.ring(first.place("tasks"), "task_struct", "tasks")

    def _threads(self, leader: Record) -> Iterator[Record]:
        signal = leader.at("signal", "signal_struct")
        if signal is None or leader.address == self._init_task:
            yield leader
        else:
            yield from self._records.ring(signal.place("thread_head"), "task_struct", "thread_node")
