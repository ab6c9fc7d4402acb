"""The report's tables: the ledger, the hottest functions, the instruction mix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dbgvmm.bt.mechanisms import Mechanism, parts
from dbgvmm.profile.flame_svg import clean
from dbgvmm.profile.mix import InstructionMix
from dbgvmm.profile.moments import Interval
from dbgvmm.profile.profile import FunctionCost, Profile, function_costs
from dbgvmm.report.palette import GUEST, colour_of

MOST_FUNCTIONS: Final = 25
MOST_MNEMONICS: Final = 16
_DETAILS: Final = 4


def table(header: Sequence[str], rows: Sequence[Sequence[str]], words: int) -> str:
    """An HTML table. Cells are HTML; the last `words` columns are text, the others numbers."""
    numbers = len(header) - words

    def row(cells: Sequence[str], tag: str) -> str:
        return "".join(f"<{tag}{' class=n' if at < numbers else ''}>{cell}</{tag}>" for at, cell in enumerate(cells))

    body = "".join(f"<tr>{row(cells, 'td')}</tr>\n" for cells in rows)
    return f"<table><thead><tr>{row(header, 'th')}</tr></thead>\n<tbody>\n{body}</tbody></table>\n"


def ledger_table(interval: Interval) -> str:
    """What each mechanism did in all, and translated code beside them: the shares sum up to the run."""
    rows = []
    for mechanism in sorted({parts(key)[0] for key in interval.cells}):
        count = interval.count_of(mechanism)
        spent = sum(seconds for key, (_, seconds) in interval.cells.items() if parts(key)[0] is mechanism)
        details = [row for row in interval.details(mechanism) if row.detail]
        most = ", ".join(f"{row.detail} {row.count:,}" for row in details[:_DETAILS])
        more = f" and {len(details) - _DETAILS} more" if len(details) > _DETAILS else ""
        rows.append((
            f"{count:,}", f"{count * 1e6 / max(interval.instructions, 1):,.1f}", f"{spent * 1e3:,.1f}",
            _share(spent, interval.seconds), f"{_swatch(colour_of(mechanism))}{clean(mechanism.title)}",
            clean(_kind(mechanism)), clean(mechanism.meaning), clean(most + more),
        ))  # fmt: skip
    guest = interval.guest_seconds
    rows.append((
        "", "", f"{guest * 1e3:,.1f}", _share(guest, interval.seconds), f"{_swatch(GUEST)}translated code", "guest",
        "the guest itself, with the engine's own work for it", "",
    ))  # fmt: skip
    header = ("times", "per million", "host ms", "share", "mechanism", "", "what it is", "most often")
    return table(header, rows, 4)


def _kind(mechanism: Mechanism) -> str:
    return "exit" if mechanism.is_exit else "work"


def functions_table(profile: Profile) -> str:
    """The functions that most samples were in."""
    whole = profile.instructions
    rows = [_function_row(cost, whole) for cost in function_costs(profile)[:MOST_FUNCTIONS]]
    return table(("self", "", "total", "samples", "VMM ms", "code", "function"), rows, 2)


def _function_row(cost: FunctionCost, whole: int) -> tuple[str, ...]:
    part = cost.self_instructions / whole if whole else 0
    bar = f'<i class="bar {clean(cost.kind)}" style="width:{part * 120:.1f}px"></i>'
    return (
        _share(cost.self_instructions, whole), bar, _share(cost.total_instructions, whole), f"{cost.self_samples:,}",
        f"{cost.self_monitor_ns / 1e6:,.1f}", clean(cost.kind), f"<code>{clean(cost.name)}</code>",
    )  # fmt: skip


def mix_table(mix: InstructionMix) -> str:
    """Classes of instructions and the most frequent mnemonics, side by side."""
    classes = [_mix_row(row.name, row.times, row.user, mix.total) for row in mix.classes]
    mnemonics = [_mix_row(row.name, row.times, row.user, mix.total) for row in mix.mnemonics[:MOST_MNEMONICS]]
    header = ("share", "", "instructions", "user", "")
    memory = (
        f"<p>{mix.total:,} instructions were counted, {_share(mix.user_total, mix.total)} of them user code. "
        f"{_share(mix.loads, mix.total)} read memory, {_share(mix.stores, mix.total)} write it, {mix.locked:,} were locked."
        "</p>\n"
    )
    return f'{memory}<div class="beside">{table(header, classes, 1)}{table(header, mnemonics, 1)}</div>\n'


def _mix_row(name: str, times: int, user: int, whole: int) -> tuple[str, ...]:
    bar = f'<i class="bar all" style="width:{times / max(whole, 1) * 120:.1f}px"></i>'
    return _share(times, whole), bar, f"{times:,}", _share(user, times), clean(name)


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.2f}%" if whole else "-"


def _swatch(colour: str) -> str:
    return f'<i class="swatch" style="background:{colour}"></i>'


__all__ = ["MOST_FUNCTIONS", "MOST_MNEMONICS", "functions_table", "ledger_table", "mix_table", "table"]
