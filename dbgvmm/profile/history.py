"""The history of a run while it is sampled: the ledger at regular points of the guest's time, what the guest printed and when,
the modes that its CPU was in.

It costs next to nothing: points are taken at samples, and there are never more than MOST_POINTS. When there are, every
second one is dropped, and from then on only half as many are taken. When they are taken follows from the instruction count
alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from dbgvmm.cpu.bits import CR0, EFER
from dbgvmm.profile.console_lines import ConsoleLine, ConsoleLines
from dbgvmm.profile.moments import InstructionCount, Moment

if TYPE_CHECKING:
    from dbgvmm.cpu.state import VCpu
    from dbgvmm.machine import Machine

MOST_POINTS: Final = 400
MOST_MODES: Final = 200
"""Changes of the CPU's mode that are kept: the first ones."""


@dataclass(frozen=True)
class ModeChange:
    """From `count` instructions on, the CPU was in this mode."""

    count: InstructionCount
    text: str


@dataclass(frozen=True)
class Stretch:
    """Samples without a gap: the one of this number is the first behind `count` instructions."""

    sample: int
    count: InstructionCount


@dataclass(frozen=True)
class RunRecord:
    """What is known of a run over time. points: from the first to the last moment; between two of them is an Interval.

    lines_dropped: lines for which there was no room, between the first and the newest ones.
    """

    points: tuple[Moment, ...]
    lines: tuple[ConsoleLine, ...]
    lines_dropped: int
    modes: tuple[ModeChange, ...]
    stretches: tuple[Stretch, ...]


class RunHistory:
    """Of one machine, while its sampler is on. most: points, at most; an even number."""

    def __init__(self, machine: Machine, most: int = MOST_POINTS) -> None:
        self._machine = machine
        self._most = most
        self._period = 0
        self._distance = 0
        self._next = 0
        self._paging_mode_changed = machine.cpu.on_paging_mode_changed
        self.on = False
        self.points: list[Moment] = []
        self.modes: list[ModeChange] = []
        self.stretches: list[Stretch] = []
        self.console = ConsoleLines(machine)

    # -- what the sampler tells

    def begin(self, period: int, samples: int) -> int:
        """Sampling begins, once in `period` instructions; there are `samples` samples already. Returns as `sampled`."""
        self._period = period
        self._distance = max(self._distance, period)
        self.stretches.append(Stretch(samples, InstructionCount(self._machine.count)))
        self._add()
        self._note_mode()
        if not self.on:
            self.on = True
            cpu = self._machine.cpu
            self._paging_mode_changed = cpu.on_paging_mode_changed
            cpu.on_paging_mode_changed = self._on_paging_mode
            self._machine.serial.observers += (self.console.printed,)
        return self._next

    def sampled(self) -> int:
        """A sample is taken. Returns the instruction count from which on this wants to be told of the next one."""
        self._add()
        self._note_mode()
        return self._next

    def end(self) -> None:
        """Sampling ends. (If it begins again, what was between is one interval.)"""
        if not self.on:
            return
        self.on = False
        machine = self._machine
        machine.cpu.on_paging_mode_changed = self._paging_mode_changed
        machine.serial.observers = tuple(each for each in machine.serial.observers if each != self.console.printed)
        self._add()

    def clear(self) -> int:
        """Forget all; go on if it is on. Returns as `sampled`."""
        self.points.clear()
        self.modes.clear()
        self.stretches.clear()
        self.console.clear()
        self._distance = self._next = 0
        return self.begin(self._period, 0) if self.on else 0

    # -- keeping

    def _add(self) -> None:
        moment = self._machine.exits.snapshot()
        points = self.points
        while points and points[-1].count >= moment.count:  # the same moment; after a jump back in time, later ones
            points.pop()
        points.append(moment)
        if len(points) > self._most:
            del points[1::2]
            self._distance *= 2
        self._next = moment.count + self._distance - self._period // 2  # samples come a little early or late

    def _on_paging_mode(self, cpu: VCpu) -> None:
        self._paging_mode_changed(cpu)
        # By an instruction that is being carried out. 16-bit and 32-bit ones are counted only afterwards.
        self._note_mode(behind=int(self._machine.running and not cpu.in_64bit_code))

    def _note_mode(self, behind: int = 0) -> None:
        text = mode_text(self._machine.cpu)
        if (not self.modes or self.modes[-1].text != text) and len(self.modes) < MOST_MODES:
            self.modes.append(ModeChange(InstructionCount(self._machine.count + behind), text))

    # -- what is known

    def record(self) -> RunRecord:
        """All of it, up to now if it is on."""
        points = list(self.points)
        if self.on and self._machine.count > points[-1].count:
            points.append(self._machine.exits.snapshot())
        lines, dropped = self.console.lines()
        return RunRecord(tuple(points), lines, dropped, tuple(self.modes), tuple(self.stretches))


def mode_text(cpu: VCpu) -> str:
    """What decides how instructions and addresses are understood, in a few words. (Compatibility mode is long mode here: user
    programs go in and out of it.)"""
    if cpu.efer & EFER.LMA:
        return "long mode"
    if not cpu.cr0 & CR0.PE:
        return "real mode"
    return "protected mode, paging" if cpu.cr0 & CR0.PG else "protected mode"


__all__ = ["MOST_MODES", "MOST_POINTS", "ModeChange", "RunHistory", "RunRecord", "Stretch", "mode_text"]
