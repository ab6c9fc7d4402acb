"""Which of the guest's console lines stand at the timeline, and where: those after which, or before which, most time passed."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from dbgvmm.profile.console_lines import ConsoleLine

CHARACTER: Final = 6.4
"""Width of a character of a label, in pixels, on average."""
LONGEST: Final = 44
"""Characters of a label."""
_GAP: Final = 14
APART: Final = 14
"""Pixels between two stems: what comes in one burst has one label."""
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
    taken: list[list[tuple[float, float]]] = [[] for _ in range(rows)]
    stems: list[tuple[float, int]] = []
    found: list[Milestone] = []
    for at in order:
        line = shown[at]
        text = label(line.text)
        place = x(line.count)
        if any(abs(place - stem) < APART for stem, _ in stems):
            continue
        width = len(text) * CHARACTER
        start = max(place + 4 if place + 4 + width <= right else place - 4 - width, left)
        row = _free_row(taken, stems, start, start + width, place)
        if row is not None:
            taken[row].append((start, start + width))
            stems.append((place, row))
            found.append(Milestone(line, text, place, start, row))
    return tuple(sorted(found, key=lambda each: (each.line.count, each.row)))


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


def _free_row(
    taken: Sequence[Sequence[tuple[float, float]]], stems: Sequence[tuple[float, int]], start: float, end: float, x: float
) -> int | None:
    """The lowest row in which a label meets no other one, nor the stem of one above; and whose own stem meets no label."""
    for row, places in enumerate(taken):
        if any(start < other_end + _GAP and other_start < end + _GAP for other_start, other_end in places):
            continue
        if any(start - 3 < stem < end + 3 for stem, above in stems if above > row):
            continue
        below = [place for places in taken[:row] for place in places]
        if any(other_start - 3 < x < other_end + 3 for other_start, other_end in below):
            continue
        return row
    return None


__all__ = ["APART", "CHARACTER", "LONGEST", "Milestone", "label", "milestones"]
