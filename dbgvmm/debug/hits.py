"""What a hook is called with: one class for each kind of event, with the machine that it happened in.

The guest stands still in front of the instruction at `machine.cpu.rip`. `rip` is the instruction that the event is about: the
one that made an access (the guest stands behind it), or the one in front of which it stands.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dbgvmm.bt.watching import Watch
from dbgvmm.cpu.bits import Vector
from dbgvmm.debug.system_calls import SystemCall

if TYPE_CHECKING:
    from dbgvmm.machine import Machine


@dataclass(frozen=True)
class Hit:
    """One event. `count`: instructions retired since power-on when it happened."""

    machine: Machine = field(repr=False, compare=False)
    count: int
    rip: int

    @property
    def place(self) -> str:
        """`rip` with its symbol: "0x106000 <kmain>"."""
        name = self.machine.symbols.describe(self.rip)
        return f"{self.rip:#x} <{name}>" if name else f"{self.rip:#x}"


@dataclass(frozen=True)
class BreakpointHit(Hit):
    """The guest has arrived at `rip`, and not executed it yet."""

    def __str__(self) -> str:
        return f"arrived at {self.place}"


@dataclass(frozen=True)
class MemoryHit(Hit):
    """The instruction at `rip` has accessed what `watch` watches; `address` is the first byte of it."""

    watch: Watch
    address: int
    write: bool

    @property
    def data(self) -> bytes:
        """What the watched memory holds now. Raises NotMapped."""
        memory = self.machine.memory
        return (memory.physical if self.watch.physical else memory).peek(self.watch.start, self.watch.length)

    @property
    def value(self) -> int:
        """The same as one unsigned little-endian number."""
        return int.from_bytes(self.data, "little")

    def __str__(self) -> str:
        return f"{self.address:#x} was {'written' if self.write else 'read'} by {self.place}"


@dataclass(frozen=True)
class PortHit(Hit):
    """The instruction at `rip` has read or written a port: `size` bytes, `value`."""

    port: int
    size: int
    value: int
    write: bool

    def __str__(self) -> str:
        what = "written" if self.write else "read"
        return f"port {self.port:#x} {what}, {self.size} byte{'s'[: self.size > 1]}, value {self.value:#x}, by {self.place}"


@dataclass(frozen=True)
class MsrHit(Hit):
    """RDMSR or WRMSR at `rip`."""

    number: int
    value: int
    write: bool

    def __str__(self) -> str:
        return f"MSR {self.number:#x} {'written' if self.write else 'read'}, value {self.value:#x}, by {self.place}"


@dataclass(frozen=True)
class ExceptionHit(Hit):
    """The instruction at `rip` raises an exception, which is delivered when the guest goes on. A #DB trap is: then the guest
    stands in its handler.

    error_code: None for vectors without one. address: what CR2 will be, of a page fault.
    """

    vector: int
    error_code: int | None
    address: int | None

    @property
    def name(self) -> str:
        """ "#PF"."""
        return Vector.name_of(self.vector)

    def __str__(self) -> str:
        error = "" if self.error_code is None else f"({self.error_code:x}h)"
        address = "" if self.address is None else f", address {self.address:#x}"
        return f"{self.name}{error} at {self.place}{address}"


@dataclass(frozen=True)
class InterruptHit(Hit):
    """An interrupt of a device was taken: `rip` is the first instruction of its handler."""

    vector: int

    def __str__(self) -> str:
        return f"interrupt {self.vector:02x}h"


@dataclass(frozen=True)
class Cr3Hit(Hit):
    """The instruction at `rip` has loaded CR3."""

    old: int
    new: int

    def __str__(self) -> str:
        return f"CR3 {self.old:#x} -> {self.new:#x} by {self.place}"


@dataclass(frozen=True)
class SyscallHit(Hit):
    """A SYSCALL: the guest stands in front of the kernel's first instruction, `rip`."""

    call: SystemCall

    @property
    def number(self) -> int:
        """The number of the call."""
        return self.call.number

    @property
    def arguments(self) -> tuple[int, int, int, int, int, int]:
        """Its six arguments, unsigned."""
        return self.call.arguments

    def __str__(self) -> str:
        return f"system call {self.number}({', '.join(map(hex, self.arguments))})"


@dataclass(frozen=True)
class SyscallReturnHit(SyscallHit):
    """A system call has returned `result` (signed): the guest stands behind the SYSCALL."""

    result: int

    def __str__(self) -> str:
        return f"{super().__str__()} = {self.result}"
