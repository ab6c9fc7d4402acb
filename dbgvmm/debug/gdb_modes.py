"""`ModeFollower`: a debugger's description of the CPU follows the CPU from 16 to 32 to 64 bits.

gdb can be made to read the target description again in one way only: by telling it that another program runs
(`Executed`). It then forgets registers and breakpoints, reads file and description, sets its breakpoints anew and goes on.
So the machine stops in front of the first instruction of another mode. It has to be there, not at the next stop: a gdb that
thinks of a 32-bit CPU cuts the addresses of breakpoints to 32 bits, and the 64-bit kernel would run past them.

If the instruction that changes the mode was also to stop for another reason, as a single step is, that is told next.

In compatibility mode a debugger that knows the 64-bit registers keeps them: 32-bit programs of a 64-bit kernel come and go at
every system call, and breakpoints in the kernel need 64-bit addresses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dbgvmm.cpu.bits import EFER
from dbgvmm.cpu.state import VCpu
from dbgvmm.debug.gdb_layouts import LONG, OF_MODE
from dbgvmm.debug.stops import Stop, StopKind

if TYPE_CHECKING:
    from dbgvmm.machine import Machine

_NOT_TOLD: Final = frozenset((StopKind.EXIT, StopKind.POWER_OFF, StopKind.RESET, StopKind.QUIT))
"""After these there is nothing left to describe."""


class ModeFollower:
    """What one debugger has been told of the CPU. `layout` is it; `follows`: the debugger can be told of a change."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.layout = LONG
        self.follows = False
        self._held: Stop | None = None
        self._arrived = False
        self.told_late = False
        """The stop that is told now was held: what the debugger has just asked for is not what it is the result of."""
        self._inner = machine.cpu.on_segments_changed

    def begin(self, follows: bool) -> None:
        """The debugger is about to read the description. One that cannot follow gets that of 64-bit code."""
        self.follows = follows
        self.layout = OF_MODE[self._machine.cpu.mode] if follows else LONG
        self._held = None
        self._arrived = False

    @property
    def stale(self) -> bool:
        """The CPU is in a mode that the description does not fit."""
        cpu = self._machine.cpu
        if not self.follows or (self.layout is LONG and cpu.efer & EFER.LMA):
            return False
        return OF_MODE[cpu.mode] is not self.layout

    # -- while the machine runs

    def watch(self) -> None:
        """From now on the machine stops where the description ceases to fit. Until `unwatch`."""
        if self.follows:
            cpu = self._machine.cpu
            self._inner = cpu.on_segments_changed
            cpu.on_segments_changed = self._may_have_changed

    def unwatch(self) -> None:
        """The machine has stopped."""
        if self.follows:
            self._machine.cpu.on_segments_changed = self._inner

    def _may_have_changed(self, cpu: VCpu) -> None:
        self._inner(cpu)
        if self.stale:
            self._machine.request_stop(_text(self._machine), StopKind.MODE)

    # -- at a stop

    def hold(self, stop: Stop) -> bool:
        """Whether the debugger must read the description again before it can be told of `stop`. It is kept until then."""
        if not self.stale or stop.kind in _NOT_TOLD:
            return False
        self.layout = OF_MODE[self._machine.cpu.mode]
        self._held = None if stop.kind is StopKind.MODE else stop
        self._arrived = True
        return True

    def before_running(self) -> Stop | None:
        """The debugger wants the machine to run. A stop that comes before that: what had to wait, a change of mode that a
        write to registers made, a breakpoint at the first instruction of the new mode."""
        held, self._held = self._held, None
        arrived, self._arrived = self._arrived, False
        self.told_late = held is not None
        if held is not None and held.kind is not StopKind.STEP:
            return held
        if self.stale:
            return Stop(StopKind.MODE, _text(self._machine))
        rip = self._machine.cpu.rip
        if arrived and rip in self._machine.breakpoints and self._machine.breakpoints.stops_at(rip):
            return Stop(StopKind.BREAKPOINT, f"breakpoint at {rip:#x}", address=rip)
        return held


def _text(machine: Machine) -> str:
    return f"the CPU is in another mode: {machine.cpu.mode.value}"
