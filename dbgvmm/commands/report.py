"""`report`: pictures of the machine in one HTML file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dbgvmm.commands.errors import CommandError
from dbgvmm.commands.session import Session
from dbgvmm.commands.table import command


@dataclass(frozen=True)
class SavedReport:
    """The file that was written."""

    path: str
    size: int

    def __str__(self) -> str:
        return f"{self.path}: {self.size:,} bytes, for a browser"


@command("report")
def report(session: Session, file: Path) -> SavedReport:
    """Write FILE, an HTML page with pictures of the run and of the machine as it is now.

    The page needs nothing else. What it shows over time (boot timeline, exit ledger, flame graph) is what was recorded since
    `sample start`; the instruction mix, and how hot pages of the translation cache are, since `counters start`. The map of
    the translation cache and the shadow page tables are as they are now.

    For example:
        report now.html
    """
    from dbgvmm.report import machine_report  # drawing is not needed to debug

    data = machine_report(session.machine)
    try:
        file.write_bytes(data)
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror}: give another file") from error
    return SavedReport(str(file), len(data))
