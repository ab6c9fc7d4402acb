"""The control-flow graph of guest code, out of its translation units: what has run, and how it went on from there.

Direct branches are known exactly, chained or not. An indirect branch goes through the lookup table, which all of them share:
so it leads to a node of its own, and from there to the units that lookups have arrived at, whichever branch it was. Where
calls through pointers went is known if execution counters ran (`counters start`): they lead there, and say how often.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from dbgvmm.bt.counting import UNKNOWN
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
    callout. times: how often a call through a pointer went this way, None if that was not counted.
    """

    source: str
    target: str
    linked: bool
    label: str
    times: int | None = None


@dataclass(frozen=True)
class CodeGraph:
    """The graph of the code from `start` up to `end`. units: how many of the nodes are units."""

    name: str
    start: int
    end: int
    units: int
    nodes: tuple[Node, ...]
    edges: tuple[Branch, ...]


IndirectCalls = Mapping[tuple[int, bool], Mapping[int, int]]
"""By call through a pointer (address, whether at CPL 3): how often to which address; UNKNOWN for those beyond the first few."""


def _indirect_calls(machine: Machine) -> IndirectCalls:
    found: dict[tuple[int, bool], dict[int, int]] = {}
    for item, targets in machine.counters.counts().indirect_calls.items():
        where = found.setdefault((item.address, item.user), {})
        for target, times in targets.items():
            where[target] = where.get(target, 0) + times
    return found


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
    called = _indirect_calls(machine)
    for unit in units:
        shown = view(machine, unit)
        nodes[_key(unit)] = _node(unit, shown)

    def node_at(address: int) -> str:
        """The node of code that begins there."""
        unit = next((other for other in units if other.guest_rip == address), None)
        return _key(unit) if unit is not None else _elsewhere(machine, nodes, address, start <= address < end)

    for unit in units:
        shown = view(machine, unit)
        for edge in unit.edges:
            key = _key(edge.target) if edge.target is not None else node_at(edge.guest_rip)
            if key not in nodes:
                _elsewhere(machine, nodes, edge.guest_rip, start <= edge.guest_rip < end, key)
            edges[Branch(_key(unit), key, edge.target is not None, _label(unit, edge, shown))] = None
        last = shown.instructions[-1] if shown.instructions else None
        if last is not None and last.mark in (INDIRECT, CALLOUT):
            targets = called.get((last.line.address, unit.page.user), {})
            for target, times in sorted(targets.items()):
                if target != UNKNOWN:
                    edges[Branch(_key(unit), node_at(target), True, last.line.mnemonic, times)] = None
            if last.mark == INDIRECT and (not targets or UNKNOWN in targets):
                nodes.setdefault(LOOKUPS, Node(LOOKUPS, "the lookup table", "lookups", (), None))
                edges[Branch(_key(unit), LOOKUPS, True, last.line.mnemonic)] = None
            if last.mark == CALLOUT:
                behind_it = next((each for each in units if each.guest_rip == last.line.address + len(last.line.code)), None)
                if behind_it is not None:
                    edges[Branch(_key(unit), _key(behind_it), False, f"behind {last.line.mnemonic}")] = None
    for unit in units:
        if unit.indirect_entry:
            nodes.setdefault(LOOKUPS, Node(LOOKUPS, "the lookup table", "lookups", (), None))
            edges[Branch(LOOKUPS, _key(unit), True, "")] = None
    name = machine.symbols.describe(start) or f"{start:#x}"
    return CodeGraph(name, start, end, len(units), tuple(nodes.values()), tuple(edges))


def _elsewhere(machine: Machine, nodes: dict[str, Node], address: int, inside: bool, key: str = "") -> str:
    """The node of code that is none of the units shown."""
    key = key or f"x{address:x}"
    if key not in nodes:
        title = place(machine.symbols, address) + (", not translated" if inside else "")
        nodes[key] = Node(key, title, "untranslated" if inside else "outside", (), None)
    return key


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
