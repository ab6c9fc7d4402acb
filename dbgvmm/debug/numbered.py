"""Breakpoints, watchpoints and catchpoints with a number, as people set, list, disable and delete them.

The numbers are the machine's: what one front end has set, all of them see. (gdb's own have gdb's numbers and stay its own.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from dbgvmm.bt.probes import Probe
from dbgvmm.debug.breakpoints import Condition
from dbgvmm.debug.catchpoints import Catch
from dbgvmm.debug.watchpoints import Watch

if TYPE_CHECKING:
    from dbgvmm.machine import Machine

Count = Callable[[], int]


class NumberedBreakpoint:
    """A breakpoint at a linear address (or a physical one). Implements `CompiledCondition`.

    condition: asked first. ignore: so many arrivals at which it holds go on. temporary: it stops once. hits: arrivals at
    which it held, also those that went on. note: where it counts, in words. hit_at: the instruction count of the last stop.
    """

    def __init__(
        self,
        address: int,
        count: Count,
        condition: Condition | None = None,
        note: str = "",
        *,
        physical: bool = False,
        temporary: bool = False,
    ) -> None:
        self.address = address
        self.condition = condition
        self.note = note
        self.physical = physical
        self.temporary = temporary
        self.enabled = True
        self.ignore = 0
        self.hits = 0
        self.hit_at: int | None = None
        self.spent = False
        self._count = count

    @property
    def probe(self) -> Probe | None:
        """The condition's, if it is compiled."""
        probe = getattr(self.condition, "probe", None)
        return probe if isinstance(probe, Probe) else None

    @property
    def problem(self) -> str:
        """Why the condition could not be evaluated the last time, or ""."""
        return str(getattr(self.condition, "problem", ""))

    def __call__(self) -> bool:
        """The guest arrives: whether to stop it."""
        if self.spent or (self.condition is not None and not self.condition()):
            return False
        self.hits += 1
        if self.ignore:
            self.ignore -= 1
            return False
        self.spent = self.temporary
        self.hit_at = self._count()
        return True


Point = NumberedBreakpoint | Watch | Catch


class NumberedPoints:
    """All points of a machine that have a number. A number is used once."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.breakpoints: dict[int, NumberedBreakpoint] = {}
        self.watchpoints: dict[int, Watch] = {}
        self.catchpoints: dict[int, Catch] = {}
        self.disabled: set[int] = set()
        self._next = 1

    def add(self, point: Point) -> int:
        """Set it; its number. Raises ValueError for a watchpoint that is too long."""
        self._set(point)
        number = self._next
        self._next += 1
        match point:
            case NumberedBreakpoint():
                self.breakpoints[number] = point
            case Watch():
                self.watchpoints[number] = point
            case Catch():
                self.catchpoints[number] = point
        return number

    def find(self, number: int) -> Point | None:
        """What has this number."""
        return self.breakpoints.get(number) or self.watchpoints.get(number) or self.catchpoints.get(number)

    def numbers(self) -> list[int]:
        """All numbers, in order."""
        return sorted({*self.breakpoints, *self.watchpoints, *self.catchpoints})

    def remove(self, number: int) -> bool:
        """Take it away for good; False if there is none."""
        point = self.find(number)
        if point is None:
            return False
        if number not in self.disabled:
            self._unset(point)
        self.disabled.discard(number)
        for points in (self.breakpoints, self.watchpoints, self.catchpoints):
            points.pop(number, None)
        return True

    def enable(self, number: int, enabled: bool) -> None:
        """Have it stop the guest, or not. Raises KeyError if there is none."""
        point = self.find(number)
        if point is None:
            raise KeyError(number)
        if enabled is (number not in self.disabled):
            return
        if enabled:
            self._set(point)
            self.disabled.discard(number)
        else:
            self._unset(point)
            self.disabled.add(number)
        if isinstance(point, NumberedBreakpoint):
            point.enabled = enabled

    def set_condition(self, number: int, condition: Condition | None) -> None:
        """Give a breakpoint another condition. Raises KeyError if there is none of that number."""
        point = self.breakpoints[number]
        point.condition = condition
        if point.enabled and not point.physical:
            self._machine.breakpoints.replace(point.address, point, point)

    def sweep(self) -> None:
        """Forget the temporary ones that have stopped the guest."""
        for number in [number for number, point in self.breakpoints.items() if point.spent]:
            self.remove(number)

    def stopped(self) -> int | None:
        """The number of the breakpoint that the guest is in front of and that has just stopped it."""
        count, rip = self._machine.count, self._machine.cpu.rip
        for number, point in self.breakpoints.items():
            here = self._machine.physical_breakpoints.at(rip) if point.physical else rip
            if point.address == here and point.hit_at == count:
                return number
        return None

    def _set(self, point: Point) -> None:
        machine = self._machine
        match point:
            case NumberedBreakpoint(physical=True):
                machine.physical_breakpoints.add(point.address, point)
            case NumberedBreakpoint():
                machine.breakpoints.add(point.address, point)
            case Watch():
                machine.watchpoints.add(point)
            case Catch():
                machine.catchpoints.add(point)

    def _unset(self, point: Point) -> None:
        machine = self._machine
        match point:
            case NumberedBreakpoint(physical=True):
                machine.physical_breakpoints.remove(point.address, point)
            case NumberedBreakpoint():
                machine.breakpoints.remove(point.address, point)
            case Watch():
                machine.watchpoints.remove(point)
            case Catch():
                machine.catchpoints.remove(point)
