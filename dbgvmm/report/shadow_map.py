"""The shadow tables of address spaces as treemaps: areas of the address space, in them ranges with the same rights.

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
from dbgvmm.report.regions import Region
from dbgvmm.report.treemap import Box, squarified

WIDTH: Final = 1200
HEIGHT: Final = 520
_AREA_GAP: Final = 1 << 30
"""Bytes between two ranges that are of two areas."""
_LABEL: Final = 16
_LEAST_AREA: Final = 0.015
"""Of the picture: smaller areas are drawn so large that one can point at them."""
_LEAST_LABEL: Final = 30
"""Pixels of a box with a name."""
_HATCH: Final = (
    '<svg width="0" height="0" class="defs"><defs><pattern id="read-only" width="6" height="6" patternUnits="userSpaceOnUse"'
    ' patternTransform="rotate(45)"><rect width="2.5" height="6" fill="#fff" fill-opacity=".38"/></pattern></defs></svg>\n'
)
_BAR: Final = (
    '<div class="bar">{choice}<nav class="crumbs"><button type="button" class="whole" disabled>whole address space</button>'
    "<span></span></nav></div>\n"
)


@dataclass(frozen=True)
class MappedRange:
    """A range with what else is known of it. traced: frames of it whose writes the monitor sees."""

    range: ShadowRange
    symbol: str
    traced: int


@dataclass(frozen=True)
class MappedArea:
    """Ranges that lie near each other. name: what they are for, "" if nobody says."""

    start: int
    end: int
    name: str
    ranges: tuple[MappedRange, ...]


@dataclass(frozen=True)
class MappedSpace:
    """An address space. title: what to call it."""

    title: str
    areas: tuple[MappedArea, ...]


def mapped_areas(
    ranges: Sequence[ShadowRange], traced: Collection[int], symbols: Symbols, regions: Sequence[Region] = (),
    cr3: int | None = None,
) -> tuple[MappedArea, ...]:  # fmt: skip
    """Ranges (lowest address first) as areas; where a region begins or ends, so does an area.

    traced: numbers of guest frames. cr3: whose names the lower half has, None for the CPU's.
    """
    areas: list[list[MappedRange]] = []
    names: list[str] = []
    for each in ranges:
        first = 0 if each.physical is None else each.physical >> PAGE_SHIFT
        frames = () if each.physical is None else range(first, first + each.pages)
        found = MappedRange(each, symbols.describe(each.start, cr3), sum(frame in traced for frame in frames))
        name = next((region.name for region in regions if region.start <= each.start < region.end), "user" if each.user else "")
        if areas and names[-1] == name and each.start - areas[-1][-1].range.end < _AREA_GAP:
            areas[-1].append(found)
        else:
            areas.append([found])
            names.append(name)
    return tuple(
        MappedArea(area[0].range.start, area[-1].range.end, name, tuple(area))
        for area, name in zip(areas, names, strict=True)
    )


def weight(pages: int) -> float:
    """How large a range of so many pages is drawn."""
    return 1 + log2(pages)


def shadow_maps(spaces: Sequence[MappedSpace]) -> str:
    """The pictures, HTML: the first address space is shown, the others can be chosen. A click on an area enlarges it."""
    choice = ""
    if len(spaces) > 1:
        options = "".join(f'<option value="{at}">{clean(space.title)}</option>' for at, space in enumerate(spaces))
        choice = f"<label>address space <select>{options}</select></label>"
    maps = "".join(_map(space, at) for at, space in enumerate(spaces))
    return f'<div class="treemap">{_HATCH}{_BAR.format(choice=choice)}{maps}</div>\n'


def _map(space: MappedSpace, at: int) -> str:
    sizes = [sum(weight(each.range.pages) for each in area.ranges) for area in space.areas]
    least = sum(sizes) * _LEAST_AREA
    boxes = squarified([max(size, least) for size in sizes], Box(0, 0, WIDTH, HEIGHT))
    body = "".join(_area(area, box) for area, box in zip(space.areas, boxes, strict=True))
    style = ' style="display:none"' if at else ""
    return (
        f'<svg class="map shadow" data-space="{at}" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"{style}>\n'
        f"<title>{clean(space.title)}</title>\n{body}</svg>\n"
    )


def _area(area: MappedArea, box: Box) -> str:
    outer = box.inner(2)
    room = outer.inner(1, _LABEL)
    size = _size(sum(each.range.pages for each in area.ranges))
    where = f"{area.start:#x} to {area.end - 1:#x}: {size} in {len(area.ranges):,} range{'s' * (len(area.ranges) > 1)}"
    title = f"{area.name}: {where}" if area.name else where
    cells = zip(area.ranges, squarified([weight(each.range.pages) for each in area.ranges], room), strict=True)
    return (
        f'<g class="group" data-name="{clean(title)}"><rect class="area" {_place(outer)}><title>{clean(title)}</title></rect>'
        f'<text x="{outer.x + 5:.1f}" y="{outer.y + 12:.1f}">{clean(fitted(title, outer.width))}</text>\n'
        f"{''.join(_cell(each, cell, area) for each, cell in cells)}</g>\n"
    )


def _cell(mapped: MappedRange, box: Box, area: MappedArea) -> str:
    """One range. The first line of its title is its name: a symbol, or where it is in its area. It is the label, too."""
    found = mapped.range
    rights = f"r{'w' if found.writable else '-'}{'x' if found.executable else '-'}"
    kind = "user" if found.user else "kernel"
    where = "scattered frames" if found.physical is None else f"physical {found.physical:#x}"
    place = f"+{found.start - area.start:#x}" if found.start != area.start else f"{found.start:#x}"
    name = f"{mapped.symbol or place} {rights}"
    lines = f"{found.start:#x} to {found.end - 1:#x}: {_size(found.pages)}, {kind}, {where}"
    if mapped.traced:
        lines += f", {mapped.traced:,} traced"
    traced = " traced" if mapped.traced else ""
    hatch = "" if found.writable else f'<rect class="hatch" {_place(box)}/>'
    label = fitted(name, box.width) if box.height > _LABEL and box.width > _LEAST_LABEL else ""
    return (
        f'<g class="range" data-weight="{weight(found.pages):.2f}"><rect class="cell {kind}{traced}" {_place(box)}>'
        f"<title>{clean(name)}\n{clean(lines)}</title></rect>{hatch}"
        f'<text x="{box.x + 4:.1f}" y="{box.y + 13:.1f}">{clean(label)}</text></g>\n'
    )


def _place(box: Box) -> str:
    return f'x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" height="{box.height:.1f}"'


def _size(pages: int) -> str:
    kib = pages * 4
    if kib < 1024:
        return f"{kib} KiB"
    return f"{kib / 1024:.1f} MiB" if kib < 1 << 20 else f"{kib / (1 << 20):.1f} GiB"


__all__ = ["HEIGHT", "WIDTH", "MappedArea", "MappedRange", "MappedSpace", "mapped_areas", "shadow_maps", "weight"]
