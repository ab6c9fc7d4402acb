"""The exit ledger over time as stacked areas, three views of it: exits, the host's time, and its shares."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from dbgvmm.profile.flame_svg import clean
from dbgvmm.profile.history import RunRecord
from dbgvmm.profile.moments import Interval
from dbgvmm.report.ledger_series import Layer, LedgerMeasure, ledger_layers, round_top, usual_top
from dbgvmm.report.time_axis import LEFT, RIGHT, WIDTH, TimeAxis, drawn_axis, number, seconds, short, steps

HEIGHT: Final = 340
_TOP: Final = 16
_BOTTOM: Final = HEIGHT - 44
_LINES: Final = 4
_VIEWS: Final[dict[LedgerMeasure, tuple[str, str]]] = {
    "share": ("share of host time", "of the host's time"),
    "host": ("host time", "ms of the host per million instructions"),
    "exits": ("exits", "exits per million instructions"),
}
"""By view: what its button says, and its scale."""


def ledger_chart(record: RunRecord) -> str:
    """The picture with its buttons and legends, HTML. The record has at least two points."""
    axis = TimeAxis(record.points)
    intervals = axis.intervals()
    buttons = "".join(
        f'<button type="button" data-view="{measure}">{clean(name)}</button>' for measure, (name, _) in _VIEWS.items()
    )
    views = "".join(_view(axis, intervals, measure, hidden=at > 0) for at, measure in enumerate(_VIEWS))
    return (
        f'<div class="chart" data-chart="ledger"><div class="buttons">{buttons}</div>\n{views}'
        f'<p class="readout" aria-live="polite">&#160;</p></div>\n'
    )


def embedded(data: object) -> str:
    """JSON for a script element, whatever strings are in it."""
    text = json.dumps(data, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def moments_text(axis: TimeAxis, intervals: Sequence[Interval]) -> list[str]:
    """What to say of each interval: when it was."""
    texts = []
    for point, interval in zip(axis.points, intervals, strict=False):
        began, ended = short(interval.start), short(interval.end)
        texts.append(f"{began} to {ended} instructions, guest's clock {seconds(point.ns)} to {seconds(point.ns + interval.ns)}")
    return texts


def _view(axis: TimeAxis, intervals: Sequence[Interval], measure: LedgerMeasure, hidden: bool) -> str:
    layers = ledger_layers(intervals, measure)
    sums = [sum(layer.values[at] for layer in layers) for at in range(len(intervals))]
    top = 1.0 if measure == "share" else round_top(usual_top(sums))
    data = {
        "edges": [round(edge, 1) for edge in axis.edges],
        "when": moments_text(axis, intervals),
        "unit": _VIEWS[measure][1],
        "share": measure == "share",
        "layers": [[float(f"{value:.3g}") for value in layer.values] for layer in layers],
    }
    style = ' style="display:none"' if hidden else ""
    return (
        f'<div class="view" data-view="{measure}"{style}>\n'
        f'<svg class="map time" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" data-top="{_TOP}"'
        f' data-bottom="{_BOTTOM}">\n'
        f"{_areas(axis, layers, top)}{_scale(top, measure)}{_cut(axis, sums, top)}{drawn_axis(axis, _BOTTOM, _BOTTOM)}"
        f'<line class="cursor" y1="{_TOP}" y2="{_BOTTOM}" x1="0" x2="0" style="display:none"/>\n</svg>\n'
        f"{_legend(layers, measure)}"
        f'<script type="application/json">{embedded(data)}</script>\n</div>\n'
    )


def _areas(axis: TimeAxis, layers: Sequence[Layer], top: float) -> str:
    """The layers from the highest to the lowest, each down to the axis: the next one covers what is not its own."""
    edges = axis.edges
    height = _BOTTOM - _TOP
    heights = [0.0] * (len(edges) - 1)
    paths = []
    for at, layer in enumerate(layers):
        heights = [low + value for low, value in zip(heights, layer.values, strict=True)]
        tops = [_BOTTOM - height * min(value / top, 1.0) for value in heights]
        paths.append(
            f'<path class="layer" data-layer="{at}" fill="{layer.colour}" d="{steps(edges, tops, _BOTTOM)}">'
            f"<title>{clean(layer.name)}: {clean(layer.meaning)}</title></path>\n"
        )
    return "".join(reversed(paths))


def _scale(top: float, measure: LedgerMeasure) -> str:
    parts = [f'<text class="quiet" x="{LEFT}" y="{_TOP - 5}">{clean(_VIEWS[measure][1])}</text>\n']
    for line in range(_LINES + 1):
        y = _BOTTOM - (_BOTTOM - _TOP) * line / _LINES
        value = top * line / _LINES
        text = f"{value:.0%}" if measure == "share" else short(value)
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:g}" y2="{y:g}"/>'
            f'<text x="{LEFT - 6}" y="{y + 4:g}" text-anchor="end">{text}</text>\n'
        )
    return "".join(parts)


def _cut(axis: TimeAxis, sums: Sequence[float], top: float) -> str:
    """Marks over what is higher than the picture."""
    edges = axis.edges
    marks = "".join(
        f"M{number((edges[at] + edges[at + 1]) / 2 - 3)} {_TOP}h6l-3 -6z"
        for at, value in enumerate(sums)
        if value > top * 1.001
    )
    return f'<path class="cut" d="{marks}"><title>higher than the picture</title></path>\n' if marks else ""


def _legend(layers: Sequence[Layer], measure: LedgerMeasure) -> str:
    items = []
    for at, layer in enumerate(layers):
        total = f"{layer.total:,.0f}" if measure == "exits" else seconds(layer.total * 1e9)
        items.append(
            f'<li data-layer="{at}" title="{clean(layer.meaning)}"><i style="background:{layer.colour}"></i>'
            f"{clean(layer.name)} <b>{total}</b><span></span></li>"
        )
    return f'<ul class="legend">{"".join(items)}</ul>\n'


__all__ = ["HEIGHT", "embedded", "ledger_chart", "moments_text"]
