"""What is shown at each stop: `display`, `undisplay`, `info display`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dbgvmm.commands.columns import columns
from dbgvmm.commands.disassembly import Listing
from dbgvmm.commands.errors import CommandError
from dbgvmm.commands.expression import evaluate, evaluate_typed
from dbgvmm.commands.memory import MemoryStrings, MemoryUnits, examine
from dbgvmm.commands.parameters import Count, ExpressionText, Format
from dbgvmm.commands.plural import several
from dbgvmm.commands.session import Display, Session
from dbgvmm.commands.table import command
from dbgvmm.commands.values import TypedValue, typed_value

_OF_MEMORY: Final = frozenset("isbhwg0123456789")
"""Letters and digits of a format that say that memory is meant, as gdb has it."""


@dataclass(frozen=True)
class Displayed:
    """One of them: `shown` is what the expression says now, or `problem` why it says nothing."""

    number: int
    text: str
    fmt: str
    shown: TypedValue | MemoryUnits | MemoryStrings | Listing | None
    problem: str = ""

    def __str__(self) -> str:
        head = f"{self.number}: {f'/{self.fmt} ' if self.fmt else ''}{self.text}"
        match self.shown:
            case None:
                return f"{head}: {self.problem}"
            case TypedValue() as value:
                return f"{head}{str(value).removeprefix(value.name)}"
            case memory:
                return f"{head}\n{memory}"


@dataclass(frozen=True)
class DisplayList:
    """The expressions that are shown."""

    lines: tuple[tuple[int, str, str], ...]

    def __str__(self) -> str:
        if not self.lines:
            return "nothing is displayed: `display EXPRESSION`"
        return columns(((str(number), f"/{fmt}" if fmt else "", text) for number, fmt, text in self.lines))


@dataclass(frozen=True)
class AllDisplayed:
    """What is shown at each stop, now."""

    lines: tuple[Displayed, ...]

    def __str__(self) -> str:
        return "\n".join(map(str, self.lines)) or "nothing is displayed: `display EXPRESSION`"


@dataclass(frozen=True)
class DisplaysRemoved:
    """The numbers of what is not shown any more."""

    numbers: tuple[int, ...]

    def __str__(self) -> str:
        return f"{several(len(self.numbers), 'display')} removed"


def displayed(session: Session) -> tuple[Displayed, ...]:
    """What `display` has asked for, as it is now. Reading it changes nothing, not even what `x` goes on with."""
    return tuple(_one(session, number, display) for number, display in session.displays.items())


def _one(session: Session, number: int, display: Display) -> Displayed:
    kept = session.examined_format, session.examined_to, dict(session.values.variables)
    try:
        return Displayed(number, display.text, display.fmt, _value(session, display))
    except CommandError as error:
        return Displayed(number, display.text, display.fmt, None, str(error))
    finally:
        session.examined_format, session.examined_to = kept[0], kept[1]
        session.values.variables = kept[2]


def _value(session: Session, display: Display) -> TypedValue | MemoryUnits | MemoryStrings | Listing:
    if _OF_MEMORY & {*display.fmt}:
        return examine(session, display.fmt, evaluate(session, display.text))
    value, type = evaluate_typed(session, display.text)
    return typed_value(session, display.text, value, type, display.fmt)


@command("display")
def display(session: Session, fmt: Format, expression: ExpressionText | None = None) -> AllDisplayed:
    """Show EXPRESSION now and at each stop; without one, all that are shown so.

    FMT is that of print, or of x with a size, a count, `i` or `s`: then memory there is shown.

    For example:

        display/i $pc
        display/4xg $rsp
        display $rax & 0xff
    """
    if expression is None:
        return AllDisplayed(displayed(session))
    wanted = Display(expression, fmt)
    shown = _value(session, wanted)  # what cannot be shown now is refused
    number = session.next_display
    session.next_display += 1
    session.displays[number] = wanted
    return AllDisplayed((Displayed(number, expression, fmt, shown),))


@command("undisplay", aliases=("delete display",))
def undisplay(session: Session, *number: Count) -> DisplaysRemoved:
    """Show those with these NUMBERs (all) no more.

    For example:

        undisplay 1
        undisplay
    """
    for one in number:
        if one not in session.displays:
            raise CommandError(f"there is no display {one}: `info display` lists them")
    chosen: list[int] = [*dict.fromkeys(number)] or list(session.displays)
    for chosen_one in chosen:
        del session.displays[chosen_one]
    return DisplaysRemoved(tuple(chosen))


@command("info display")
def info_display(session: Session) -> DisplayList:
    """List what is shown at each stop.

    For example:

        info display
    """
    return DisplayList(tuple((number, item.fmt, item.text) for number, item in session.displays.items()))
