"""Exact execution counts: `counters start`, `mix`, `coverage`, `counters save`; what is executed most is in hot.py."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dbgvmm.commands.columns import columns
from dbgvmm.commands.errors import CommandError
from dbgvmm.commands.parameters import Count
from dbgvmm.commands.session import Session
from dbgvmm.commands.table import command
from dbgvmm.profile.counters import CountersError, HostTime
from dbgvmm.profile.counts import ExecutionCounts
from dbgvmm.profile.lcov import line_coverage
from dbgvmm.profile.lines import LineError
from dbgvmm.profile.mix import InstructionMix, MixRow, instruction_mix
from dbgvmm.profile.saving import FORMATS, counted, known_lines

_FEW: Final = Count(20)
_MOST: Final = 5
_MEMORY_SHARES: Final = ("loads", "stores", "locked")


def share(part: float, whole: int) -> str:
    """A part as people read it."""
    return f"{100 * part / whole:.2f}%" if whole else "-"


def counts_of(session: Session) -> ExecutionCounts:
    """What was counted. Raises CommandError if that is nothing."""
    try:
        return counted(session.machine)
    except CountersError as error:
        raise CommandError(str(error)) from error


def ring(user: bool) -> str:
    """Where code ran."""
    return "user" if user else "kernel"


@dataclass(frozen=True)
class CountersReport:
    """Whether counters run, and what they have counted. units: translations that count now. seconds: host seconds of the
    counted runs, and what of them the monitor's mechanisms took, as far as each is timed."""

    running: bool
    instructions: int
    kernel: int
    user: int
    addresses: int
    seconds: float
    monitor_seconds: dict[str, float]

    def __str__(self) -> str:
        state = "counters are running" if self.running else "counters are off"
        rows = [
            ("instructions", f"{self.instructions:,}: {self.kernel:,} kernel, {self.user:,} user"),
            ("executed", f"{self.addresses:,} different instructions"),
        ]
        if self.seconds:
            monitor = sum(self.monitor_seconds.values())
            most = sorted(self.monitor_seconds.items(), key=lambda item: -item[1])[:_MOST]
            parts = ", ".join(f"{name.replace('_', ' ')} {spent:.2f}" for name, spent in most if spent >= 0.005)
            text = f"{self.seconds:.2f} s: {self.seconds - monitor:.2f} s in translated code, {monitor:.2f} s in the monitor"
            rows.append(("host time", f"{text} ({parts})" if parts else text))
        return f"{state}\n{columns(rows)}"


@dataclass(frozen=True)
class MixReport:
    """The instruction mix; `mix.mnemonics` has all of them, `shown` says how many are shown."""

    mix: InstructionMix
    shown: int

    def __str__(self) -> str:
        mix = self.mix
        header = ("", "instructions", "share", "kernel", "user")
        right = (1, 2, 3, 4)
        tables = [columns(map(self._row, mix.classes), ("class", *header[1:]), right)]
        tables.append(columns(map(self._row, mix.mnemonics[: self.shown]), ("mnemonic", *header[1:]), right))
        memory = ", ".join(f"{getattr(mix, name):,} {name}" for name in _MEMORY_SHARES)
        tables.append(f"{mix.total:,} instructions: {memory}")
        return "\n\n".join(tables)

    def _row(self, row: MixRow) -> tuple[str, ...]:
        return row.name, f"{row.times:,}", share(row.times, self.mix.total), f"{row.times - row.user:,}", f"{row.user:,}"


@dataclass(frozen=True)
class CoverageRow:
    """A source file: how many of its lines and functions there are, how many ran, and the lines that did not."""

    path: str
    lines: int
    lines_hit: int
    functions: int
    functions_hit: int
    missed: tuple[int, ...]


@dataclass(frozen=True)
class CoverageReport:
    """Line coverage by file."""

    files: tuple[CoverageRow, ...]

    def __str__(self) -> str:
        rows = [
            (share(row.lines_hit, row.lines), f"{row.lines_hit} of {row.lines}",
             f"{row.functions_hit} of {row.functions}", row.path)
            for row in self.files
        ]  # fmt: skip
        lines, hit = sum(row.lines for row in self.files), sum(row.lines_hit for row in self.files)
        text = columns(rows, ("", "lines", "functions", "file"), right=(0, 1, 2))
        if len(self.files) == 1:
            return f"{text}\nlines that did not run: {_ranges(self.files[0].missed) or 'none'}"
        return f"{text}\n{hit:,} of {lines:,} lines ran, {share(hit, lines)}"


