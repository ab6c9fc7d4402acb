"""Which of the guest's console lines stand at the timeline, and where: those after which, or before which, most time passed."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from dbgvmm.profile.console_lines import ConsoleLine

CHARACTER: Final = 6.4
"""Width of a character of a label, in pixels, on average."""
LONGEST: Final = 46
"""Characters of a label."""
_GAP: Final = 14
APART: Final = 14
"""Pixels between two stems: what comes in one burst has one label."""
_FAILURES: Final = 100
"""Lines for which there was no room, before no more are tried."""
_LEVEL: Final = re.compile(r"^(?:<\d+>)?\[ *\d+\.\d+\](?:\[[^\]]*\])? *")
"""What Linux' console puts before a line: the time, which the axis tells."""


@dataclass(frozen=True)
class Milestone:
    """A line at its place. left: where its label begins. row: 0 is next to the axis."""

    line: ConsoleLine
    text: str
    x: float
    left: float
    row: int


def milestones(
    lines: Sequence[ConsoleLine], x: Callable[[int], float], left: float, right: float, rows: int
) -> tuple[Milestone, ...]:
    """As many labels as have room in `rows` rows between `left` and `right` pixels, by importance; in the order of time.

    The first and the last line are the most important, then those that stand alone: the time from the line before, and to
    the line after. Of lines that come in a burst one is labelled.
    """
    shown = [line for line in lines if label(line.text)]
    order = sorted(range(len(shown)), key=lambda at: (-_importance(shown, at), at))
    chosen: list[_Label] = []
    found: tuple[Milestone, ...] = ()
    failures = 0
    for at in order:
        place = x(shown[at].count)
        if any(abs(place - other.x) < APART for other in chosen):
            continue
        more = _laid_out([*chosen, _label_at(shown[at], place, left, right)], rows)
        if more is not None:
            found, chosen = more, [*chosen, _label_at(shown[at], place, left, right)]
        elif (failures := failures + 1) > _FAILURES:
            break
    return found


class _Label(NamedTuple):
    line: ConsoleLine
    text: str
    x: float
    start: float
    end: float


def _label_at(line: ConsoleLine, x: float, left: float, right: float) -> _Label:
    """The label to the right of its stem, or to the left where there is no room."""
    text = label(line.text)
    width = len(text) * CHARACTER
    start = max(x + 4 if x + 4 + width <= right else x - 4 - width, left)
    return _Label(line, text, x, start, start + width)


def _laid_out(labels: Sequence[_Label], rows: int) -> tuple[Milestone, ...] | None:
    """Each at the lowest row in which it meets no other label and no stem; None if there are too few rows.

    From the right to the left: so that labels are above those whose stems they would cover.
    """
    placed: list[tuple[_Label, int]] = []
    for each in sorted(labels, key=lambda each: -each.x):
        crossed = [row for other, row in placed if each.start - 3 < other.x < each.end + 3]
        row = max(crossed, default=-1) + 1
        while any(
            other_row == row and each.start < other.end + _GAP and other.start < each.end + _GAP for other, other_row in placed
        ):
            row += 1
        if row >= rows or any(other_row < row and other.start - 3 < each.x < other.end + 3 for other, other_row in placed):
            return None
        placed.append((each, row))
    return tuple(Milestone(each.line, each.text, each.x, each.start, row) for each, row in reversed(placed))


def label(text: str) -> str:
    """A line as it stands at the timeline: without the kernel's own time, and not too long."""
    plain = _LEVEL.sub("", text).strip()
    if not any(character.isalnum() for character in plain):
        return ""
    return plain if len(plain) <= LONGEST else plain[: LONGEST - 1].rstrip() + "…"


def _importance(lines: Sequence[ConsoleLine], at: int) -> float:
    if at in (0, len(lines) - 1):
        return float("inf")
    return max(lines[at].count - lines[at - 1].count, (lines[at + 1].count - lines[at].count) * 0.999)


__all__ = ["APART", "CHARACTER", "LONGEST", "Milestone", "label", "milestones"]
