"""What a backtrace is made of: the registers of a frame while it is looked for, and the frame as people see it.

Registers have the numbers that DWARF gives them (System V ABI for AMD64, figure 3.36).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, overload

from dbgvmm.cpu.bits import GPR


class DwarfRegister:
    """DWARF's numbers of registers. RA: the return address, and RIP in expressions."""

    RAX, RDX, RCX, RBX, RSI, RDI, RBP, RSP = range(8)
    R8, R9, R10, R11, R12, R13, R14, R15 = range(8, 16)
    RA = 16


GPR_OF_DWARF: Final = (
    GPR.RAX, GPR.RDX, GPR.RCX, GPR.RBX, GPR.RSI, GPR.RDI, GPR.RBP, GPR.RSP, *range(GPR.R8, GPR.R15 + 1),
)  # fmt: skip
"""The encoding of each register that DWARF numbers."""
_NAMES: Final = ("rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp", *(f"r{number}" for number in range(8, 16)))
CALLEE_SAVED: Final = frozenset(
    (DwarfRegister.RBX, DwarfRegister.RBP, DwarfRegister.R12, DwarfRegister.R13, DwarfRegister.R14, DwarfRegister.R15)
)
"""What a function leaves as it was for its caller (System V ABI for AMD64, 3.2.1)."""


@dataclass(frozen=True, slots=True)
class Registers:
    """The registers of a frame, as far as they are known; RSP always is.

    pc: the instruction that runs next there. exact: it has not begun (it was interrupted, or the CPU stands in front of
    it); otherwise it is a return address, and the call is in front of it. user: code of CPL 3.
    """

    pc: int
    values: Mapping[int, int]
    exact: bool
    user: bool

    @property
    def sp(self) -> int:
        """RSP."""
        return self.values[DwarfRegister.RSP]

    @property
    def bp(self) -> int | None:
        """RBP."""
        return self.values.get(DwarfRegister.RBP)

    @property
    def by_name(self) -> dict[str, int]:
        """The same with names, in the order of DWARF's numbers; RIP comes last."""
        values = self.values
        return {name: values[number] for number, name in enumerate(_NAMES) if number in values} | {"rip": self.pc}

    @property
    def place(self) -> int:
        """An address in the instruction that is being executed: what to look up in tables and symbols."""
        return self.pc if self.exact else self.pc - 1


@dataclass(frozen=True, slots=True)
class StackFrame:
    """One frame. how: the method that found it, from the frame in front of it ("registers" for the first).

    pc: where it goes on. place: an address in the instruction that it is at, to be looked up: for a return address the byte
    before it, as a call may be a function's last instruction. sp: RSP there, in bytes. user: it runs at CPL 3. registers:
    what is known of RIP and the general registers, by name: a function need not keep all of them for its caller.
    """

    level: int
    pc: int
    place: int
    sp: int
    how: str
    user: bool
    registers: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Backtrace(Sequence[StackFrame]):
    """Frames, the innermost first. end: why there are no more; complete: because it is the outermost one."""

    frames: tuple[StackFrame, ...]
    end: str
    complete: bool

    @overload
    def __getitem__(self, index: int) -> StackFrame: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[StackFrame]: ...

    def __getitem__(self, index: int | slice) -> StackFrame | Sequence[StackFrame]:
        return self.frames[index]

    def __len__(self) -> int:
        return len(self.frames)

    def __iter__(self) -> Iterator[StackFrame]:
        return iter(self.frames)
