"""`Tools`: what people and scripts look at a machine with. Each is made when it is first used, and costs nothing before."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from dbgvmm.debug.hooks import Hooks
from dbgvmm.debug.numbered import NumberedPoints
from dbgvmm.debug.patches import Patches
from dbgvmm.debug.register_file import Registers
from dbgvmm.debug.scriptable import Scriptable
from dbgvmm.debug.system_calls import SystemCalls
from dbgvmm.guest_os import GuestOs, OsFinder

if TYPE_CHECKING:
    from dbgvmm.debug.unwind import Unwinder
    from dbgvmm.profile.counters import Counters
    from dbgvmm.profile.exits import Exits
    from dbgvmm.profile.sampling import Sampler


class Tools(Scriptable):
    """The part of `Machine` that is made of tools: a new one is a property here."""

    @cached_property
    def registers(self) -> Registers:
        """The guest's registers: `registers.rax`, `registers["rax"]`."""
        return Registers(self._machine)

    @cached_property
    def hooks(self) -> Hooks:
        """What scripts wait for: `on_breakpoint` and its kin."""
        return Hooks(self._machine)

    @cached_property
    def system_calls(self) -> SystemCalls:
        """Tells of the guest's system calls and of their returns."""
        machine = self._machine
        return SystemCalls(machine.cpu, machine.dispatcher, machine.callouts, machine.breakpoints)

    @cached_property
    def numbered(self) -> NumberedPoints:
        """Breakpoints, watchpoints and catchpoints with a number, as people have set them."""
        return NumberedPoints(self._machine)

    @cached_property
    def patches(self) -> Patches:
        """Bytes that people have replaced, with what was there."""
        return Patches(self._machine)

    @cached_property
    def unwinder(self) -> Unwinder:
        """Backtraces of the guest's stack."""
        from dbgvmm.debug.unwind import Unwinder

        machine = self._machine
        return Unwinder(machine.cpu, machine.memory, machine.ram.u64, machine.symbols)

    @cached_property
    def os_finder(self) -> OsFinder:
        """What looks for the operating system in guest memory."""
        return OsFinder(self._machine)

    @property
    def os(self) -> GuestOs:
        """The operating system in guest memory, looked for when it is asked for. Raises GuestOsError, one clear line."""
        return self.os_finder.current()

    @cached_property
    def counters(self) -> Counters:
        """Exact execution counts, off until somebody starts them."""
        from dbgvmm.profile.counters import Counters

        return Counters(self._machine)

    @cached_property
    def exits(self) -> Exits:
        """What the monitor did and what it cost: moments, places, recordings."""
        from dbgvmm.profile.exits import Exits

        return Exits(self._machine)

    @cached_property
    def sampler(self) -> Sampler:
        """Samples of the guest's stack by guest time; off until somebody starts it."""
        from dbgvmm.profile.sampling import sampler_of

        return sampler_of(self._machine)
