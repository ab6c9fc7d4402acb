"""The axis that all pictures over time share: the guest's time, in instructions, with the guest's clock beside it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from dbgvmm.profile.moments import Interval, Moment

WIDTH: Final = 1200
LEFT: Final = 150
"""Pixels for names at the left of a picture."""
RIGHT: Final = 80
"""Pixels for numbers at its right."""
_MOST_TICKS: Final = 10


@dataclass(frozen=True)
class TimeAxis:
    """Between the first and the last of at least two points."""

    points: tuple[Moment, ...]

    @property
    def start(self) -> int:
        """The first instruction count."""
        return self.points[0].count

    @property
    def end(self) -> int:
        """The last one."""
        return self.points[-1].count

    def x(self, count: int) -> float:
        """Where an instruction count is, in pixels."""
        part = (count - self.start) / max(self.end - self.start, 1)
        return LEFT + (WIDTH - LEFT - RIGHT) * min(max(part, 0.0), 1.0)

    @property
    def edges(self) -> list[float]:
        """Where the intervals begin and end: one more than there are intervals."""
        return [self.x(point.count) for point in self.points]

    def intervals(self) -> list[Interval]:
        """What happened between neighbouring points."""
        return [later - earlier for earlier, later in pairwise(self.points)]

    def ns(self, count: int) -> float:
        """The guest's clock at an instruction count: exact at points, in proportion between them."""
        at = min(max(bisect_right(self.points, count, key=lambda point: point.count), 1), len(self.points) - 1)
        before, after = self.points[at - 1], self.points[at]
        part = (count - before.count) / max(after.count - before.count, 1)
        return before.ns + (after.ns - before.ns) * part

    def ticks(self) -> list[int]:
        """Round instruction counts, at most ten."""
        span = max(self.end - self.start, 1)
        step = next(
            factor * 10**power
            for power in range(len(str(span)) + 1)
            for factor in (1, 2, 5)
            if span <= factor * 10**power * _MOST_TICKS
        )
        return list(range(-(-self.start // step) * step, self.end + 1, step))


def drawn_axis(axis: TimeAxis, y: float, top: float) -> str:
    """The axis as SVG: ticks at `y` with both times, and lines up to `top`."""
    parts = [f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:g}" y2="{y:g}"/>\n']
    for tick in axis.ticks():
        x = axis.x(tick)
        parts.append(
            f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top:g}" y2="{y + 4:g}"/>'
            f'<text x="{x:.1f}" y="{y + 16:g}" text-anchor="middle">{short(tick)}</text>'
            f'<text class="quiet" x="{x:.1f}" y="{y + 30:g}" text-anchor="middle">{seconds(axis.ns(tick))}</text>\n'
        )
    parts.append(
        f'<text x="{LEFT - 24}" y="{y + 16:g}" text-anchor="end">instructions</text>'
        f'<text class="quiet" x="{LEFT - 24}" y="{y + 30:g}" text-anchor="end">guest clock</text>\n'
    )
    return "".join(parts)


def steps(edges: Sequence[float], tops: Sequence[float], bottom: float) -> str:
    """The path of an area with a flat top in each interval. Intervals that are alike are one."""
    path = [f"M{number(edges[0])} {number(bottom)}"]
    last = None
    for edge, top in zip(edges, tops, strict=False):
        if (text := number(top)) != last:
            path.append(f"H{number(edge)}V{text}")
            last = text
    return "".join([*path, f"H{number(edges[-1])}V{number(bottom)}Z"])


def number(value: float) -> str:
    """A coordinate, to a tenth of a pixel."""
    return f"{value:.1f}".removesuffix(".0")


def short(value: float) -> str:
    """A number in at most five characters or so: 1.5M, 20k, 0.3."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= size * 0.9995:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def seconds(ns: float) -> str:
    """Nanoseconds as people read them."""
    for unit, size in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if ns >= size * 0.9995:
            return f"{ns / size:.3g} {unit}"
    return f"{ns:.0f} ns"


__all__ = ["LEFT", "RIGHT", "WIDTH", "TimeAxis", "drawn_axis", "number", "seconds", "short", "steps"]
