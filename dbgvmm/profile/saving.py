"""A machine's execution counts into files for other tools: Callgrind, lcov, drcov."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dbgvmm.profile.callgrind import write_callgrind
from dbgvmm.profile.counters import CountersError
from dbgvmm.profile.counts import ExecutionCounts
from dbgvmm.profile.drcov import kernel_module, write_drcov
from dbgvmm.profile.lcov import write_lcov
from dbgvmm.profile.lines import DwarfLines, LineError, Lines, NoLines

if TYPE_CHECKING:
    from dbgvmm.machine import Machine


def symbol_files(machine: Machine) -> list[Path]:
    """The files that the machine's symbols are from, the one that is asked first in front."""
    paths = [Path(source.source) for source in reversed(machine.symbols.sources)]
    return [path for path in paths if path.is_file()]


def known_lines(machine: Machine) -> Lines:
    """Source lines of the first symbol file that has some. Raises LineError, which says why there are none."""
    error: LineError | None = None
    for path in symbol_files(machine):
        try:
            return DwarfLines(path)
        except LineError as why:
            error = error or why
    raise error or LineError("no symbol file is known: give one that was built with -g (--symbols FILE)")


def counted(machine: Machine) -> ExecutionCounts:
    """What has been counted up to now. Raises CountersError if that is nothing."""
    counts = machine.counters.counts()
    if not counts.total:
        raise CountersError("nothing was counted: `counters start`, then let the guest run")
    return counts


def save_callgrind(machine: Machine, path: Path) -> None:
    """A Callgrind profile. Raises CountersError, OSError."""
    counts = counted(machine)
    lines: Lines
    try:
        lines = known_lines(machine)
    except LineError:
        lines = NoLines()  # addresses and functions are worth having without them
    with path.open("w", encoding="utf-8") as out:
        write_callgrind(out, counts, machine.symbols, lines, machine.kernel or "kernel")


def save_lcov(machine: Machine, path: Path) -> None:
    """An lcov tracefile. Raises CountersError, LineError, OSError."""
    counts, lines = counted(machine), known_lines(machine)
    with path.open("w", encoding="utf-8") as out:
        write_lcov(out, counts, lines, machine.symbols)


def save_drcov(machine: Machine, path: Path) -> None:
    """A drcov log. Raises CountersError, OSError."""
    counts = counted(machine)
    files = symbol_files(machine)
    modules = next((found for found in map(kernel_module, files) if found), None) or kernel_module(machine.kernel)
    with path.open("wb") as out:
        write_drcov(out, counts, modules)


FORMATS: Final[dict[str, Callable[[Machine, Path], None]]] = {
    "callgrind": save_callgrind, "lcov": save_lcov, "drcov": save_drcov,
}  # fmt: skip
_BY_SUFFIX: Final = {".info": "lcov", ".lcov": "lcov", ".drcov": "drcov"}


def save_by_suffix(machine: Machine, path: Path) -> str:
    """Save as what the file's name says: .info or .lcov, .drcov, else Callgrind. Returns which. Raises as those do."""
    name = _BY_SUFFIX.get(path.suffix, "callgrind")
    FORMATS[name](machine, path)
    return name


__all__ = ["FORMATS", "counted", "known_lines", "save_by_suffix", "save_callgrind", "save_drcov", "save_lcov", "symbol_files"]
