"""Treemaps: rectangles whose areas are weights, as square as can be.

Source: M. Bruls, K. Huizing, J. J. van Wijk, "Squarified Treemaps", Joint Eurographics and IEEE TCVG Symposium on
Visualization (VisSym 2000).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Box(NamedTuple):
    """A rectangle."""

    x: float
    y: float
    width: float
    height: float

    def inner(self, margin: float, top: float = 0.0) -> Box:
        """What is left inside of a margin, and below a strip at the top."""
        return Box(
            self.x + margin, self.y + margin + top, max(self.width - 2 * margin, 0), max(self.height - 2 * margin - top, 0)
        )


def squarified(weights: Sequence[float], box: Box) -> list[Box]:
    """A rectangle for each weight, in their order; together they fill `box`. Weights must be above 0."""
    order = sorted(range(len(weights)), key=lambda at: (-weights[at], at))
    left = sum(weights)
    found: dict[int, Box] = {}
    at = 0
    while at < len(order):
        side = min(box.width, box.height)
        scale = box.width * box.height / left if left else 0.0
        row = [order[at]]
        at += 1
        while at < len(order) and _worst([weights[each] for each in (*row, order[at])], side, scale) <= _worst(
            [weights[each] for each in row], side, scale
        ):
            row.append(order[at])
            at += 1
        box = _lay(row, weights, box, scale, found)
        left -= sum(weights[each] for each in row)
    return [found[each] for each in range(len(weights))]


def _worst(row: list[float], side: float, scale: float) -> float:
    """The worst aspect ratio in a row along `side`."""
    total = sum(row) * scale
    if not total or not side:
        return 1.0
    return max(max(side * side * each * scale / total**2, total**2 / (side * side * each * scale)) for each in row)


def _lay(row: list[int], weights: Sequence[float], box: Box, scale: float, found: dict[int, Box]) -> Box:
    """Place a row along the shorter side; returns what is left of the box."""
    total = sum(weights[each] for each in row)
    if box.width >= box.height:
        thickness = total * scale / box.height if box.height else 0.0
        y = box.y
        for each in row:
            height = box.height * weights[each] / total
            found[each] = Box(box.x, y, thickness, height)
            y += height
        return Box(box.x + thickness, box.y, max(box.width - thickness, 0), box.height)
    thickness = total * scale / box.width if box.width else 0.0
    x = box.x
    for each in row:
        width = box.width * weights[each] / total
        found[each] = Box(x, box.y, width, thickness)
        x += width
    return Box(box.x, box.y + thickness, box.width, max(box.height - thickness, 0))


__all__ = ["Box", "squarified"]
