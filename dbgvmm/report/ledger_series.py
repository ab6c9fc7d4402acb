"""The exit ledger over time as numbers: layers of a stacked picture, each a mechanism, by interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, log10
from typing import Final, Literal

from dbgvmm.bt.mechanisms import Mechanism, parts
from dbgvmm.profile.moments import Interval
from dbgvmm.report.palette import GUEST, OTHERS, colour_of

LedgerMeasure = Literal["exits", "host", "share"]
"""Exits per million guest instructions; host milliseconds per million; parts of the host's time."""
MOST_LAYERS: Final = 12
_MILLION: Final = 1e6
_QUARTERS: Final = 4
_ROUND: Final = (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10)


@dataclass(frozen=True)
class Layer:
    """A mechanism, translated code, or the sum of what is little. values: by interval. total: in the whole run, exits or
    host seconds."""

    name: str
    meaning: str
    colour: str
    values: tuple[float, ...]
    total: float


def ledger_layers(intervals: Sequence[Interval], measure: LedgerMeasure) -> tuple[Layer, ...]:
    """The layers of a picture, the lowest first: translated code, then mechanisms by what they sum up to, then the rest, and
    on top what is there only because the run is sampled."""
    amounts: dict[Mechanism, list[float]] = {}
    for at, interval in enumerate(intervals):
        for key, (count, seconds) in interval.cells.items():
            mechanism = parts(key)[0]
            if measure == "exits" and not mechanism.is_exit:
                continue
            values = amounts.setdefault(mechanism, [0.0] * len(intervals))
            values[at] += count if measure == "exits" else seconds
    ranked = sorted(amounts, key=lambda mechanism: (-sum(amounts[mechanism]), mechanism))
    own = [mechanism for mechanism in ranked if mechanism is Mechanism.SAMPLE]
    ranked = [mechanism for mechanism in ranked if mechanism not in own]
    # A group of one is shown by its name.
    kept = ranked if len(ranked) <= MOST_LAYERS else ranked[: MOST_LAYERS - 1]
    rest = ranked[len(kept) :]
    guest = [interval.guest_seconds for interval in intervals]
    if measure == "share":
        wholes = [
            sum(max(values[at], 0.0) for values in (guest, *amounts.values())) for at in range(len(intervals))
        ]
        scales = [1 / whole if whole else 0.0 for whole in wholes]
    else:
        factor = _MILLION if measure == "exits" else _MILLION * 1e3
        scales = [factor / max(interval.instructions, 1) for interval in intervals]
    found = []
    if measure != "exits":
        found.append(_layer("translated code", "the guest itself, with the engine's own work for it", GUEST, guest, scales))
    found += [_layer(each.title, each.meaning, colour_of(each), amounts[each], scales) for each in kept]
    if rest:
        summed = [sum(amounts[each][at] for each in rest) for at in range(len(intervals))]
        found.append(_layer("others", ", ".join(each.title for each in rest), OTHERS, summed, scales))
    found += [_layer(each.title, each.meaning, colour_of(each), amounts[each], scales) for each in own]
    return tuple(found)


def _layer(name: str, meaning: str, colour: str, amounts: Sequence[float], scales: Sequence[float]) -> Layer:
    """Host time that an exit had not yet noted at its interval's end is in the next one: that can make one negative."""
    values = tuple(max(amount, 0.0) * scale for amount, scale in zip(amounts, scales, strict=True))
    return Layer(name, meaning, colour, values, sum(amounts))


def usual_top(totals: Sequence[float]) -> float:
    """The top of a scale: the highest value, unless a few stand out so much that the others could not be seen."""
    highest = max(totals, default=0.0)
    ordered = sorted(totals)
    usual = ordered[int(len(ordered) * 0.95)] * 1.25 if ordered else 0.0
    return usual if 0 < usual < highest / 2 else highest or 1.0


def round_top(top: float) -> float:
    """The next value above it whose quarters are round."""
    power = 10.0 ** floor(log10(top / _QUARTERS))
    step = next(round_ for round_ in _ROUND if round_ * power * _QUARTERS >= top * 0.9999)
    return step * power * _QUARTERS


__all__ = ["MOST_LAYERS", "Layer", "LedgerMeasure", "ledger_layers", "round_top", "usual_top"]
