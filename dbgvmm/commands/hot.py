"""What is executed most, by exact counts: `hot functions`, `hot units`, `hot instructions`, `hot pages`, `info calls`."""

from __future__ import annotations

from dataclasses import dataclass
from heapq import nlargest
from typing import Final

import capstone  # type: ignore[import-untyped]  # it has no type information

from dbgvmm.commands.columns import columns
from dbgvmm.commands.counting import counts_of, ring, share
from dbgvmm.commands.errors import CommandError
from dbgvmm.commands.parameters import Address, Count
from dbgvmm.commands.session import Session
from dbgvmm.commands.table import command
from dbgvmm.profile.counts import InstructionKey
from dbgvmm.profile.functions import CallArc, FunctionProfile, function_profile

_FEW: Final = Count(20)
_MODES: Final = {64: capstone.CS_MODE_64, 32: capstone.CS_MODE_32, 16: capstone.CS_MODE_16}
_COUNTED: Final = {"units": "entries", "instructions": "executions", "functions": "arrivals", "pages": ""}


@dataclass(frozen=True)
class HotRow:
    """One of the most executed. count: executions. instructions: retired in it. inclusive: with calls (functions only)."""

    address: int
    name: str
    user: bool
    count: int
    instructions: int
    inclusive: int | None = None
    text: str = ""


@dataclass(frozen=True)
class HotReport:
    """The most executed of what: units, instructions, functions or pages; of `known` in all."""

    what: str
    total: int
    known: int
    rows: tuple[HotRow, ...]

    def __str__(self) -> str:
        counts = _COUNTED[self.what]
        inclusive = self.what == "functions"
        header = ["instructions", "share", *([counts] if counts else []), *(["inclusive"] if inclusive else [])]
        right = range(len(header))
        rows = []
        for row in self.rows:
            cells = [f"{row.instructions:,}", share(row.instructions, self.total)]
            cells += [f"{row.count:,}"] if counts else []
            cells += [share(row.inclusive or 0, self.total)] if inclusive else []
            rows.append((*cells, ring(row.user), f"{row.address:#x}" + (f" <{row.name}>" if row.name else ""), row.text))
        shown = columns(rows, [*header, "ring", "where", ""], right)
        return f"{shown}\n{len(self.rows):,} of {self.known:,} {self.what}, {self.total:,} instructions"


@dataclass(frozen=True)
class CallRow:
    """Calls from one site: how often, and the instructions they led to (apportioned). tail: a jump. indirect: by a pointer."""

    caller: str
    callee: str
    site: int
    times: int
    instructions: int
    tail: bool
    indirect: bool

    @property
    def how(self) -> str:
        """In a word or two."""
        return "jump" if self.tail else "call by pointer" if self.indirect else "call"


@dataclass(frozen=True)
class CallReport:
    """Who calls a function, and whom it calls. otherwise: arrivals that no call and no direct jump explains. loops: of those,
    some may be the function's own branches to its first instruction. elsewhere: its calls through pointers whose targets
    are not known."""

    name: str
    address: int
    user: bool
    arrivals: int
    called: int
    jumped: int
    otherwise: int
    loops: bool
    instructions: int
    inclusive: int
    callers: tuple[CallRow, ...]
    callees: tuple[CallRow, ...]
    elsewhere: int

    def __str__(self) -> str:
        lines = [
            f"{self.name} at {self.address:#x}, {ring(self.user)}: {self.arrivals:,} arrivals",
            f"{self.instructions:,} instructions in it, {self.inclusive:,} with what it called (apportioned)",
        ]
        for title, rows, other in (("called by", self.callers, True), ("calls", self.callees, False)):
            cells = [
                (f"{row.times:,}", row.how, row.caller if other else row.callee, f"at {row.site:#x}")
                for row in rows
            ]
            lines += [f"{title}:", columns(cells, right=(0,))] if cells else [f"{title}: nobody that is known"]
        loops = " (its own loops to its first instruction among them)" if self.loops else ""
        if self.otherwise:
            others = "by exceptions, jumps through pointers, from what was not counted"
            lines.append(f"{self.otherwise:,} arrivals otherwise: {others}{loops}")
        if self.elsewhere:
            lines.append(f"{self.elsewhere:,} calls through pointers went elsewhere: not all targets of a site are told apart")
        return "\n".join(lines)


