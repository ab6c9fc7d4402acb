"""`Experiment`: tracepoints, whether they collect now, and what they have collected (GDB manual, "Tracepoints").

It belongs to the target and not to a debugger's session: tracing can go on without one, and the next finds all of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from gdbstub.agent import EvaluationError
from gdbstub.errors import TargetError
from gdbstub.tracing.actions import Action, check_actions, check_condition
from gdbstub.tracing.buffer import TraceBuffer
from gdbstub.tracing.collector import Collector, FrameTooLarge
from gdbstub.tracing.definition import Key, Source, Tracepoint
from gdbstub.tracing.frames import RegisterLayout, TraceFrame
from gdbstub.tracing.host import TraceHost
from gdbstub.tracing.status import Ended, TraceEnd
from gdbstub.tracing.variables import Variable, Variables

MOST_STEPS: Final = 1 << 20
"""Of one while-stepping."""


@dataclass(slots=True)
class Progress:
    """A tracepoint in a run. complete: nothing of its definition is missing. stepping: the actions that still come are for
    the steps. hits: since the run's beginning. used: bytes of all frames that it has made since."""

    tracepoint: Tracepoint
    enabled: bool
    complete: bool = False
    stepping: bool = False
    sources: list[Source] = field(default_factory=list)
    hits: int = 0
    used: int = 0
    installed: bool = False


@dataclass(slots=True)
class _Steps:
    """A while-stepping that is going on."""

    progress: Progress
    left: int


