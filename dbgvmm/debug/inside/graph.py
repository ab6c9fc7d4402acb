"""The control-flow graph of guest code, out of its translation units: what has run, and how it went on from there.

Direct branches are known exactly, chained or not. An indirect branch goes through the lookup table, which all of them share:
so it leads to a node of its own, and from there to the units that lookups have arrived at, whichever branch it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from dbgvmm.bt.units import Edge, TranslationUnit
from dbgvmm.debug.inside.sites import NoUnit, place
from dbgvmm.debug.inside.units import Choice, live_units
from dbgvmm.debug.inside.view import CALLOUT, EDGE, INDIRECT, UnitView, view
from dbgvmm.hardware.layout import MASK64

if TYPE_CHECKING:
    from dbgvmm.machine import Machine

LOOKUPS: Final = "lookups"
"""The node that stands for the lookup table."""


@dataclass(frozen=True)
class Node:
    """A unit of the function ("unit"), code of it that has no unit ("untranslated"), code outside of it ("outside"), or the
    lookup table ("lookups").

    lines: its guest code, with marks. hits: how often it was entered, None if nobody counts.
    """

    key: str
    title: str
    kind: str
    lines: tuple[str, ...]
    hits: int | None


@dataclass(frozen=True)
class Branch:
    """A way from node to node. linked: it is chained (or, from the lookup table, its slot is filled). label: "side exit after
    3" (instructions), "taken", "falls through", "jump", "call", "goes on"; the mnemonic of an indirect branch; "behind ..." a
    callout.
    """

    source: str
    target: str
    linked: bool
    label: str


@dataclass(frozen=True)
class CodeGraph:
    """The graph of the code from `start` up to `end`. units: how many of the nodes are units."""

    name: str
    start: int
    end: int
    units: int
    nodes: tuple[Node, ...]
    edges: tuple[Branch, ...]


def _key(unit: TranslationUnit) -> str:
    return f"{'u' if unit.page.user else 'k'}{unit.guest_rip:x}_{unit.page.pages[0][1]:x}"


def code_graph(machine: Machine, start: int, end: int) -> CodeGraph:
    """The graph of the units that begin from `start` up to `end`. Raises NoUnit if there are none."""
    units = sorted(
        (unit for unit in live_units(machine, Choice(start, end)) if start <= unit.guest_rip < end),
        key=lambda unit: (unit.guest_rip, unit.page.user, unit.page.pages),
    )
    if not units:
        raise NoUnit(f"nothing from {place(machine.symbols, start)} up to {end:#x} is translated: it has not run (lately)")
    nodes: dict[str, Node] = {}
    edges: dict[Branch, None] = {}
    for unit in units:
        shown = view(machine, unit)
        nodes[_key(unit)] = _node(unit, shown)
    for unit in units:
        shown = view(machine, unit)
        for edge in unit.edges:
            target = edge.target
            if target is None:
                target = next((other for other in units if other.guest_rip == edge.guest_rip), None)
            key = _key(target) if target is not None else f"x{edge.guest_rip:x}"
            if key not in nodes:
                inside = start <= edge.guest_rip < end
                title = place(machine.symbols, edge.guest_rip) + (", not translated" if inside else "")
                nodes[key] = Node(key, title, "untranslated" if inside else "outside", (), None)
            edges[Branch(_key(unit), key, edge.target is not None, _label(unit, edge, shown))] = None
        last = shown.instructions[-1] if shown.instructions else None
        if last is not None and last.mark in (INDIRECT, CALLOUT):
            if last.mark == INDIRECT:
                nodes.setdefault(LOOKUPS, Node(LOOKUPS, "the lookup table", "lookups", (), None))
                edges[Branch(_key(unit), LOOKUPS, True, last.line.mnemonic)] = None
            else:
                behind_it = next((each for each in units if each.guest_rip == last.line.address + len(last.line.code)), None)
                if behind_it is not None:
                    edges[Branch(_key(unit), _key(behind_it), False, f"behind {last.line.mnemonic}")] = None
    for unit in units:
        if unit.indirect_entry:
            nodes.setdefault(LOOKUPS, Node(LOOKUPS, "the lookup table", "lookups", (), None))
            edges[Branch(LOOKUPS, _key(unit), True, "")] = None
    name = machine.symbols.describe(start) or f"{start:#x}"
    return CodeGraph(name, start, end, len(units), tuple(nodes.values()), tuple(edges))


def _label(unit: TranslationUnit, edge: Edge, shown: UnitView) -> str:
    if edge.retired != unit.length:
        return f"side exit after {edge.retired}"
    last = shown.instructions[-1].line
    if last.mnemonic in ("call", "jmp"):
        return "jump" if last.mnemonic == "jmp" else "call"
    if shown.instructions[-1].mark != EDGE:
        return "goes on"
    return "falls through" if edge.guest_rip == last.address + len(last.code) & MASK64 else "taken"


def _node(unit: TranslationUnit, shown: UnitView) -> Node:
    lines = tuple(
        f"{item.line.address:#x}  {item.line.text}" + ("" if item.mark == "IDENT" else f"  [{item.mark}]")
        for item in shown.instructions
    )
    return Node(_key(unit), shown.place, "unit", lines, shown.unit.hits)