@dataclass(frozen=True)
class SavedFiles:
    """What was written: the format and the file."""

    files: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        return "\n".join(f"{name}: {path}" for name, path in self.files)


def _ranges(numbers: tuple[int, ...]) -> str:
    """ "3-5, 9" """
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in spans)


def _report(session: Session) -> CountersReport:
    counters = session.machine.counters
    counts = counters.counts()
    host: HostTime = counters.host_time
    return CountersReport(
        counters.running, counts.total, counts.total - counts.user_total, counts.user_total, len(counts.instructions),
        host.total, host.monitor,
    )  # fmt: skip


@command("counters start")
def counters_start(session: Session) -> CountersReport:
    """Count from here on how often each instruction is executed, on top of what was counted before.

    The counts are exact, and the guest cannot notice. It runs up to a fifth slower meanwhile.

    For example:
        counters start
    """
    try:
        session.machine.counters.start()
    except CountersError as error:
        raise CommandError(str(error)) from error
    return _report(session)


@command("counters stop")
def counters_stop(session: Session) -> CountersReport:
    """Count no longer; what was counted is kept.

    For example:
        counters stop
    """
    try:
        session.machine.counters.stop()
    except CountersError as error:
        raise CommandError(str(error)) from error
    return _report(session)


@command("counters clear")
def counters_clear(session: Session) -> CountersReport:
    """Forget what was counted, and begin again at 0.

    For example:
        counters clear
    """
    session.machine.counters.clear()
    return _report(session)


@command("info counters", aliases=("counters",))
def info_counters(session: Session) -> CountersReport:
    """Show what the execution counters have counted, and the host's time for guest and monitor.

    For example:
        info counters
        counters --json
    """
    return _report(session)


@command("mix", aliases=("howvec",))
def mix(session: Session, count: Count = _FEW) -> MixReport:
    """Show the instruction mix by class and mnemonic (COUNT of them), kernel and user apart.

    QEMU's howvec plugin shows the like. A read-modify-write is a load and a store; `locked` are those that lock the bus.

    For example:
        mix
        mix 5
    """
    return MixReport(instruction_mix(counts_of(session)), count)


@command("coverage")
def coverage(session: Session, file: str = "") -> CoverageReport:
    """Show how many source lines have run, by file; with FILE (a part of its path), which have not.

    The symbol file must have been built with -g. `counters save --lcov` writes the same for lcov and genhtml.

    For example:
        coverage
        coverage main.c
    """
    counts = counts_of(session)
    try:
        found = line_coverage(counts, known_lines(session.machine), session.symbols)
    except LineError as error:
        raise CommandError(str(error)) from error
    rows = tuple(
        CoverageRow(
            item.path, len(item.lines), item.lines_hit, len(item.functions), item.functions_hit,
            tuple(line for line, times in sorted(item.lines.items()) if not times),
        )
        for item in found if file in item.path
    )  # fmt: skip
    if not rows:
        raise CommandError(f"no source file is called {file!r}: `coverage` lists them")
    return CoverageReport(rows)


@command("counters save")
def counters_save(
    session: Session, *, callgrind: Path | None = None, lcov: Path | None = None, drcov: Path | None = None
) -> SavedFiles:
    """Save what was counted for other tools: kcachegrind, lcov and genhtml, disassemblers (drcov).

    For example:
        counters save --callgrind callgrind.out.guest
        counters save --lcov guest.info --drcov guest.drcov
    """
    named = {"callgrind": callgrind, "lcov": lcov, "drcov": drcov}
    wanted = {name: path for name, path in named.items() if path is not None}
    if not wanted:
        raise CommandError("say what to save: --callgrind FILE, --lcov FILE, --drcov FILE")
    for name, path in wanted.items():
        try:
            FORMATS[name](session.machine, path)
        except (CountersError, LineError) as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            raise CommandError(f"{path}: {error.strerror}: give another file") from error
    return SavedFiles(tuple((name, str(path)) for name, path in wanted.items()))
