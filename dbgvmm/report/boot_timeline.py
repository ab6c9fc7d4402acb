"""The timeline of a run: what the guest printed, who ran, and how often what happened, over the guest's time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from dbgvmm.bt.mechanisms import Mechanism, detail_text, parts
from dbgvmm.cpu.bits import Vector
from dbgvmm.profile.flame_svg import clean, fitted
from dbgvmm.profile.history import RunRecord
from dbgvmm.profile.moments import Interval
from dbgvmm.profile.who_ran import Runner
from dbgvmm.report.ledger_chart import embedded, moments_text
from dbgvmm.report.milestones import Milestone, milestones
from dbgvmm.report.time_axis import LEFT, RIGHT, WIDTH, TimeAxis, drawn_axis, number, seconds, short, steps

MOST_RUNNERS: Final = 12
MOST_LISTED: Final = 3000
"""Console lines in the list below the picture."""
_LABEL_ROWS: Final = 11
_LABEL_ROW: Final = 16
_LANE: Final = 18
_GAP: Final = 5
_LINES_IN_TITLE: Final = 6
_MODE_CLASSES: Final = {"real mode": "real", "protected mode": "protected", "protected mode, paging": "protected"}
_CALLS: Final = frozenset(("syscall", "sysenter"))


@dataclass(frozen=True)
class Density:
    """A lane of how much of something there was. amounts: by interval. unit: what they are, per million instructions if
    `rate`. total: in words."""

    name: str
    colour: str
    amounts: tuple[float, ...]
    unit: str
    total: str


def boot_timeline(record: RunRecord, runners: Sequence[Runner], ns_per_instruction: float) -> str:
    """The picture and the list of all lines, HTML. The record has at least two points."""
    axis = TimeAxis(record.points)
    intervals = axis.intervals()
    lines = [line for line in record.lines if axis.start <= line.count <= axis.end]
    labels = milestones(lines, axis.x, LEFT, WIDTH - 4, _LABEL_ROWS)
    rows = max((each.row for each in labels), default=-1) + 1
    picture = _Picture(axis, rows * _LABEL_ROW + 10)
    picture.console(record, labels)
    picture.modes(record)
    shown = lanes_of(runners)
    for runner in runners:
        if runner in shown:
            picture.runner(runner, intervals)
    if len(runners) > len(shown):
        rest = [runner for runner in runners if runner not in shown]
        picture.runner(_together(rest), intervals)
    for lane in densities(intervals, ns_per_instruction):
        picture.density(lane, intervals)
    return f"{picture.drawn(intervals)}{_all_lines(record)}"


def lanes_of(runners: Sequence[Runner], most: int = MOST_RUNNERS) -> list[Runner]:
    """Those that have a lane of their own: who ran most, but a third of the lanes is for who ran most in user code."""
    busiest = sorted(runners, key=lambda runner: -runner.instructions)
    users = sorted((runner for runner in runners if any(runner.user)), key=lambda runner: -sum(runner.user))
    chosen = dict.fromkeys(users[: most // 3])
    for runner in busiest:
        if len(chosen) < most:
            chosen[runner] = None
    return list(chosen)


def densities(intervals: Sequence[Interval], ns_per_instruction: float) -> list[Density]:
    """The lanes of what happened at all."""
    wanted: tuple[tuple[str, str, Callable[[Mechanism, int], bool]], ...] = (
        ("interrupts", "#1f8fb4", lambda mechanism, _: mechanism is Mechanism.INTERRUPT),
        ("page faults", "#a83246", lambda mechanism, detail: mechanism is Mechanism.DELIVERY and detail == Vector.PF),
        ("other exceptions", "#d37295", lambda mechanism, detail: mechanism is Mechanism.DELIVERY and detail != Vector.PF),
        ("system calls", "#3f7fc0", lambda mechanism, detail: detail_text(mechanism, detail) in _CALLS),
        ("CR3 writes", "#2f6f4f", lambda mechanism, _: mechanism is Mechanism.CR3_SWITCH),
        ("port accesses", "#76b7b2", lambda mechanism, _: mechanism is Mechanism.PORT),
        ("units translated", "#8866b8", lambda mechanism, _: mechanism is Mechanism.TRANSLATION),
        ("hidden faults", "#e15759", lambda mechanism, _: mechanism in (Mechanism.HIDDEN_FAULT, Mechanism.AD_UPDATE)),
    )
    lanes = []
    for name, colour, matches in wanted:
        counts = [
            sum(count for key, (count, _) in interval.cells.items() if matches(*parts(key))) for interval in intervals
        ]
        if any(counts):
            rates = [count * 1e6 / max(each.instructions, 1) for count, each in zip(counts, intervals, strict=True)]
            lanes.append(Density(name, colour, tuple(rates), "per million", f"{sum(counts):,}"))
    halted = [max(each.ns - each.instructions * ns_per_instruction, 0.0) for each in intervals]
    if sum(halted) >= 1:
        shares = [part / each.ns if each.ns else 0.0 for part, each in zip(halted, intervals, strict=True)]
        lanes.append(Density("halted", "#9c755f", tuple(shares), "of the guest's clock", seconds(sum(halted))))
    return lanes


def _together(runners: Sequence[Runner]) -> Runner:
    kernel = tuple(map(sum, zip(*(runner.kernel for runner in runners), strict=True)))
    user = tuple(map(sum, zip(*(runner.user for runner in runners), strict=True)))
    return Runner(f"{len(runners)} others", sum(runner.tasks for runner in runners), kernel, user)


class _Picture:
    """Lanes below each other. y: where the next one begins."""

    def __init__(self, axis: TimeAxis, y: float) -> None:
        self._axis = axis
        self._edges = axis.edges
        self._top = y
        self._y = y
        self._parts: list[str] = []
        self._told: list[tuple[str, list[str]]] = []

    def _lane(self, name: str, right: str = "", note: str = "") -> float:
        """Begin a lane; where it is."""
        y = self._y
        self._y += _LANE + _GAP
        title = f"<title>{clean(note)}</title>" if note else ""
        self._parts.append(
            f'<rect class="lane" x="{LEFT}" y="{y:g}" width="{WIDTH - LEFT - RIGHT}" height="{_LANE}"/>'
            f'<text x="{LEFT - 8}" y="{y + 13:g}" text-anchor="end">{clean(fitted(name, LEFT - 6))}{title}</text>'
            f'<text class="quiet" x="{WIDTH - RIGHT + 6}" y="{y + 13:g}">{clean(right)}</text>\n'
        )
        return y

    def console(self, record: RunRecord, labels: Sequence[Milestone]) -> None:
        """The console's lane: a mark for each line, those that are at one pixel together, and labels above."""
        axis = self._axis
        lines = [line for line in record.lines if axis.start <= line.count <= axis.end]
        if not lines:
            return
        number_of_lines = len(lines) + record.lines_dropped
        y = self._lane("console", f"{number_of_lines:,} line{'s' * (number_of_lines != 1)}")
        marks: dict[int, list[str]] = {}
        for line in lines:
            marks.setdefault(round(axis.x(line.count)), []).append(f"{seconds(line.ns)}  {line.text}")
        for x, texts in marks.items():
            more = [f"and {len(texts) - _LINES_IN_TITLE:,} more"] if len(texts) > _LINES_IN_TITLE else []
            title = "\n".join(clean(text) for text in [*texts[:_LINES_IN_TITLE], *more])
            self._parts.append(
                f'<rect class="line" x="{x - 1}" y="{y + 2:g}" width="2" height="{_LANE - 4}"><title>{title}</title></rect>\n'
            )
        for each in labels:
            top = self._top - 8 - (each.row + 1) * _LABEL_ROW
            self._parts.append(
                f'<path class="stem" d="M{number(each.x)} {number(y + 2)}V{number(top + 7)}"/>'
                f'<text class="milestone" x="{each.left:.1f}" y="{top + 12:g}">{clean(each.text)}'
                f"<title>{clean(seconds(each.line.ns))}  {clean(each.line.text)}</title></text>\n"
            )

    def modes(self, record: RunRecord) -> None:
        """The modes that the CPU was in, if there was more than one."""
        if len(record.modes) < 2:
            return
        y = self._lane("CPU mode", f"{len(record.modes) - 1} change{'s' * (len(record.modes) > 2)}")
        ends = [change.count for change in record.modes[1:]] + [self._axis.end]
        for change, end in zip(record.modes, ends, strict=True):
            x = self._axis.x(change.count)
            width = max(self._axis.x(end) - x, 2.0)
            self._parts.append(
                f'<rect class="mode {_MODE_CLASSES.get(change.text, "long")}" x="{x:.1f}" y="{y:g}" width="{width:.1f}"'
                f' height="{_LANE}"><title>{clean(change.text)}, from instruction {change.count:,}</title></rect>'
                f'<text x="{x + 5:.1f}" y="{y + 13:g}" pointer-events="none">{clean(fitted(change.text, width))}</text>\n'
            )

    def runner(self, runner: Runner, intervals: Sequence[Interval]) -> None:
        """A task's or an address space's part of each interval: the kernel's below, the user's on top of it."""
        note = f"{runner.tasks:,} tasks" if runner.tasks > 1 else ""
        whole = sum(interval.instructions for interval in intervals) or 1
        y = self._lane(runner.name, f"{runner.instructions / whole:.1%}", note)
        spans = [max(interval.instructions, 1) for interval in intervals]
        kernel = [min(part / span, 1.0) for part, span in zip(runner.kernel, spans, strict=True)]
        both = [min(low + part / span, 1.0) for low, part, span in zip(kernel, runner.user, spans, strict=True)]
        for name, shares in (("user", both), ("kernel", kernel)):
            if any(shares):
                path = steps(self._edges, [y + _LANE - _LANE * _seen(share) for share in shares], y + _LANE)
                self._parts.append(f'<path class="{name}" d="{path}"/>\n')
        self._told.append((runner.name, [f"{share:.0%}" if share >= 0.005 else "" for share in both]))

    def density(self, lane: Density, intervals: Sequence[Interval]) -> None:
        """How often something happened, the highest column as high as the lane."""
        y = self._lane(lane.name, lane.total, f"the highest column: {_amount(max(lane.amounts), lane.unit)}")
        highest = max(lane.amounts) or 1.0
        path = steps(self._edges, [y + _LANE - _LANE * _seen(amount / highest) for amount in lane.amounts], y + _LANE)
        self._parts.append(f'<path fill="{lane.colour}" d="{path}"/>\n')
        self._told.append((lane.name, [_amount(amount, lane.unit) if amount else "" for amount in lane.amounts]))

    def drawn(self, intervals: Sequence[Interval]) -> str:
        """All of it."""
        bottom = self._y + 4
        height = bottom + 40
        data = {
            "edges": [round(edge, 1) for edge in self._edges],
            "when": moments_text(self._axis, intervals),
            "lanes": [{"name": name, "values": values} for name, values in self._told],
        }
        return (
            f'<div class="chart" data-chart="timeline">\n'
            f'<svg class="map time" width="{WIDTH}" height="{height:g}" viewBox="0 0 {WIDTH} {height:g}"'
            f' data-top="{self._top:g}" data-bottom="{bottom:g}">\n'
            f"{''.join(self._parts)}{drawn_axis(self._axis, bottom, bottom)}"
            f'<line class="cursor" y1="{self._top:g}" y2="{bottom:g}" x1="0" x2="0" style="display:none"/>\n</svg>\n'
            f'<p class="readout" aria-live="polite">&#160;</p>\n'
            f'<script type="application/json">{embedded(data)}</script></div>\n'
        )