@command("hot units", aliases=("hotblocks",))
def hot_units(session: Session, count: Count = _FEW) -> HotReport:
    """Show the COUNT translation units in which most instructions were executed.

    QEMU's hotblocks plugin shows the like. A unit is straight-line code; one that is a loop runs several rounds an entry.

    For example:
        hot units
        hotblocks 5
    """
    counts = counts_of(session)
    rows = tuple(
        HotRow(
            unit.address, session.symbols.describe(unit.address), unit.user, unit.entries, unit.instructions,
            text=f"{unit.length} instructions" + (f", {unit.rounds:,} rounds" if unit.rounds != unit.entries else ""),
        )
        for unit in counts.units[:count]
    )  # fmt: skip
    return HotReport("units", counts.total, len(counts.units), rows)


@command("hot instructions")
def hot_instructions(session: Session, count: Count = _FEW) -> HotReport:
    """Show the COUNT instructions that were executed most often.

    For example:
        hot instructions 10
    """
    counts = counts_of(session)
    most = nlargest(count, counts.instructions.items(), key=lambda item: (item[1], -item[0].address, not item[0].user))
    rows = tuple(
        HotRow(item.address, session.symbols.describe(item.address), item.user, times, times, text=_text(item))
        for item, times in most
    )
    return HotReport("instructions", counts.total, len(counts.instructions), rows)


@command("hot functions")
def hot_functions(session: Session, count: Count = _FEW) -> HotReport:
    """Show the COUNT functions in which most instructions were executed; code without symbols is by page.

    Arrivals are executions of the first instruction. What a function called is in `inclusive`, apportioned by calls as
    gprof does it.

    For example:
        hot functions
        hot functions 5
    """
    counts = counts_of(session)
    ranked = function_profile(counts, session.symbols).ranked()
    rows = tuple(
        HotRow(
            item.address, item.name if item.named else "", item.user, item.arrivals, item.instructions, round(item.inclusive)
        )
        for item in ranked[:count]
    )
    return HotReport("functions", counts.total, len(ranked), rows)


@command("hot pages")
def hot_pages(session: Session, count: Count = _FEW) -> HotReport:
    """Show the COUNT pages of code in which most instructions were executed, with their frames.

    For example:
        hot pages
    """
    counts = counts_of(session)
    most = nlargest(count, counts.pages.items(), key=lambda item: (item[1], -item[0][0], not item[0][1], -item[0][2]))
    rows = tuple(
        HotRow(address, session.symbols.describe(address), user, times, times, text=f"physical {frame << 12:#x}")
        for (address, user, frame), times in most
    )
    return HotReport("pages", counts.total, len(counts.pages), rows)


@command("info calls")
def info_calls(session: Session, function: Address, *, user: bool = False) -> CallReport:
    """Show who has called the function at an address and whom it called, how often; --user: at CPL 3.

    Calls are exact, by call site; of calls through pointers, the first few targets of each site are told apart.

    For example:
        info calls print
        info calls 0x106000 --user
    """
    profile = function_profile(counts_of(session), session.symbols)
    found = next(
        (item for item in profile.functions.values()
         if item.user == user and (item.address == function or function in profile.code[item.key])),
        None,
    )  # fmt: skip
    if found is None:
        raise CommandError(f"nothing at {session.name(function)} was executed{' at CPL 3' if user else ''}")
    key = found.key
    elsewhere = sum(times for (caller, _), times in profile.elsewhere.items() if caller == key)
    return CallReport(
        found.name, found.address, found.user, found.arrivals, found.called, found.jumped, found.otherwise, found.loops,
        found.instructions, round(found.inclusive),
        tuple(_row(profile, arc) for arc in profile.arcs if arc.callee == key),
        tuple(_row(profile, arc) for arc in profile.arcs if arc.caller == key), elsewhere,
    )  # fmt: skip


def _text(item: InstructionKey) -> str:
    decoder = capstone.Cs(capstone.CS_ARCH_X86, _MODES[item.bits])
    found = next(decoder.disasm_lite(item.data, item.address, 1), None)
    return "?" if found is None else f"{found[2]} {found[3]}".rstrip()


def _row(profile: FunctionProfile, arc: CallArc) -> CallRow:
    functions = profile.functions
    return CallRow(
        functions[arc.caller].name, functions[arc.callee].name, arc.site, arc.times, round(profile.inclusive_of(arc)), arc.tail,
        arc.indirect,
    )
