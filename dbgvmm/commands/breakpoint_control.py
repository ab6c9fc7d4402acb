"""What is done with breakpoints that are there: `delete`, `enable`, `disable`, `ignore`, `condition`."""

from __future__ import annotations

from dbgvmm.commands.errors import CommandError
from dbgvmm.commands.expression import condition as condition_of
from dbgvmm.commands.parameters import Count, ExpressionWord, Value
from dbgvmm.commands.session import Session
from dbgvmm.commands.table import command
from dbgvmm.debug.numbered import NumberedBreakpoint


def _chosen(session: Session, numbers: tuple[Count, ...]) -> list[int]:
    """These numbers, or all. Raises CommandError if there is none of one of them."""
    points = session.points
    points.sweep()
    for one in numbers:
        if points.find(one) is None:
            raise CommandError(f"there is no breakpoint {one}: `info breakpoints` lists them")
    return list(dict.fromkeys(numbers)) if numbers else points.numbers()


def _breakpoint(session: Session, number: int) -> NumberedBreakpoint:
    session.points.sweep()
    point = session.points.find(number)
    if not isinstance(point, NumberedBreakpoint):
        what = "that is a watchpoint or catchpoint" if point is not None else "`info breakpoints` lists them"
        raise CommandError(f"there is no breakpoint {number}: {what}")
    return point


def _several(count: int) -> str:
    return f"{count} breakpoint{'' if count == 1 else 's'}"


@command("delete", aliases=("d", "del"))
def delete(session: Session, *number: Count) -> str:
    """Remove the breakpoints, watchpoints and catchpoints with these NUMBERs, or all that have one.

    For example:

        delete 1 2
        delete
    """
    chosen = _chosen(session, number)
    for one in chosen:
        session.points.remove(one)
    return f"{_several(len(chosen))} removed"


@command("enable")
def enable(session: Session, *number: Count) -> str:
    """Have the breakpoints, watchpoints and catchpoints with these NUMBERs (all) stop the guest again.

    For example:

        enable 1
    """
    chosen = _chosen(session, number)
    for one in chosen:
        session.points.enable(one, True)
    return f"{_several(len(chosen))} enabled"


@command("disable", aliases=("dis",))
def disable(session: Session, *number: Count) -> str:
    """Keep the breakpoints and the like with these NUMBERs (all), but let them not stop the guest.

    For example:

        disable 1 2
        disable
    """
    chosen = _chosen(session, number)
    for one in chosen:
        session.points.enable(one, False)
    return f"{_several(len(chosen))} disabled"


@command("ignore")
def ignore(session: Session, number: Count, count: Value) -> str:
    """Let breakpoint NUMBER not stop the guest the next COUNT times.

    For example:

        ignore 1 100
    """
    point = _breakpoint(session, number)
    point.ignore = int(count)
    return f"the next {count} arrivals at breakpoint {number} go on" if count else f"breakpoint {number} stops the next time"


@command("condition", aliases=("cond",))
def condition(session: Session, number: Count, *expression: ExpressionWord) -> str:
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
    return f"breakpoint {number} stops {f'if {text}' if text else 'always'}"
