"""Execution counts as an lcov tracefile: which source lines ran, and how often.

Source: geninfo(1), section FILES. All lines and functions that the line tables know are listed, those that never ran with
0. A line has several instructions; its count is that of the one that ran most often.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol, TextIO

from dbgvmm.profile.counts import ExecutionCounts
from dbgvmm.profile.lines import Lines


class Function(Protocol):
    """A symbol: its name, where it begins, and what it is."""

    @property
    def name(self) -> str: ...
    @property
    def address(self) -> int: ...
    @property
    def kind(self) -> str: ...


@dataclass
class FileCoverage:
    """A source file: executions by line, and of functions (line and executions, by name)."""

    path: str
    lines: dict[int, int] = field(default_factory=dict)
    functions: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def lines_hit(self) -> int:
        """Lines that ran."""
        return sum(times > 0 for times in self.lines.values())

    @property
    def functions_hit(self) -> int:
        """Functions that ran."""
        return sum(times > 0 for _, times in self.functions.values())


def line_coverage(counts: ExecutionCounts, lines: Lines, symbols: Iterable[Function] = ()) -> list[FileCoverage]:
    """Coverage by file, in the order of their paths."""
    executed: dict[int, int] = {}
    for (_, address), times in counts.by_address.items():
        executed[address] = executed.get(address, 0) + times
    addresses = sorted(executed)
    files: dict[str, FileCoverage] = {}
    for row in lines.rows():
        file = files.setdefault(row.file, FileCoverage(row.file))
        first, last = bisect_left(addresses, row.address), bisect_left(addresses, row.end)
        times = max((executed[address] for address in addresses[first:last]), default=0)
        file.lines[row.line] = max(file.lines.get(row.line, 0), times)
    for symbol in symbols:
        found = lines.line(symbol.address) if symbol.kind == "code" else None
        if found is not None:
            path, line = found
            files[path].functions[symbol.name] = line, counts.at(symbol.address)
    return [files[path] for path in sorted(files)]


def write_lcov(
    out: TextIO, counts: ExecutionCounts, lines: Lines, symbols: Iterable[Function] = (), test: str = "dbgvmm"
) -> None:
    """Write a tracefile. test: the name of the run (letters, digits and `_`)."""
    for file in line_coverage(counts, lines, symbols):
        out.write(f"TN:{test}\nSF:{file.path}\n")
        functions = sorted(file.functions.items(), key=lambda item: (item[1][0], item[0]))
        for name, (line, _) in functions:
            out.write(f"FN:{line},{name}\n")
        for name, (_, times) in functions:
            out.write(f"FNDA:{times},{name}\n")
        out.write(f"FNF:{len(file.functions)}\nFNH:{file.functions_hit}\n")
        for line, times in sorted(file.lines.items()):
            out.write(f"DA:{line},{times}\n")
        out.write(f"LF:{len(file.lines)}\nLH:{file.lines_hit}\nend_of_record\n")


__all__ = ["FileCoverage", "line_coverage", "write_lcov"]
