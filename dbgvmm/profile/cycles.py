"""Cycles of a call graph: its strongly connected components (R. Tarjan, SIAM J. Comput. 1(2), 1972)."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import TypeVar

Node = TypeVar("Node", bound=Hashable)


def cycles_of(edges: Mapping[Node, Iterable[Node]]) -> Iterator[list[Node]]:
    """The components of a graph, each behind all that it leads to. edges: by node, all of which are keys."""
    index: dict[Node, int] = {}
    low: dict[Node, int] = {}
    stack: list[Node] = []
    waiting: set[Node] = set()
    for root in edges:
        if root in index:
            continue
        index[root] = low[root] = len(index)
        stack.append(root)
        waiting.add(root)
        path: list[tuple[Node, Iterator[Node]]] = [(root, iter(edges[root]))]
        while path:
            node, left = path[-1]
            for following in left:
                if following not in index:
                    index[following] = low[following] = len(index)
                    stack.append(following)
                    waiting.add(following)
                    path.append((following, iter(edges[following])))
                    break
                if following in waiting:
                    low[node] = min(low[node], index[following])
            else:
                path.pop()
                if path:
                    parent = path[-1][0]
                    low[parent] = min(low[parent], low[node])
                if low[node] == index[node]:
                    component: list[Node] = []
                    while not component or component[-1] != node:
                        component.append(stack.pop())
                        waiting.discard(component[-1])
                    yield component
