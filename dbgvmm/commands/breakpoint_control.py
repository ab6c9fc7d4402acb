"""What is done with breakpoints that are there: `delete`, `enable`, `disable`, `ignore`, `condition`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dbgvmm.commands.errors import CommandError
from dbgvmm.commands.expression import condition as condition_of
from dbgvmm.commands.parameters import Count, ExpressionWord, Value
from dbgvmm.commands.plural import several
from dbgvmm.commands.session import Session
from dbgvmm.commands.table import command
from dbgvmm.debug.numbered import NumberedBreakpoint


@dataclass(frozen=True)
class PointsChanged:
    """What was done with breakpoints, watchpoints and catchpoints, and their numbers."""

    done: Literal["removed", "enabled", "disabled"]
    numbers: tuple[int, ...]

    def __str__(self) -> str:
        return f"{several(len(self.numbers), 'breakpoint')} {self.done}"


@dataclass(frozen=True)
class IgnoreCount:
    """How many arrivals at a breakpoint go on."""

    number: int
    count: int

    def __str__(self) -> str:
        if not self.count:
            return f"breakpoint {self.number} stops the next time"
        return f"the next {self.count} arrivals at breakpoint {self.number} go on"


@dataclass(frozen=True)
class ConditionChanged:
    """A breakpoint's condition, as it was typed; "" for none. compiled: it runs in the translation."""

    number: int
    condition: str
    compiled: bool

    def __str__(self) -> str:
        return f"breakpoint {self.number} stops {f'if {self.condition}' if self.condition else 'always'}"


def _chosen(session: Session, numbers: tuple[Count, ...]) -> list[int]:
    """These numbers, or all. Raises CommandError if there is none of one of them."""
    points = session.points
    points.sweep()
    for one in numbers:
        if points.find(one) is None:
            raise CommandError(f"there is no breakpoint {one}: `info breakpoints` lists them")
    return [int(one) for one in dict.fromkeys(numbers)] if numbers else points.numbers()


def _breakpoint(session: Session, number: int) -> NumberedBreakpoint:
    session.points.sweep()
    point = session.points.find(number)
    if not isinstance(point, NumberedBreakpoint):
        what = "that is a watchpoint or catchpoint" if point is not None else "`info breakpoints` lists them"
        raise CommandError(f"there is no breakpoint {number}: {what}")
    return point


@command("delete", aliases=("d", "del"))
def delete(session: Session, *number: Count) -> PointsChanged:
    """Remove the breakpoints, watchpoints and catchpoints with these NUMBERs, or all that have one.

    For example:

        delete 1 2
        delete
    """
    chosen = _chosen(session, number)
    for one in chosen:
        session.points.remove(one)
    return PointsChanged("removed", tuple(chosen))


@command("enable")
def enable(session: Session, *number: Count) -> PointsChanged:
    """Have the breakpoints, watchpoints and catchpoints with these NUMBERs (all) stop the guest again.

    For example:

        enable 1
    """
    chosen = _chosen(session, number)
    for one in chosen:
        session.points.enable(one, True)
    return PointsChanged("enabled", tuple(chosen))


@command("disable", aliases=("dis",))
def disable(session: Session, *number: Count) -> PointsChanged:
    """Keep the breakpoints and the like with these NUMBERs (all), but let them not stop the guest.

    For example:

        disable 1 2
        disable
    """
    chosen = _chosen(session, number)
    for one in chosen:
        session.points.enable(one, False)
    return PointsChanged("disabled", tuple(chosen))


@command("ignore")
def ignore(session: Session, number: Count, count: Value) -> IgnoreCount:
    """Let breakpoint NUMBER not stop the guest the next COUNT times.

    For example:

        ignore 1 100
    """
    point = _breakpoint(session, number)
    point.ignore = int(count)
    return IgnoreCount(number, count)


@command("condition", aliases=("cond",))
def condition(session: Session, number: Count, *expression: ExpressionWord) -> ConditionChanged:
    """Let breakpoint NUMBER stop the guest only where EXPRESSION is not 0; without one, always.

    For example:

        condition 1 $rdi == 0x10
        condition 1
    """
    point = _breakpoint(session, number)
    if point.physical and expression:
        raise CommandError(f"breakpoint {number} is physical: give its condition with it, break --phys ADDRESS if ...")
    text = " ".join(expression)
    session.points.set_condition(number, condition_of(session, text) if text else None)
    return ConditionChanged(number, text, point.probe is not None)
