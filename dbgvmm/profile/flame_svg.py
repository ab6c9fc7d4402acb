"""A flame graph as one SVG file that needs nothing else: a static picture with tooltips, and with JavaScript one that zooms
and searches.

It may also stand inside an HTML page (`flame_fragment`). There are two views in it, guest time and the monitor's time; the
first one is shown where scripts do not run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from typing import Final, Literal
from xml.sax.saxutils import escape

from dbgvmm.profile.flame_colours import LEGEND, colour, difference_colour, plain_colour
from dbgvmm.profile.flame_tree import FlameNode, Placed, flame_tree, placed
from dbgvmm.profile.profile import FrameKind, Measure, Profile, weighed

Orientation = Literal["flame", "icicle"]
WIDTH: Final = 1200
MARGIN: Final = 12
ROW: Final = 19
TOP: Final = 78
"""Height of title, legend and controls."""
BOTTOM: Final = 34
"""Height of the line that tells about what the mouse is on."""
LEAST_WIDTH: Final = 0.1
"""Pixels; what is narrower is not drawn."""
CHARACTER: Final = 6.7
"""Width of a character of a frame's name, in pixels, on average."""
_NOT_SHOWN: Final = re.compile(
    "[^\t\n\r\x20-\x7e\xa0-\u200d\u2010-\u2029\u202f-\u2065\u206a-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
)
"""What XML cannot have, control characters, and those that turn the direction of text, of what is around it too."""
_UNITS: Final[dict[Measure, str]] = {"guest": "instructions", "monitor": "ns of the host"}
_LABELS: Final[dict[Measure, str]] = {"guest": "guest time", "monitor": "VMM time"}
_MOST_GROWN: Final = 0.10
"""A change of this share of the whole has the full colour."""


@dataclass(frozen=True)
class FlameOptions:
    """title: what it is a picture of. orientation: "flame" grows upwards, "icicle" hangs down. before: an earlier profile;
    colours then tell what has grown (red) and shrunk (blue). least_width: pixels; what is narrower is not drawn."""

    title: str = "dbgvmm"
    orientation: Orientation = "flame"
    before: Profile | None = None
    least_width: float = LEAST_WIDTH


def clean(text: str) -> str:
    """Text for XML and HTML, attributes too: one line, escaped, without characters that cannot be shown."""
    return escape(_NOT_SHOWN.sub("\ufffd", text).translate({9: " ", 10: " ", 13: " "}), {'"': "&quot;"})


def flame_svg(profile: Profile, options: FlameOptions | None = None) -> bytes:
    """The file's content."""
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + flame_fragment(profile, options).encode()


def flame_fragment(profile: Profile, options: FlameOptions | None = None) -> str:
    """The `svg` element alone, for a page."""
    options = options or FlameOptions()
    measures: tuple[Measure, ...] = ("guest", "monitor") if profile.monitor_ns else ("guest",)
    trees = {measure: _tree(profile, options.before, measure) for measure in measures}
    rows = 1 + max(place.depth for tree in trees.values() for place in placed(tree))
    height = TOP + rows * ROW + BOTTOM
    views = [
        "".join(_view(tree, measure, rows, options, hidden=measure != measures[0])) for measure, tree in trees.items()
    ]
    kinds = {place.node.frame.kind: None for tree in trees.values() for place in placed(tree) if place.depth}
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="flame" width="{WIDTH}" height="{height}"'
        f' viewBox="0 0 {WIDTH} {height}" font-family="DejaVu Sans, Verdana, sans-serif" font-size="11"'
        f' data-margin="{MARGIN}" data-width="{WIDTH - 2 * MARGIN}" data-character="{CHARACTER}">\n'
        f"<style>{_asset('flame.css')}</style>\n"
        f'<rect class="paper" width="{WIDTH}" height="{height}" rx="6"/>\n'
        f'<text class="title" x="{MARGIN}" y="26">{clean(options.title)}</text>\n'
        f'<text class="quiet" x="{MARGIN}" y="45">{clean(_summary(profile))}</text>\n'
        f"{_legend(list(kinds), options)}"
        f"{_controls(measures)}"
        f"{''.join(views)}"
        f'<text class="details" x="{MARGIN}" y="{height - 12}"> </text>\n'
        f"<script><![CDATA[\n{_asset('flame.js')}]]></script>\n</svg>\n"
    )


def _asset(name: str) -> str:
    return (files("dbgvmm.profile") / "assets" / name).read_text("utf-8")


def _tree(profile: Profile, before: Profile | None, measure: Measure) -> FlameNode:
    return flame_tree(weighed(profile, measure), weighed(before, measure) if before is not None else ())


