"""The shadow tables of an address space as a treemap: areas of the address space, in them ranges with the same rights.

Sizes are logarithms: a page is to be seen beside a gigabyte. Colours tell for whom a range is mapped, hatching what may be
done there, and a red edge that writes to some of its frames are traced.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import log2
from typing import Final

from dbgvmm.debug.symbols import Symbols
from dbgvmm.hardware.layout import PAGE_SHIFT
from dbgvmm.mmu.inspect import ShadowRange
from dbgvmm.profile.flame_svg import clean, fitted
from dbgvmm.report.treemap import Box, squarified

WIDTH: Final = 1200
HEIGHT: Final = 520
_AREA_GAP: Final = 1 << 30
"""Bytes between two ranges that are of two areas."""
_LABEL: Final = 16


@dataclass(frozen=True)
class MappedRange:
    """A range with what else is known of it. traced: frames of it whose writes the monitor sees."""

    range: ShadowRange
    symbol: str
    traced: int


@dataclass(frozen=True)
class MappedArea:
    """Ranges that lie near each other."""

    start: int
    end: int
    ranges: tuple[MappedRange, ...]


def mapped_areas(ranges: Sequence[ShadowRange], traced: Collection[int], symbols: Symbols) -> tuple[MappedArea, ...]:
    """Ranges (lowest address first) as areas. traced: numbers of guest frames."""
    areas: list[list[MappedRange]] = []
    for each in ranges:
        first = 0 if each.physical is None else each.physical >> PAGE_SHIFT
        frames = () if each.physical is None else range(first, first + each.pages)
        found = MappedRange(each, symbols.describe(each.start), sum(frame in traced for frame in frames))
        if areas and each.start - areas[-1][-1].range.end < _AREA_GAP:
            areas[-1].append(found)
        else:
            areas.append([found])
    return tuple(MappedArea(area[0].range.start, area[-1].range.end, tuple(area)) for area in areas)


def weight(pages: int) -> float:
    """How large a range of so many pages is drawn."""
    return 1 + log2(pages)


def shadow_map(areas: Sequence[MappedArea]) -> str:
    """The picture, an `svg` element; a click on an area enlarges it."""
    sizes = [sum(weight(each.range.pages) for each in area.ranges) for area in areas]
    body = "".join(
        _area(area, box) for area, box in zip(areas, squarified(sizes, Box(0, 0, WIDTH, HEIGHT)), strict=True)
    )
    return (
        f'<svg class="map shadow" data-zoom="" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}">\n'
        '<defs><pattern id="read-only" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        '<rect width="2.5" height="6" fill="#fff" fill-opacity=".38"/></pattern></defs>\n'
        f"{body}</svg>\n"
    )


def _area(area: MappedArea, box: Box) -> str:
    outer = box.inner(2)
    room = outer.inner(1, _LABEL)
    size = _size(sum(each.range.pages for each in area.ranges))
    title = f"{area.start:#x} to {area.end - 1:#x}: {size} in {len(area.ranges)} ranges"
    cells = zip(area.ranges, squarified([weight(each.range.pages) for each in area.ranges], room), strict=True)
    return (
        f'<g data-box="{outer.x:.2f} {outer.y:.2f} {outer.width:.2f} {outer.height:.2f}">'
        f'<rect class="area free" {_place(outer)}><title>{clean(title)}</title></rect>'
        f'<text x="{outer.x + 5:.2f}" y="{outer.y + 12:.2f}">{clean(fitted(title, outer.width))}</text>\n'
        f"{''.join(_cell(each, cell) for each, cell in cells)}</g>\n"
    )


def _cell(mapped: MappedRange, box: Box) -> str:
    found = mapped.range
    rights = f"r{'w' if found.writable else '-'}{'x' if found.executable else '-'}"
    kind = "user" if found.user else "kernel"
    where = "scattered" if found.physical is None else f"physical {found.physical:#x}"
    lines = f"{found.start:#x} to {found.end - 1:#x}: {_size(found.pages)}, {rights}, {kind}, {where}"
    if mapped.symbol:
        lines += f", {mapped.symbol}"
    if mapped.traced:
        lines += f", {mapped.traced} traced"
    name = mapped.symbol or f"{found.start:#x}"
    label = fitted(f"{name} {rights}", box.width) if box.height > 16 else ""
    traced = " traced" if mapped.traced else ""
    hatch = "" if found.writable else f'<rect {_place(box)} fill="url(#read-only)" pointer-events="none"/>'
    return (
        f'<rect class="cell {kind}{traced}" {_place(box)}><title>{clean(lines)}</title></rect>{hatch}'
        f'<text x="{box.x + 4:.2f}" y="{box.y + 13:.2f}">{clean(label)}</text>\n'
    )


def _place(box: Box) -> str:
    return f'x="{box.x:.2f}" y="{box.y:.2f}" width="{box.width:.2f}" height="{box.height:.2f}"'


def _size(pages: int) -> str:
    kib = pages * 4
    if kib < 1024:
        return f"{kib} KiB"
    return f"{kib / 1024:.1f} MiB" if kib < 1 << 20 else f"{kib / (1 << 20):.1f} GiB"


__all__ = ["HEIGHT", "WIDTH", "MappedArea", "MappedRange", "mapped_areas", "shadow_map", "weight"]
