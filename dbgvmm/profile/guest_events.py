"""What the guest did, event by event: interrupts, exceptions, system calls, returns, address spaces, halts.

All of these pass through the monitor, but for one: an IRETQ to the same CS and SS is carried out in the TC. While somebody
records, those leave too. The guest cannot tell, and its instruction count is the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, Protocol

from iced_x86 import Instruction, Mnemonic

from dbgvmm.bt.mechanisms import RECORDING
from dbgvmm.cpu.bits import GPR
from dbgvmm.profile.moments import GuestNanoseconds, InstructionCount

if TYPE_CHECKING:
    from dbgvmm.cpu.state import VCpu
    from dbgvmm.machine import Machine

Handler = Callable[[Instruction], Any]


class EventKind(Enum):
    """What happened."""

    INTERRUPT = "interrupt"
    EXCEPTION = "exception"
    SOFTWARE_INTERRUPT = "software interrupt"
    SYSTEM_CALL = "system call"
    RETURN = "return"
    SWITCH = "switch"
    HALT = "halt"


@dataclass(frozen=True, slots=True)
class GuestEvent:
    """One event.

    count, ns: the guest's time. host: `perf_counter`. number: the vector, the system call (EAX), the new CR3. rip, cpl, rsp,
    cr3: of the code that was interrupted, or made the call; with RETURN, of the code that is returned to. task: who ran, if
    the guest's system can be asked ("" if not). until: with HALT, when it ended.
    """

    kind: EventKind
    count: InstructionCount
    ns: GuestNanoseconds
    host: float
    number: int
    rip: int
    cpl: int
    rsp: int
    cr3: int
    task: str = ""
    until: GuestNanoseconds | None = None


class TaskNames(Protocol):
    """What an operating system in the guest can tell of itself."""

    def current(self) -> str:
        """The task that runs, as people name it; "" if there is none."""


_SYSTEM_CALLS: Final = (Mnemonic.SYSCALL, Mnemonic.SYSENTER)
_SOFTWARE: Final = (Mnemonic.INT, Mnemonic.INT3, Mnemonic.INT1, Mnemonic.INTO)
_RETURNS: Final = (
    Mnemonic.IRET, Mnemonic.IRETD, Mnemonic.IRETQ, Mnemonic.SYSRET, Mnemonic.SYSRETQ, Mnemonic.SYSEXIT, Mnemonic.SYSEXITQ
)  # fmt: skip
_USER: Final = 3


class GuestEvents:
    """Hooks a machine, and tells `observer` of each event until `stop`. names: who runs, asked at entries from user code."""

    def __init__(
        self, machine: Machine, observer: Callable[[GuestEvent], None], names: TaskNames | None = None
    ) -> None:
        self._machine = machine
        self._observer = observer
        self._names = names
        self._task = ""
        self._task_known = False
        dispatcher = machine.dispatcher
        self._handlers = dict(machine.callouts.table)
        self._on_cr3 = machine.cpu.on_cr3
        self._on_halt = dispatcher.on_halt
        table = machine.callouts.table
        for mnemonic in _SYSTEM_CALLS:
            table[mnemonic] = self._entering(EventKind.SYSTEM_CALL, table[mnemonic])
        for mnemonic in _SOFTWARE:
            table[mnemonic] = self._entering(EventKind.SOFTWARE_INTERRUPT, table[mnemonic])
        for mnemonic in _RETURNS:
            table[mnemonic] = self._returning(table[mnemonic])
        machine.cpu.on_cr3 = self._switched
        dispatcher.on_halt = self._halted
        dispatcher.on_delivery = self._delivered
        dispatcher.returns.show_all(True)

    def stop(self) -> None:
        """Take the hooks away."""
        machine, dispatcher = self._machine, self._machine.dispatcher
        table = machine.callouts.table
        for mnemonic in (*_SYSTEM_CALLS, *_SOFTWARE, *_RETURNS):
            table[mnemonic] = self._handlers[mnemonic]
        machine.cpu.on_cr3 = self._on_cr3
        dispatcher.on_halt = self._on_halt
        dispatcher.on_delivery = None
        dispatcher.returns.show_all(False)

    # -- the hooks

    def _entering(self, kind: EventKind, handler: Handler) -> Handler:
        cpu = self._machine.cpu

        def enter(instruction: Instruction) -> Any:
            state = cpu.rip, cpu.cpl, cpu.gpr[GPR.RSP], cpu.cr3
            number = cpu.gpr[GPR.RAX] & 0xFFFF_FFFF if kind is EventKind.SYSTEM_CALL else _vector(instruction)
            count = self._count_behind()
            result = handler(instruction)
            self._tell(kind, count, number, *state)
            return result

        return enter

    def _returning(self, handler: Handler) -> Handler:
        cpu = self._machine.cpu

        def leave(instruction: Instruction) -> Any:
            count = self._count_behind()
            result = handler(instruction)
            self._tell(EventKind.RETURN, count, 0, cpu.rip, cpu.cpl, cpu.gpr[GPR.RSP], cpu.cr3)
            return result

        return leave

    def _count_behind(self) -> int:
        """The count when the instruction that is being carried out has retired. The stepper counts it only afterwards."""
        return self._machine.dispatcher.count + (not self._machine.cpu.in_64bit_code)

    def _delivered(self, vector: int, external: bool) -> None:
        cpu = self._machine.cpu
        kind = EventKind.INTERRUPT if external else EventKind.EXCEPTION
        self._tell(kind, self._machine.dispatcher.count, vector, cpu.rip, cpu.cpl, cpu.gpr[GPR.RSP], cpu.cr3)

    def _switched(self, cpu: VCpu, old: int, new: int) -> None:
        self._task_known = False
        count = self._count_behind()
        self._on_cr3(cpu, old, new)
        self._tell(EventKind.SWITCH, count, new, cpu.rip, cpu.cpl, cpu.gpr[GPR.RSP], old)

    def _halted(self) -> None:
        cpu, machine = self._machine.cpu, self._machine
        count = machine.dispatcher.count
        ns = machine.clock.ns_at(count)
        host = perf_counter()
        self._on_halt()
        until = GuestNanoseconds(machine.clock.ns_at(count))
        self._observer(
            GuestEvent(
                EventKind.HALT, InstructionCount(count), GuestNanoseconds(ns), host, 0, cpu.rip, cpu.cpl,
                cpu.gpr[GPR.RSP], cpu.cr3, self._task, until,
            )
        )  # fmt: skip

    def _tell(self, kind: EventKind, count: int, number: int, rip: int, cpl: int, rsp: int, cr3: int) -> None:
        if cpl == _USER and not self._task_known and kind is not EventKind.RETURN:
            timed = self._machine.dispatcher.ledger.timed
            self._task = timed(RECORDING, self._names.current) if self._names is not None else ""
            self._task_known = True
        ns = GuestNanoseconds(self._machine.clock.ns_at(count))
        task = self._task if self._task_known else ""
        self._observer(
            GuestEvent(kind, InstructionCount(count), ns, perf_counter(), number, rip, cpl, rsp, cr3, task)
        )


def _vector(instruction: Instruction) -> int:
    fixed = {Mnemonic.INT3: 3, Mnemonic.INT1: 1, Mnemonic.INTO: 4}
    return fixed.get(instruction.mnemonic, instruction.immediate8)