def _summary(profile: Profile) -> str:
    parts = [f"{profile.instructions:,} guest instructions", f"{profile.samples:,} samples"]
    if profile.period:
        parts.append(f"one in {profile.period:,} instructions")
    monitor = sum(profile.monitor_ns.values())
    if monitor:
        parts.append(f"{monitor / 1e9:,.3f} s of the host in the monitor")
    if profile.without_stack:
        parts.append(f"{profile.without_stack:,} samples without a stack: there was no room")
    return ", ".join(parts)


def _legend(kinds: list[FrameKind], options: FlameOptions) -> str:
    entries = [(LEGEND[kind], plain_colour(kind)) for kind in LEGEND if kind in kinds]
    if options.before is not None:
        entries = [("grown", difference_colour(1)), ("shrunk", difference_colour(-1)), ("as before", difference_colour(0))]
    parts = []
    x = float(MARGIN)
    for text, fill in entries:
        parts.append(
            f'<rect x="{x:g}" y="56" width="11" height="11" rx="2" fill="{fill}"/>'
            f'<text class="quiet" x="{x + 16:g}" y="65">{clean(text)}</text>\n'
        )
        x += 34 + CHARACTER * len(text)
    return "".join(parts)


def _controls(measures: tuple[Measure, ...]) -> str:
    """What only the script can serve, and shows: without it there is nothing to press."""
    parts = ['<g class="controls" style="display:none">\n']
    x = WIDTH - MARGIN - 76
    parts.append(_button("reset", "show all", x, 76))
    x -= 196
    parts.append(f'<foreignObject class="search" x="{x}" y="50" width="186" height="22"/>\n')
    for measure in reversed(measures if len(measures) > 1 else ()):
        x -= 88
        parts.append(_button(f"measure {measure}", _LABELS[measure], x, 80))
    return "".join([*parts, "</g>\n"])


def _button(name: str, text: str, x: int, width: int) -> str:
    return (
        f'<g class="button {name}" tabindex="0"><rect x="{x}" y="50" width="{width}" height="22" rx="4"/>'
        f'<text x="{x + width / 2:g}" y="65" text-anchor="middle">{clean(text)}</text></g>\n'
    )


def _view(tree: FlameNode, measure: Measure, rows: int, options: FlameOptions, hidden: bool) -> Iterator[str]:
    total = tree.weight or 1
    scale = (WIDTH - 2 * MARGIN) / total
    style = ' style="display:none"' if hidden else ""
    yield f'<g class="view" data-measure="{measure}" data-total="{total}"{style}>\n'
    undrawn = 0
    for place in placed(tree):
        if place.node.weight * scale >= options.least_width or not place.depth:
            yield _frame(place, tree, scale, rows, measure, options)
        else:
            undrawn += 1
    if undrawn:
        yield f"<desc>{undrawn} frames are narrower than {options.least_width} pixels and not drawn</desc>\n"
    yield "</g>\n"


def _frame(place: Placed, top: FlameNode, scale: float, rows: int, measure: Measure, options: FlameOptions) -> str:
    node = place.node
    x, width = MARGIN + place.start * scale, node.weight * scale
    row = place.depth if options.orientation == "icicle" else rows - 1 - place.depth
    y = TOP + row * ROW
    share = node.weight / (top.weight or 1)
    lines = f"{node.weight:,} {_UNITS[measure]} ({share:.2%}), {node.own:,} of its own"
    fill = colour(node.frame)
    if options.before is not None:
        was = node.before / (top.before or 1)
        lines += f"; before: {was:.2%}"
        fill = difference_colour((share - was) / _MOST_GROWN)
    name = clean(node.frame.name)
    return (
        f'<g class="f" data-d="{place.depth}" data-s="{place.start}" data-w="{node.weight}">'
        f"<title>{name}\n{LEGEND[node.frame.kind]}: {lines}</title>"
        f'<rect x="{x:.2f}" y="{y}" width="{width:.2f}" height="{ROW - 1}" rx="2" fill="{fill}"/>'
        f'<text x="{x + 4:.2f}" y="{y + 13}">{clean(fitted(node.frame.name, width))}</text></g>\n'
    )


def fitted(name: str, width: float) -> str:
    """As much of a name as goes into `width` pixels."""
    room = int((width - 6) / CHARACTER)
    if len(name) <= room:
        return name
    return name[: room - 1] + "…" if room >= 3 else ""


__all__ = ["FlameOptions", "Orientation", "clean", "fitted", "flame_fragment", "flame_svg"]
