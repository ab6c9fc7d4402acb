"""A map of the translation cache: each TC page a cell, coloured by whose code it holds, the fuller the darker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from dbgvmm.bt.cache import FIRST_LOCAL, FIRST_STEP_PAGE, STEP_PAGES, TranslationCache
from dbgvmm.debug.symbols import Symbols
from dbgvmm.hardware.layout import PAGE_SIZE
from dbgvmm.profile.flame_svg import clean

PageKind = Literal["kernel", "user", "monitor", "free"]
COLUMNS: Final = 96
CELL: Final = 12
_LEAST_OPACITY: Final = 0.25
_TITLE: Final = 20


@dataclass(frozen=True)
class TcPageInfo:
    """One TC page. guest: the linear address of its code page. used: bytes of translations. kind: whose code it is."""

    index: int
    kind: PageKind
    guest: int
    symbol: str
    units: int
    used: int


@dataclass(frozen=True)
class TcPart:
    """The half of the TC for global code or for the rest. pages: those in use, in order. size: all there are."""

    name: str
    first: int
    size: int
    pages: tuple[TcPageInfo, ...]


def tc_parts(cache: TranslationCache, symbols: Symbols) -> tuple[TcPart, TcPart]:
    """What the cache holds now."""
    infos = []
    for index, page in sorted(cache.tc_pages.items()):
        steps = index < FIRST_STEP_PAGE + STEP_PAGES
        kind: PageKind = "monitor" if steps else "user" if page.owner.user else "kernel"
        units = [unit for unit in page.units if unit.live]
        used = sum(unit.tc_end - unit.tc_start for unit in units)
        guest = 0 if steps else page.owner.va
        symbol = symbols.describe(units[0].guest_rip) if units and not steps else ""
        infos.append(TcPageInfo(index, kind, guest, symbol, len(units), used))
    return (
        TcPart("global code (in all address spaces)", 0, FIRST_LOCAL, tuple(x for x in infos if x.index < FIRST_LOCAL)),
        TcPart("other code", FIRST_LOCAL, FIRST_LOCAL, tuple(x for x in infos if x.index >= FIRST_LOCAL)),
    )


def tc_map(parts: tuple[TcPart, ...]) -> str:
    """The picture, an `svg` element."""
    width = COLUMNS * CELL
    y = 0
    body = []
    for part in parts:
        shown = max((page.index - part.first + 1 for page in part.pages), default=0)
        shown = min(part.size, -(-max(shown, 1) // COLUMNS) * COLUMNS)
        free = part.size - len(part.pages)
        body.append(
            f'<text x="0" y="{y + 14}">{clean(part.name)}: {len(part.pages):,} pages in use, {free:,} free</text>\n'
        )
        y += _TITLE
        known = {page.index - part.first: page for page in part.pages}
        body += [_cell(known.get(at), at, y) for at in range(shown)]
        y += -(-shown // COLUMNS) * CELL + 10
    return f'<svg class="map tc" width="{width}" height="{y}" viewBox="0 0 {width} {y}">\n{"".join(body)}</svg>\n'


def _cell(page: TcPageInfo | None, at: int, top: int) -> str:
    x, y = at % COLUMNS * CELL, top + at // COLUMNS * CELL
    where = f'x="{x}" y="{y}" width="{CELL}" height="{CELL}"'
    if page is None:
        return f'<rect class="cell free" {where}/>\n'
    opacity = _LEAST_OPACITY + (1 - _LEAST_OPACITY) * min(1.0, page.used / PAGE_SIZE)
    if page.kind == "monitor":
        text = "the monitor's own: miss exits, and copies of single instructions"
    else:
        name = f" ({page.symbol})" if page.symbol else ""
        text = f"{page.kind} code at {page.guest:#x}{name}: {page.units} units, {page.used:,} of {PAGE_SIZE:,} bytes"
    return f'<rect class="cell {page.kind}" {where} fill-opacity="{opacity:.2f}"><title>{clean(text)}</title></rect>\n'


__all__ = ["CELL", "COLUMNS", "TcPageInfo", "TcPart", "tc_map", "tc_parts"]
