"""`info stats`: all counters of the machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dbgvmm.commands.columns import columns
from dbgvmm.commands.session import Session
from dbgvmm.commands.table import command

_SHADOW_LEVELS: Final = ("PML5E", "PML4E", "PDPTE", "PDE", "PTE")


@dataclass(frozen=True)
class Facts:
    """Names and values, as people read them; `values` are the plain numbers for scripts."""

    title: str
    rows: tuple[tuple[str, str], ...]
    values: dict[str, float]

    def __str__(self) -> str:
        body = columns(self.rows)
        return f"{self.title}\n{body}" if self.title else body


@command("info stats", aliases=("stats",))
def info_stats(session: Session) -> Facts:
    """Show all counters of the machine.

    For example:

        info stats
        info stats --json
    """
    values = session.machine.stats()
    rows = tuple((name, f"{value:,}" if isinstance(value, int) else f"{value:.3f}") for name, value in values.items())
    return Facts("", rows, values)
