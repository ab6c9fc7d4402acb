"""Code in the translation cache: `tc show`, `tc search`, `tc graph`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dbgvmm.commands.columns import columns
from dbgvmm.commands.errors import CommandError
from dbgvmm.commands.parameters import Address, Count
from dbgvmm.commands.plural import several, times
from dbgvmm.commands.session import Session
from dbgvmm.commands.sites import find_unit
from dbgvmm.commands.table import command
from dbgvmm.commands.tc import NamedUnit, life_row, named, range_of
from dbgvmm.debug.inside.dot import GraphError, draw
from dbgvmm.debug.inside.graph import CodeGraph, code_graph
from dbgvmm.debug.inside.search import Match, search
from dbgvmm.debug.inside.sites import NoUnit
from dbgvmm.debug.inside.units import Choice
from dbgvmm.debug.inside.view import InstructionView, UnitView, view
from dbgvmm.hardware.layout import PAGE_SHIFT

_FOUND: Final = Count(200)


@dataclass(frozen=True)
class UnitReport:
    """A unit with its code, guest and translated side by side, its chains and its history."""

    view: UnitView
    history: tuple[NamedUnit, ...]

    def __str__(self) -> str:
        x = self.view
        unit = x.unit
        kind = f"{'user' if unit.user else 'kernel'} code, {'global' if x.is_global else 'not global'}"
        rounds = f", unrolled {x.rounds} times" if x.rounds > 1 else ""
        precise = ", precise: the monitor counts it" if x.precise else ""
        state = "live" if unit.live else f"dead: {unit.why}"
        hits = "" if unit.hits is None else f", entered {times(unit.hits)}"
        facts = [
            ("guest", f"{x.place}, {unit.instructions} instructions{rounds}, {unit.guest_size} bytes, {kind}"),
            ("frames", ", ".join(f"{frame << PAGE_SHIFT:#x}" for frame in unit.frames)),
            ("TC", f"{unit.tc_start:#x} to {unit.tc_start + unit.tc_size:#x}, {unit.tc_size / max(unit.guest_size, 1):.1f} "
                   f"times the guest's bytes{precise}"),
            ("state", f"{state}, made at #{unit.born:,}{hits}"),
            *(("exit", text) for text in x.exits),
            *(("chained to", text) for text in x.chained_to),
            *(("entered from", text) for text in x.entered_from),
            *((("entered from", "indirect branches, by the lookup table"),) if unit.indirect else ()),
        ]  # fmt: skip
        rows: list[tuple[str, ...]] = []
        for item in x.instructions:
            left: tuple[str, ...] = (str(item.line), item.mark, item.live or "-", _remarks(item))
            for line in item.translated or (None,):
                rows.append((*left, *(("", "", "") if line is None else (f"{line.address:x}", line.text, line.note))))
                left = ("", "", "", "")
        rows += [("", "", "", "", f"{line.address:x}", line.text, line.note) for line in x.stubs]
        lines = [columns(facts), "", columns(rows, ("guest", "is", "live", "", "TC", "translation", ""))]
        if len(self.history) > 1:
            lines += ["", "units of this address so far", columns(life_row(item) for item in self.history)]
        return "\n".join(lines)


def _remarks(item: InstructionView) -> str:
    words = []
    if item.counts:
        words.append("counts the unit" + (", flags are dead" if item.flags_dead else ", flags saved"))
    if item.spills:
        words.append(f"spills {', '.join(item.spills)}")
    if item.guilty:
        words.append("guilty")
    if item.accused:
        words.append(f"{item.accused} trace faults")
    if item.beside:
        words.append(f"{times(item.beside)} beside a watchpoint")
    return "; ".join(words)


@dataclass(frozen=True)
class MatchTable:
    """Guest instructions in units. cut: there are more."""

    matches: tuple[Match, ...]
    cut: bool

    def __str__(self) -> str:
        if not self.matches:
            return "no translated instruction is like that"
        rows = [(f"{match.place}:", match.code.hex(), match.text, f"in the unit of {match.unit:#x}") for match in self.matches]
        return columns(rows) + ("\n... and more: --most says how many are shown" if self.cut else "")


@dataclass(frozen=True)
class GraphReport:
    """The control-flow graph of a function out of its units. written: the files."""

    graph: CodeGraph
    written: tuple[str, ...]

    def __str__(self) -> str:
        graph = self.graph
        names = {node.key: node.title for node in graph.nodes}
        rows = [
            (names[edge.source], "->" if edge.linked else "- ->", names[edge.target], edge.label) for edge in graph.edges
        ]
        lines = [f"{graph.name}: {several(graph.units, 'unit')}, {several(len(graph.edges), 'edge')}", columns(rows)]
        lines += [f"{name} written" for name in self.written]
        return "\n".join(lines)


@command("tc show", aliases=("info tu", "tu"))
def tc_show(session: Session, address: Address | None = None) -> UnitReport:
    """Show the translation unit at ADDRESS (the next instruction) with all that is known of it.

    ADDRESS is a guest address, or one in the TC.
    Each guest instruction is marked: IDENT (copied), rewritten, in-TC (emulated without an exit), callout (carried out by the
    monitor), edge, indirect, guarded; `live` are the arithmetic flags that are live in front of it (OSZAPC). Then: where the
    unit counts itself, registers put aside, trace faults, chains in and out, what became of earlier units of this address.

    For example:

        tc show kmain
        info tu rip
    """
    machine = session.machine
    unit = find_unit(session, machine.cpu.rip if address is None else address)
    try:
        shown = view(machine, unit)
    except NoUnit as error:
        raise CommandError(str(error.args[0])) from error
    return UnitReport(shown, tuple(named(session, each) for each in shown.history))


@command("tc search")
def tc_search(
    session: Session,
    *words: str,
    bytes: str | None = None,
    symbol: str | None = None,
    user: bool = False,
    kernel: bool = False,
    most: Count = _FOUND,
) -> MatchTable:
    """Find guest instructions in the translation units, by mnemonic and operands or by BYTES.

    The first of WORDS is the mnemonic (`mov`, `*` for any), the others must all occur in the operands as they are disassembled.
    BYTES, in hexadecimal, may be anywhere in a unit's code. SYMBOL, USER and KERNEL choose units; MOST (200) are shown.

    For example:

        tc search mov cr3
        tc search out --kernel
        tc search --bytes 0f22d8
    """
    if user and kernel:
        raise CommandError("--user and --kernel together are all units: leave both away")
    if bool(words) == (bytes is not None):
        raise CommandError("say what to search: a mnemonic (and parts of operands), or --bytes; not both")
    pattern = b""
    if bytes is not None:
        try:
            pattern = type(pattern).fromhex(bytes)
        except ValueError:
            raise CommandError(f"{bytes!r} are no bytes: give pairs of hexadecimal digits, as in --bytes 0f22d8") from None
        if not pattern:
            raise CommandError("give at least one byte, as in --bytes 0f22d8")
    low, high = range_of(session, None, None, symbol)
    choice = Choice(low, high, None, True if user else False if kernel else None)
    found = search(session.machine, choice, words, pattern, most + 1)
    return MatchTable(tuple(found[:most]), len(found) > most)


@command("tc graph")
def tc_graph(
    session: Session, function: Address, end: Address | None = None, *, svg: Path | None = None, dot: Path | None = None
) -> GraphReport:
    """Show the control-flow graph of a FUNCTION out of its translation units.

    Or of the code from FUNCTION up to END.
    Nodes are units, with their code and marks; edges are branches, solid where they are chained. What was never run has no
    unit. SVG and DOT are files to write; an SVG is drawn by Graphviz' `dot` program.

    For example:

        tc graph kmain
        tc graph kmain --svg kmain.svg
    """
    low = int(function)
    high = low if end is None else int(end)
    if end is None:
        found = session.symbols.at(function)
        if found is None or found[0].end <= found[0].address:
            raise CommandError(f"{function:#x} is in no function that is known: give END too, as in `tc graph rip rip+0x80`")
        low, high = found[0].address, found[0].end
    if high <= low:
        raise CommandError(f"from {low:#x} up to {high:#x} there is nothing: give the lower address first")
    try:
        graph = code_graph(session.machine, low, high)
        written = draw(graph, svg=svg, dot=dot)
    except (NoUnit, GraphError) as error:
        raise CommandError(str(error.args[0])) from error
    return GraphReport(graph, written)
