"""Graphs as text for Graphviz (the DOT language, https://graphviz.org/doc/info/lang.html), and as SVG drawn by its `dot`."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

from dbgvmm.debug.inside.graph import Branch, CodeGraph, Node

_DRAWN_WITHIN: Final = 120
"""Seconds that `dot` may take."""


class GraphError(Exception):
    """A graph cannot be written or drawn. The message is one line that says what to do."""


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _label(node: Node) -> str:
    hits = "" if node.hits is None else f"   {node.hits:,} times"
    lines = [node.title + hits, *node.lines]
    return _quoted("\n".join(lines)).replace("\n", "\\l")[:-1] + '\\l"'


def _edge_label(edge: Branch) -> str:
    return edge.label if edge.times is None else f"{edge.label}, {edge.times:,} times"


def to_dot(graph: CodeGraph) -> str:
    """The graph in the DOT language: boxes with code, dashed edges where nothing is chained."""
    shapes = {"unit": "box", "untranslated": "ellipse", "outside": "ellipse", "lookups": "diamond"}
    lines = [f"digraph {_quoted(graph.name)} {{", '    node [fontname="monospace", fontsize=10];', '    edge [fontsize=9];']
    lines += [f"    {_quoted(node.key)} [shape={shapes[node.kind]}, label={_label(node)}];" for node in graph.nodes]
    lines += [
        f"    {_quoted(edge.source)} -> {_quoted(edge.target)} "
        f"[style={'solid' if edge.linked else 'dashed'}, label={_quoted(_edge_label(edge))}];"
        for edge in graph.edges
    ]
    return "\n".join([*lines, "}"]) + "\n"


def to_svg(text: str) -> bytes:
    """Have `dot` draw a graph. Raises GraphError."""
    try:
        drawn = subprocess.run(
            ["dot", "-Tsvg"], input=text.encode(), capture_output=True, check=False, timeout=_DRAWN_WITHIN
        )
    except FileNotFoundError:
        raise GraphError(
            "Graphviz' `dot` is not installed, and draws SVG: install the package graphviz, or write the graph with --dot"
        ) from None
    except subprocess.TimeoutExpired:
        raise GraphError(f"`dot` did not draw the graph within {_DRAWN_WITHIN} s: choose less code") from None
    if drawn.returncode:
        reason = drawn.stderr.decode(errors="replace").strip().splitlines() or [f"exit status {drawn.returncode}"]
        raise GraphError(f"`dot` failed: {reason[0]}; --dot writes what it was given")
    return drawn.stdout


def draw(graph: CodeGraph, *, svg: Path | None, dot: Path | None) -> tuple[str, ...]:
    """Write the files that are wanted, and return their names. Raises GraphError."""
    text = to_dot(graph)
    written = []
    if dot is not None:
        written.append(_write(dot, text.encode()))
    if svg is not None:
        written.append(_write(svg, to_svg(text)))
    return tuple(written)


def _write(path: Path, data: bytes) -> str:
    try:
        path.expanduser().write_bytes(data)
    except OSError as error:
        raise GraphError(f"{path}: {error.strerror}: give another file name") from error
    return str(path)
