"""A map of the translation cache: each TC page a cell, coloured by whose code it holds; the stronger, the fuller it is, or,
where executions were counted, the more was executed in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import Final, Literal

from dbgvmm.bt.cache import FIRST_LOCAL, FIRST_STEP_PAGE, STEP_PAGES, TranslationCache
from dbgvmm.bt.units import TranslationUnit
from dbgvmm.debug.symbols import Symbols
from dbgvmm.hardware.layout import PAGE_SIZE
from dbgvmm.profile.counts import ExecutionCounts
from dbgvmm.profile.flame_svg import clean

PageKind = Literal["kernel", "user", "monitor", "free"]
COLUMNS: Final = 96
CELL: Final = 12
_LEAST_OPACITY: Final = 0.25
_TITLE: Final = 20
_NAMED: Final = 5
"""Functions that a cell names."""


@dataclass(frozen=True)
class TcPageInfo:
    """One TC page.

    guest: the linear address of its code page. functions: whose code it holds, in the order of addresses. used: bytes of
    translations. kind: whose code it is. executed: guest instructions that retired in its units, None if nobody has counted.
    """

    index: int
    kind: PageKind
    guest: int
    functions: tuple[str, ...]
    units: int
    used: int
    executed: int | None = None


@dataclass(frozen=True)
class TcPart:
    """The half of the TC for global code or for the rest. pages: those in use, in order. size: all there are."""

    name: str
    first: int
    size: int
    pages: tuple[TcPageInfo, ...]


def tc_parts(cache: TranslationCache, symbols: Symbols, counts: ExecutionCounts | None = None) -> tuple[TcPart, TcPart]:
    """What the cache holds now. counts: what was executed how often, if it was counted."""
    executed = None if counts is None else _executed(counts)
    infos = []
    for index, page in sorted(cache.tc_pages.items()):
        steps = index < FIRST_STEP_PAGE + STEP_PAGES
        kind: PageKind = "monitor" if steps else "user" if page.owner.user else "kernel"
        units = [unit for unit in page.units if unit.live]
        used = sum(unit.tc_end - unit.tc_start for unit in units)
        guest = 0 if steps else page.owner.va
        heat = None if executed is None or steps else sum(executed.get(_key(unit), 0) for unit in units if not _precise(unit))
        infos.append(TcPageInfo(index, kind, guest, () if steps else _functions(units, symbols), len(units), used, heat))
    return (
        TcPart("global code (in all address spaces)", 0, FIRST_LOCAL, tuple(x for x in infos if x.index < FIRST_LOCAL)),
        TcPart("other code", FIRST_LOCAL, FIRST_LOCAL, tuple(x for x in infos if x.index >= FIRST_LOCAL)),
    )


def _executed(counts: ExecutionCounts) -> dict[tuple[int, int, bool], int]:
    """Instructions that retired in units, by address, size and whether at CPL 3."""
    found: dict[tuple[int, int, bool], int] = {}
    for unit in counts.units:
        key = unit.address, unit.size, unit.user
        found[key] = found.get(key, 0) + unit.instructions
    return found


def _precise(unit: TranslationUnit) -> bool:
    """Whether it was made for one moment. (The same code has a lasting unit, then, which has the count.)"""
    return unit.page.units.get(unit.guest_rip & PAGE_SIZE - 1) is not unit


def _key(unit: TranslationUnit) -> tuple[int, int, bool]:
    return unit.guest_rip, len(unit.guest_bytes), unit.page.user


def _functions(units: Sequence[TranslationUnit], symbols: Symbols) -> tuple[str, ...]:
    names: dict[str, None] = {}
    for unit in sorted(units, key=lambda unit: unit.guest_rip):
        found = symbols.at(unit.guest_rip)
        if found is not None:
            names[found[0].name] = None
    return tuple(names)


def tc_map(parts: Sequence[TcPart]) -> str:
    """The picture, an `svg` element."""
    width = COLUMNS * CELL
    hottest = max((page.executed or 0 for part in parts for page in part.pages), default=0)
    y = 0
    body = []
    for part in parts:
        shown = max((page.index - part.first + 1 for page in part.pages), default=0)
        shown = min(part.size, -(-max(shown, 1) // COLUMNS) * COLUMNS)
        free = part.size - len(part.pages)
        used = sum(page.used for page in part.pages)
        text = f"{part.name}: {len(part.pages):,} pages in use, {free:,} free; {used / 1024:,.0f} KiB of translations"
        body.append(f'<text x="0" y="{y + 14}">{clean(text)}</text>\n')
        y += _TITLE
        body += _cells({page.index - part.first: page for page in part.pages}, shown, y, hottest)
        y += -(-shown // COLUMNS) * CELL + 10
    return f'<svg class="map tc" width="{width}" height="{y}" viewBox="0 0 {width} {y}">\n{"".join(body)}</svg>\n'


def _cells(pages: Mapping[int, TcPageInfo], shown: int, top: int, hottest: int) -> list[str]:
    """Rows of cells. A row's free cells that follow each other are one."""
    found = []
    at = 0
    while at < shown:
        page = pages.get(at)
        x, y = at % COLUMNS * CELL, top + at // COLUMNS * CELL
        length = 1
        if page is None:
            while (at + length) % COLUMNS and at + length < shown and at + length not in pages:
                length += 1
            found.append(f'<rect class="cell free" x="{x}" y="{y}" width="{length * CELL}" height="{CELL}"/>\n')
        else:
            found.append(
                f'<rect class="cell {page.kind}" x="{x}" y="{y}" width="{CELL}" height="{CELL}"'
                f' fill-opacity="{_opacity(page, hottest):.2f}"><title>{clean(_title(page))}</title></rect>\n'
            )
        at += length
    return found


def _opacity(page: TcPageInfo, hottest: int) -> float:
    if page.executed is None or page.kind == "monitor":
        part = min(1.0, page.used / PAGE_SIZE)
    else:
        part = log(1 + page.executed) / log(1 + hottest) if hottest else 0.0
    return _LEAST_OPACITY + (1 - _LEAST_OPACITY) * part


def _title(page: TcPageInfo) -> str:
    if page.kind == "monitor":
        return "the monitor's own: miss exits, and copies of single instructions"
    more = f" and {len(page.functions) - _NAMED} more" if len(page.functions) > _NAMED else ""
    names = f" ({', '.join(page.functions[:_NAMED])}{more})" if page.functions else ""
    executed = "" if page.executed is None else f"; {page.executed:,} instructions executed"
    return f"{page.kind} code at {page.guest:#x}{names}: {page.units} units, {page.used:,} of {PAGE_SIZE:,} bytes{executed}"


__all__ = ["CELL", "COLUMNS", "TcPageInfo", "TcPart", "tc_map", "tc_parts"]
