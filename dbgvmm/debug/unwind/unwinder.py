"""`Unwinder`: the frames of the guest's stack, each found by the method that knows best about the place."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Final

from dbgvmm.cpu.bits import is_canonical
from dbgvmm.cpu.state import VCpu
from dbgvmm.debug.symbols.known import Symbols
from dbgvmm.debug.symbols.table import Symbol
from dbgvmm.debug.unwind.call_site import CallSiteMethod
from dbgvmm.debug.unwind.cfi import CfiMethod
from dbgvmm.debug.unwind.frame_pointer import FramePointerMethod
from dbgvmm.debug.unwind.frames import GPR_OF_DWARF, Backtrace, Registers, StackFrame
from dbgvmm.debug.unwind.interrupt_frame import InterruptFrameMethod
from dbgvmm.debug.unwind.methods import BY_TABLES, UnwindEnd, UnwindMethod
from dbgvmm.debug.unwind.quick import QuickUnwinder
from dbgvmm.debug.unwind.stack import StackMemory, Unreadable
from dbgvmm.mmu.linear import GuestMemory

_USER_CPL: Final = 3


class Unwinder:
    """Backtraces of a machine's vCPU, as it is now.

    methods: how callers are found, the most trusted first. All reading is a debugger's: the guest cannot see it.
    """

    def __init__(self, cpu: VCpu, memory: GuestMemory, words: memoryview, symbols: Symbols) -> None:
        self._cpu = cpu
        self._symbols = symbols
        self._stack = StackMemory(memory, words)
        self.methods: list[UnwindMethod] = [
            CfiMethod(symbols),
            CallSiteMethod(self._function),
            InterruptFrameMethod(cpu, self._function),
            FramePointerMethod(self._function),
        ]
        self._quick = QuickUnwinder(cpu, memory, words, symbols, self)

    def _function(self, address: int) -> tuple[Symbol, int] | None:
        return self._symbols.at(address)

    def add(self, method: UnwindMethod, before: str = "call site") -> None:
        """Ask `method` in front of the one that is called `before`. Raises ValueError if there is none."""
        names = [known.name for known in self.methods]
        if before not in names:
            raise ValueError(f"there is no method {before!r}: {', '.join(names)}")
        self.methods.insert(names.index(before), method)
        self._quick.forget()

    def frames(self, limit: int = 64) -> Backtrace:
        """The frames from the innermost on, at most `limit`; `Backtrace.end` says why there are no more."""
        self._stack.forget()
        registers = self.innermost()
        found = [_frame(0, registers, "registers")]
        if not self._cpu.in_64bit_code:
            return Backtrace(tuple(found), f"only stacks of 64-bit code are read, not of {self._cpu.mode.value}", False)
        seen = {(registers.pc, registers.sp)}
        while len(found) < limit:
            try:
                caller, how = self.caller(registers)
            except UnwindEnd as end:
                return Backtrace(tuple(found), str(end), end.outermost)
            if (caller.pc, caller.sp) in seen:
                return Backtrace(tuple(found), f"the stack at {caller.sp:#x} leads back into itself", False)
            seen.add((caller.pc, caller.sp))
            found.append(_frame(len(found), caller, how))
            registers = caller
        return Backtrace(tuple(found), f"the first {limit} frames; there may be more", False)

    def quick(self, limit: int = 64) -> tuple[int, ...]:
        """The pc and the return addresses, innermost first: what `frames` finds, at a profiler's pace."""
        return self._quick.addresses(limit)

    def quickly(self, limit: int) -> Callable[[], tuple[int, ...]]:
        """`quick` with that limit, for who asks so often that a call counts."""
        return partial(self._quick.addresses, limit)

    def innermost(self) -> Registers:
        """The registers of the frame that the CPU stands in."""
        cpu = self._cpu
        values = {number: cpu.gpr[index] for number, index in enumerate(GPR_OF_DWARF)}
        return Registers(cpu.rip, values, True, cpu.cpl == _USER_CPL)

    def returns_to(self, methods: Collection[str] | None = None, level: int = 0) -> Registers:
        """The caller's registers when the function that the CPU stands in will have returned: pc and RSP, the frame's CFA.

        methods: only what these find. level: of an outer frame instead. Raises UnwindEnd.
        """
        self._stack.forget()
        if not self._cpu.in_64bit_code:
            raise UnwindEnd(f"only stacks of 64-bit code are read, not of {self._cpu.mode.value}")
        registers = self.innermost()
        for _ in range(level):
            registers, _ = self.caller(registers)
        found, how = self.caller(registers)
        if methods is not None and how not in methods:
            raise UnwindEnd(f"the caller was found by {how} only")
        return found

    def caller(self, registers: Registers, stack: StackMemory | None = None) -> tuple[Registers, str]:
        """The registers of a frame's caller, and the name of the method that found it. Raises UnwindEnd.

        stack: what memory is read through; without it, with what `frames` has kept.
        """
        memory = self._stack if stack is None else stack
        reason: UnwindEnd | None = None
        for method in self.methods:
            try:
                found = method.caller(registers, memory)
                if found is not None:
                    self._check(registers, found, memory)
                    return found, method.name
            except Unreadable as error:
                problem = UnwindEnd(f"the stack ends at an unmapped address {error.address:#x}")
            except UnwindEnd as end:
                problem = end
                if end.outermost:
                    raise
            else:
                continue
            reason = reason or problem
        raise reason or UnwindEnd("no method knows the caller")

    def described(self, frame: Registers, stack: StackMemory) -> bool:
        """Whether tables describe the place, be it that its code is not there any more: a kernel frees what has only
        initialised it, and the stack of its idle task still leads there."""
        return any(method.name in BY_TABLES and method.rule(frame, stack) is not None for method in self.methods)

    def _check(self, frame: Registers, caller: Registers, stack: StackMemory) -> None:
        """Raises UnwindEnd for what cannot be a caller."""
        if not caller.pc:
            raise UnwindEnd("the return address is 0", outermost=True)
        if not is_canonical(caller.pc) or not (stack.executable(caller.pc) or self.described(caller, stack)):
            raise UnwindEnd(f"the return address {caller.pc:#x} is no code")
        if not caller.exact and caller.sp <= frame.sp:
            raise UnwindEnd(f"the stack at {frame.sp:#x} leads back to {caller.sp:#x}")


def _frame(level: int, registers: Registers, how: str) -> StackFrame:
    return StackFrame(level, registers.pc, registers.place, registers.sp, how, registers.user, registers.by_name)
