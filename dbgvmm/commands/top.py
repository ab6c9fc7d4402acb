"""A live view of the machine: `top`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from dbgvmm.commands.errors import CommandError
from dbgvmm.commands.parameters import Count
from dbgvmm.commands.session import Session
from dbgvmm.commands.table import command
from dbgvmm.debug.stops import Stop
from dbgvmm.profile.top import Top, TopRound

_ROUNDS: Final = 5
"""Where nobody can press a key to end it."""
_KEPT: Final = 1000
_LONGEST: Final = 3600.0
_HELP: Final = "q or Ctrl-C ends this and stops the guest"


@dataclass(frozen=True)
class TopReport:
    """The rounds of a `top`, the newest thousand. shown: people have seen them already. stop: why the guest stopped."""

    rounds: tuple[TopRound, ...]
    shown: bool
    instructions: int
    stop: str

    def __str__(self) -> str:
        end = f"{self.stop}, after {self.instructions:,} instructions"
        if self.shown or not self.rounds:
            return end
        return "\n\n".join([*map(str, self.rounds), end])


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0.01 <= seconds <= _LONGEST:
        raise CommandError(f"{text!r} is no time for a round: give seconds, 0.01 to {_LONGEST:g}")
    return seconds


@command("top", resumes=True)
def top(session: Session, *, rounds: Count | None = None, every: str = "1", insns: Count | None = None) -> TopReport:
    """Run the guest and watch it: instructions and exits a second, costs by mechanism and function.

    A round is EVERY seconds (1) of host time, or INSNS instructions, which gives the same rounds each time. On a terminal the
    view is drawn anew each round until q or Ctrl-C; the guest is stopped then, and what it has printed meanwhile is shown.
    Anywhere else ROUNDS (5) rounds are printed, one after the other. It also ends when the guest stops.

    For example:

        top
        top --rounds 3 --every 0.5
        top --rounds 4 --insns 10000000
    """
    machine = session.machine
    seconds = _seconds(every)
    screen = session.screen if insns is None and rounds is None else None
    kept: deque[TopRound] = deque(maxlen=_KEPT)
    wanted = rounds or _ROUNDS

    def keep(shown: TopRound) -> None:
        kept.append(shown)
        if session.show is not None:
            session.show(f"{shown}\n")

    with Top(machine) as view:
        if screen is not None:
            with screen.open() as opened:
                stop: Stop | None = view.run_by_seconds(
                    session.run, seconds, None, _drawing(kept, opened.draw), lambda: opened.key() == "q"
                )
            shown = False
            last = list(kept)[-1:]
            kept.clear()
            kept.extend(last)
        else:
            shown = session.show is not None
            if insns is not None:
                stop = view.run_by_instructions(session.run, insns, wanted, keep)
            else:
                stop = view.run_by_seconds(session.run, seconds, wanted, keep)
    return TopReport(tuple(kept), shown, machine.count, "top has ended" if stop is None else stop.text)


def _drawing(kept: deque[TopRound], draw: Callable[[str], None]) -> Callable[[TopRound], None]:
    def show(shown: TopRound) -> None:
        kept.append(shown)
        draw(f"{_HELP}\n\n{shown}")

    return show