def _seen(share: float) -> float:
    """What is there at all is to be seen."""
    return max(share, 0.08) if share > 0 else 0.0


def _amount(amount: float, unit: str) -> str:
    return f"{amount:.0%} {unit}" if unit.startswith("of") else f"{short(amount)} {unit}"


def _all_lines(record: RunRecord) -> str:
    """Every line with its moment, folded away. Gaps in what is known are told."""
    if not record.lines:
        return ""
    lines = record.lines[:MOST_LISTED]
    cut = len(record.lines) - len(lines) + record.lines_dropped
    rows = "".join(
        f"<tr><td class=n>{line.count:,}</td><td class=n>{clean(seconds(line.ns))}</td>"
        f"<td><code>{clean(line.text)}</code></td></tr>\n"
        for line in lines
    )
    more = f"<p>{cut:,} more lines are not shown.</p>" if cut else ""
    return (
        f"<details><summary>What the guest printed, line by line ({len(lines):,}), with the moments</summary>\n"
        f"<table><thead><tr><th class=n>instruction</th><th class=n>guest's clock</th><th>line</th></tr></thead>\n"
        f"<tbody>{rows}</tbody></table>{more}</details>\n"
    )


__all__ = ["MOST_LISTED", "MOST_RUNNERS", "Density", "boot_timeline", "densities", "lanes_of"]