class Experiment:
    """The tracepoints of a target and their frames. `builtin`: variables whose values the target gives.

    disconnected: whether tracing goes on without a debugger. readonly: (start, end) of memory that never changes, and so
    need not be collected.
    """

    def __init__(self, host: TraceHost, builtin: Iterable[Variable] = ()) -> None:
        self._host = host
        self._progress: dict[Key, Progress] = {}
        self._steps: list[_Steps] = []
        self._at_end: TraceEnd | None = None
        self.layout = RegisterLayout(tuple(host.register_sizes), host.block_registers, host.pc_register)
        self.variables = Variables(builtin)
        self.buffer = TraceBuffer()
        self.collector = Collector(host.source, self.variables)
        self.running = False
        self.end = TraceEnd()
        self.started_us = self.stopped_us = 0
        self.disconnected = False
        self.user = self.notes = self._stop_note = ""
        self.readonly: tuple[tuple[int, int], ...] = ()
        self.refusal = ""
        """Why no tracepoint can be defined now: the debugger numbers registers otherwise than the target here does."""

    # -- definitions

    def clear(self) -> None:
        """Forget all tracepoints, variables and frames."""
        self.stop(TraceEnd())
        self._progress.clear()
        self.variables.clear()
        self.buffer.clear()
        self.readonly = ()
        self.end = TraceEnd()

    @property
    def tracepoints(self) -> Sequence[Progress]:
        """All, in the order of their definition."""
        return tuple(self._progress.values())

    def find(self, key: Key) -> Progress:
        """Raises TargetError if there is no such tracepoint."""
        progress = self._progress.get(key)
        if progress is None:
            raise TargetError(f"there is no tracepoint {key.number} at {key.address:#x}")
        return progress

    def define(self, tracepoint: Tracepoint, enabled: bool) -> None:
        """Add one; it collects from the next start on, or after `complete`. Raises RspError for what cannot be done."""
        if tracepoint.key in self._progress:
            raise TargetError(f"there is a tracepoint {tracepoint.number} at {tracepoint.address:#x} already")
        self._check(tracepoint)
        self._progress[tracepoint.key] = Progress(tracepoint, enabled)

    def begin_steps(self, key: Key) -> None:
        """The actions that are added from now on are those of the steps. Raises TargetError if they are already."""
        progress = self.find(key)
        if progress.stepping:
            raise TargetError("a tracepoint has one group of while-stepping actions")
        progress.stepping = True

    def add_actions(self, key: Key, actions: tuple[Action, ...]) -> None:
        """Append actions to those that it has. Raises RspError for what cannot be done."""
        progress = self.find(key)
        if progress.complete:
            raise TargetError(f"the definition of tracepoint {key.number} at {key.address:#x} has ended already")
        old = progress.tracepoint
        if progress.stepping:
            plan = replace(old.plan, stepping_actions=old.plan.stepping_actions + actions)
        else:
            plan = replace(old.plan, actions=old.plan.actions + actions)
        new = replace(old, plan=plan)
        self._check(new)
        progress.tracepoint = new

    def discard(self, key: Key) -> None:
        """Take one away."""
        progress = self._progress.pop(key, None)
        if progress is not None:
            self._remove(progress)

    def complete(self, key: Key) -> None:
        """All of its definition is there: in a run, it begins to collect."""
        progress = self.find(key)
        progress.complete = True
        if self.running:
            self._install(progress)

    def enable(self, key: Key, enabled: bool) -> None:
        """Have it collect, or not, from now on."""
        progress = self.find(key)
        progress.enabled = enabled
        if not enabled:
            self._remove(progress)
        elif self.running:
            self._install(progress)

    def _check(self, tracepoint: Tracepoint) -> None:
        if self.refusal:
            raise TargetError(self.refusal)
        sizes = self.layout.sizes
        plan = tracepoint.plan
        if plan.condition is not None:
            check_condition(plan.condition, sizes)
        check_actions(plan.actions + plan.stepping_actions, sizes)
        if plan.steps > MOST_STEPS:
            raise TargetError(f"{plan.steps} steps behind each hit: {MOST_STEPS} at most are possible")

    # -- running

    def start(self) -> None:
        """Begin a run with an empty buffer."""
        self.stop(self.end)
        self.buffer.clear()
        self.variables.begin()
        self.running = True
        self._at_end = None
        self.started_us = self._host.microseconds()
        self.stopped_us = 0
        for progress in self._progress.values():
            progress.hits = progress.used = 0
            self._install(progress)

    def stop(self, end: TraceEnd) -> None:
        """End the run, if there is one."""
        if not self.running:
            return
        self.running = False
        self.end = end
        self.stopped_us = self._host.microseconds()
        self._steps.clear()
        for progress in self._progress.values():
            self._remove(progress)

    @property
    def stop_note(self) -> str:
        """Why the user stops the run: gdb tells it behind the stop."""
        return self._stop_note

    @stop_note.setter
    def stop_note(self, text: str) -> None:
        self._stop_note = text
        if self.end.reason is Ended.STOPPED:
            self.end = TraceEnd(Ended.STOPPED, text)

    def debugger_gone(self) -> None:
        """Nobody is connected any more: the run ends, unless it was to go on. Definitions that are not complete go."""
        for progress in self.tracepoints:
            if not progress.complete:
                self.discard(progress.tracepoint.key)
        if not self.disconnected:
            self.stop(TraceEnd(Ended.DISCONNECTED))

    def _install(self, progress: Progress) -> None:
        if progress.enabled and progress.complete and not progress.installed:
            self._host.install(progress.tracepoint)
            progress.installed = True

    def _remove(self, progress: Progress) -> None:
        if progress.installed:
            progress.installed = False
            self._host.remove(progress.tracepoint)
        self._steps = [steps for steps in self._steps if steps.progress is not progress]

    # -- collecting

    def hit(self, key: Key) -> None:
        """The machine has come to a tracepoint: collect, if its condition holds."""
        progress = self._progress.get(key)
        if progress is None or not progress.installed:
            return
        plan = progress.tracepoint.plan
        try:
            if not self.collector.holds(plan.condition):
                return
        except EvaluationError as error:
            self._fail(progress, f"condition: {error}")
            return
        frame = self._collect(progress, plan.actions)
        if frame is not None:
            self.record(key, frame)

    def record(self, key: Key, frame: TraceFrame) -> None:
        """A hit whose condition held, and what was collected at it, by whomever: the same that `Collector.collect` puts into
        a frame, the built-in variables included. Where steps follow, the machine must still be in front of the hit."""
        progress = self._progress.get(key)
        if progress is None or not progress.installed:
            return
        tracepoint = progress.tracepoint
        progress.hits += 1
        if tracepoint.passes and progress.hits >= tracepoint.passes and self._at_end is None:
            self._at_end = TraceEnd(Ended.PASSES, tracepoint=tracepoint.number)
        self._append(progress, frame)
        if not self.running:
            return
        if tracepoint.plan.steps:
            self._steps.append(_Steps(progress, tracepoint.plan.steps))
            self._host.follow()
        self._end_if_due()

    @property
    def stepping(self) -> bool:
        """Whether the machine has to call `stepped` behind its next instruction."""
        return bool(self._steps)

    def stepped(self) -> None:
        """One instruction has been carried out: collect for whatever steps."""
        for steps in list(self._steps):
            if not self.running:
                return
            steps.left -= 1
            frame = self._collect(steps.progress, steps.progress.tracepoint.plan.stepping_actions)
            if frame is not None:
                self._append(steps.progress, frame)
        self._steps = [steps for steps in self._steps if steps.left]
        self._end_if_due()

    def _end_if_due(self) -> None:
        """The last hit that was asked for ends the run, its steps included."""
        if self._at_end is not None and not self._steps:
            self.stop(self._at_end)

    def _collect(self, progress: Progress, actions: tuple[Action, ...]) -> TraceFrame | None:
        """A frame; None if the run is over."""
        try:
            collected = self.collector.collect(progress.tracepoint.number, actions, self.buffer.size)
        except FrameTooLarge:
            self.stop(TraceEnd(Ended.FULL))
            return None
        if collected.error:
            self._append(progress, collected.frame)
            self._fail(progress, collected.error)
            return None
        return collected.frame

    def _append(self, progress: Progress, frame: TraceFrame) -> None:
        if self.buffer.append(frame):
            progress.used += frame.size
        else:
            self.stop(TraceEnd(Ended.FULL))

    def _fail(self, progress: Progress, text: str) -> None:
        self.stop(TraceEnd(Ended.ERROR, text, progress.tracepoint.number))
