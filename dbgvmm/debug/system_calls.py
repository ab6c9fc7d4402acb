"""System calls as the CPU sees them: SYSCALL, and the first arrival behind it with the caller's stack in its address space.

How the kernel returns (SYSRET, IRET, after a signal's handler) does not matter. Calls that never return (exit, a successful
execve) are just not told of again; nor is the second return of a fork, which is in another address space.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from dbgvmm.bt.callouts import Callouts
from dbgvmm.bt.dispatcher import Dispatcher
from dbgvmm.cpu.bits import GPR
from dbgvmm.cpu.state import VCpu
from dbgvmm.debug.address_space import CR3_TABLE
from dbgvmm.debug.breakpoints import Breakpoints

_ARGUMENTS: Final = (GPR.RDI, GPR.RSI, GPR.RDX, GPR.R10, GPR.R8, GPR.R9)
_SIGN: Final = 1 << 63
MOST_OPEN: Final = 4096
"""Calls whose return is still waited for; the oldest are forgotten first."""


@dataclass(frozen=True, slots=True)
class SystemCall:
    """A SYSCALL: its number (RAX) and six arguments (RDI, RSI, RDX, R10, R8, R9) as the System V ABI has them, unsigned.

    return_address: where it returns to. stack: RSP of the caller. cr3: the address space. count: instructions since power-on.
    """

    number: int
    arguments: tuple[int, int, int, int, int, int]
    return_address: int
    stack: int
    cr3: int
    count: int


OnCall = Callable[[SystemCall], None]
OnReturn = Callable[[SystemCall, int], None]


class SystemCalls:
    """Tells listeners of system calls and of their returns. One that nobody listens to costs nothing."""

    def __init__(self, cpu: VCpu, dispatcher: Dispatcher, callouts: Callouts, breakpoints: Breakpoints) -> None:
        self._cpu = cpu
        self._dispatcher = dispatcher
        self._callouts = callouts
        self._breakpoints = breakpoints
        self._on_call: list[OnCall] = []
        self._on_return: list[OnReturn] = []
        self._open: dict[tuple[int, int, int], SystemCall] = {}
        self._places: set[int] = set()

    def listen(self, on_call: OnCall | None = None, on_return: OnReturn | None = None) -> None:
        """Call `on_call` behind each SYSCALL, `on_return` at each return of one that was seen, with RAX as a signed number."""
        if on_call is not None:
            self._on_call.append(on_call)
        if on_return is not None:
            self._on_return.append(on_return)
        self._apply()

    def ignore(self, on_call: OnCall | None = None, on_return: OnReturn | None = None) -> None:
        """Do so no more. Raises ValueError if it is not told."""
        if on_call is not None:
            self._on_call.remove(on_call)
        if on_return is not None:
            self._on_return.remove(on_return)
        self._apply()

    def _apply(self) -> None:
        self._callouts.on_syscall = self._entered if self._on_call or self._on_return else None
        if not self._on_return:
            for place in self._places:
                self._breakpoints.remove_observer(place, self._returned)
            self._places.clear()
            self._open.clear()

    def _entered(self) -> None:
        gpr, cpu = self._cpu.gpr, self._cpu
        one, two, three, four, five, six = (gpr[number] for number in _ARGUMENTS)
        call = SystemCall(
            gpr[GPR.RAX], (one, two, three, four, five, six), gpr[GPR.RCX], gpr[GPR.RSP], cpu.cr3, self._dispatcher.count
        )
        for listener in tuple(self._on_call):
            listener(call)
        if not self._on_return:
            return
        self._open[call.return_address, call.stack, call.cr3 & CR3_TABLE] = call
        if len(self._open) > MOST_OPEN:
            del self._open[next(iter(self._open))]
        if call.return_address not in self._places:
            self._places.add(call.return_address)
            self._breakpoints.add_observer(call.return_address, self._returned)

    def _returned(self) -> None:
        cpu = self._cpu
        call = self._open.get((cpu.rip, cpu.gpr[GPR.RSP], cpu.cr3 & CR3_TABLE))
        if call is None or cpu.cpl != 3:
            return
        del self._open[cpu.rip, call.stack, call.cr3 & CR3_TABLE]
        result = cpu.gpr[GPR.RAX]
        for listener in tuple(self._on_return):
            listener(call, result - (result & _SIGN) * 2)
