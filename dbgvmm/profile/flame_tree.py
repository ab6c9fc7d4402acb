"""Stacks as a tree of frames with widths: what a flame graph draws.

Source: B. Gregg, "The Flame Graph", Communications of the ACM 59(6), 2016. Children are ordered by weight, heaviest
first, then by name: the order says nothing about time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from dbgvmm.profile.profile import Frame


@dataclass
class FlameNode:
    """A frame under one caller: its weight with all that it has called, its own, and the weight in an earlier profile."""

    frame: Frame
    weight: int = 0
    own: int = 0
    before: int = 0
    children: dict[Frame, FlameNode] = field(default_factory=dict)

    def child(self, frame: Frame) -> FlameNode:
        """The node of a frame that this one has called."""
        found = self.children.get(frame)
        if found is None:
            found = self.children[frame] = FlameNode(frame)
        return found


class Placed(NamedTuple):
    """A node and where it is: depth 0 is the root; start, in units of weight, from the left."""

    node: FlameNode
    depth: int
    start: int


def flame_tree(
    stacks: Iterable[tuple[tuple[Frame, ...], int]], before: Iterable[tuple[tuple[Frame, ...], int]] = (), root: str = "all"
) -> FlameNode:
    """The tree of these stacks (outermost frame first) with their weights. before: those of an earlier profile."""
    top = FlameNode(Frame(root, "task"))
    for frames, weight in stacks:
        node = top
        node.weight += weight
        for frame in frames:
            node = node.child(frame)
            node.weight += weight
        node.own += weight
    for frames, weight in before:
        node = top
        node.before += weight
        for frame in frames:
            node = node.child(frame)
            node.before += weight
    return top


def placed(top: FlameNode) -> Iterator[Placed]:
    """All nodes that have a weight, callers before callees."""
    waiting = [Placed(top, 0, 0)]
    while waiting:
        place = waiting.pop()
        yield place
        start = place.start
        below = []
        for node in sorted(place.node.children.values(), key=lambda node: (-node.weight, node.frame)):
            if node.weight:
                below.append(Placed(node, place.depth + 1, start))
                start += node.weight
        waiting += reversed(below)


__all__ = ["FlameNode", "Placed", "flame_tree", "placed"]
