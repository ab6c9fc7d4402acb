"""Execution counts as a Callgrind profile, for kcachegrind, qcachegrind and callgrind_annotate.

Source: Valgrind manual, "Callgrind Format Specification". Instructions (Ir) by address and source line. Self costs and
calls are exact; inclusive costs are apportioned (see functions.py), and the file says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final, TextIO

from dbgvmm.profile.counts import ExecutionCounts
from dbgvmm.profile.functions import CallArc, FunctionCount, FunctionKey, FunctionProfile, Names, function_profile
from dbgvmm.profile.lines import Lines, NoLines
from dbgvmm.version import VERSION

USER: Final = "user mode"
"""The object that code at CPL 3 is shown as."""
_UNKNOWN: Final = "???"


class _Names:
    """Names are written once, with a number, and from then on as the number (the specification's "name compression")."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def __call__(self, name: str) -> str:
        number = self._numbers.get(name)
        if number is not None:
            return f"({number})"
        number = self._numbers[name] = len(self._numbers) + 1
        return f"({number}) {name}"


class _Writer:
    def __init__(self, profile: FunctionProfile, lines: Lines, kernel: str) -> None:
        self._profile = profile
        self._lines = lines
        self._kernel = kernel
        self._objects, self._files, self._functions = _Names(), _Names(), _Names()
        self._calls: dict[tuple[FunctionKey, int], list[CallArc]] = {}
        for arc in profile.arcs:
            self._calls.setdefault((arc.caller, arc.site), []).append(arc)

    def lines(self) -> Iterator[str]:
        """The file's lines."""
        total = self._profile.total
        yield "# callgrind format"
        yield "version: 1"
        yield f"creator: dbgvmm {VERSION}"
        yield f"cmd: {self._kernel}"
        yield "part: 1"
        yield "desc: Trigger: exact execution counts of translated code"
        yield "desc: Inclusive costs: apportioned by calls, as gprof does; self costs and calls are exact"
        yield "positions: instr line"
        yield "event: Ir : instructions retired"
        yield "events: Ir"
        yield f"summary: {total}"
        for function in sorted(self._profile.functions.values(), key=lambda item: item.key):
            yield from self._function(function)
        yield ""
        yield f"totals: {total}"

    def _function(self, function: FunctionCount) -> Iterator[str]:
        own_file, _ = self._line(function.address)
        yield ""
        yield f"ob={self._objects(self._object(function.user))}"
        yield f"fl={self._files(own_file)}"
        yield f"fn={self._functions(function.name)}"
        current = own_file
        for address, times in sorted(self._profile.code[function.key].items()):
            file, line = self._line(address)
            if file != current:
                yield f"{'fe' if file == own_file else 'fi'}={self._files(file)}"
                current = file
            yield f"{address:#x} {line} {times}"
            for arc in self._calls.get((function.key, address), ()):
                callee = self._profile.functions[arc.callee]
                callee_file, _ = self._line(callee.address)
                if callee_file != file:
                    yield f"cfi={self._files(callee_file)}"
                yield f"cfn={self._functions(callee.name)}"
                yield f"calls={arc.times} {arc.target:#x} {self._line(arc.target)[1]}"
                yield f"{address:#x} {line} {round(self._profile.inclusive_of(arc))}"

    def _object(self, user: bool) -> str:
        return USER if user else self._kernel

    def _line(self, address: int) -> tuple[str, int]:
        return self._lines.line(address) or (_UNKNOWN, 0)


def write_callgrind(
    out: TextIO, counts: ExecutionCounts, names: Names, lines: Lines | None = None, kernel: Path | str = "kernel"
) -> None:
    """Write a snapshot; kernel: what the kernel's code is called."""
    profile = function_profile(counts, names)
    for text in _Writer(profile, lines or NoLines(), str(kernel)).lines():
        out.write(text + "\n")


__all__ = ["USER", "write_callgrind"]
