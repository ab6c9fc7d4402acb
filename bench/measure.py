"""Times whole processes side by side, and prints what was found.

Only ratios from one run of a benchmark mean something: machines differ, and one machine differs from minute to minute.
So the contestants take turns (A B A B ...), each time in a fresh process, and medians are compared.
"""

from __future__ import annotations

import os
import platform
import resource
import signal
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import IO, Final

REPOSITORY: Final = Path(__file__).resolve().parent.parent
EXIT: Final = "exit"
"""The mark that every run has: seconds until the process has ended."""
CPU: Final = "cpu"
"""Another one: seconds of CPU time that the process has had, its own children included."""


class BenchError(Exception):
    """A run did not do what it was to do, so its time means nothing. The message says which, and shows its output."""


@dataclass(frozen=True)
class Contestant:
    """One way of running the same work.

    marks: texts whose first appearance on standard output is timed, beside the end. wants: a text that must be in the
    output, else the run is void. after: called after each run (to collect a file that the process has written).
    """

    name: str
    command: Sequence[str]
    wants: str
    marks: Sequence[str] = ()
    after: Callable[[], None] | None = None
    timeout: float = 600.0


@dataclass
class Times:
    """Wall-clock seconds of one contestant's runs, by mark."""

    seconds: dict[str, list[float]] = field(default_factory=dict)

    def add(self, run: dict[str, float]) -> None:
        """Take the marks of one run."""
        for mark, seconds in run.items():
            self.seconds.setdefault(mark, []).append(seconds)

    def median(self, mark: str = EXIT) -> float:
        """The median of all runs, in seconds."""
        return statistics.median(self.seconds[mark])

    def show(self, mark: str = EXIT) -> str:
        """The median, and the extremes in brackets if there are several runs."""
        runs = self.seconds[mark]
        spread = f" ({min(runs):.2f}..{max(runs):.2f})" if len(runs) > 1 else ""
        return f"{self.median(mark):.2f} s{spread}"


def run_once(contestant: Contestant) -> dict[str, float]:
    """Seconds from the start of the process to each mark and to its end. Raises BenchError."""
    started = perf_counter()
    used = _children_cpu()
    found: dict[str, float] = {}
    output = bytearray()
    with subprocess.Popen(
        contestant.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:  # fmt: skip
        watchdog = threading.Timer(contestant.timeout, os.killpg, (process.pid, signal.SIGKILL))
        watchdog.start()
        try:
            assert process.stdout is not None
            _read(process.stdout, contestant.marks, started, output, found)
            process.wait()
        finally:
            watchdog.cancel()
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        found[EXIT] = perf_counter() - started
    found[CPU] = _children_cpu() - used
    text = output.decode("latin-1")
    for wanted in (contestant.wants, *contestant.marks):
        if wanted not in text:
            tail = "\n".join(text.splitlines()[-8:])
            raise BenchError(f"{contestant.name}: no {wanted!r} in its output, which ends so:\n{tail}")
    return found


def _children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _read(
    stream: IO[bytes], marks: Sequence[str], started: float, output: bytearray, found: dict[str, float]
) -> None:
    """Read to the end, noting when each mark came."""
    while chunk := os.read(stream.fileno(), 65536):
        now = perf_counter() - started
        tail_from = max(len(output) - 256, 0)  # a mark may arrive in pieces
        output += chunk
        for mark in marks:
            if mark not in found and output.find(mark.encode(), tail_from) >= 0:
                found[mark] = now


def interleave(contestants: Sequence[Contestant], rounds: int) -> dict[str, Times]:
    """Run each once per round, in turn, and give their times by name. Raises BenchError."""
    times = {contestant.name: Times() for contestant in contestants}
    for number in range(rounds):
        for contestant in contestants:
            _progress(f"round {number + 1} of {rounds}: {contestant.name}")
            times[contestant.name].add(run_once(contestant))
            if contestant.after is not None:
                contestant.after()
    _progress("")
    return times


def _progress(text: str) -> None:
    """Tell somebody at a terminal what is running."""
    if sys.stderr.isatty():
        print(f"\r{text:<75}\r", end="", file=sys.stderr, flush=True)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A markdown table."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows))


def machine_line() -> str:
    """Where this was measured: CPU, cores, Python."""
    model = "unknown CPU"
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    except OSError:
        pass  # not Linux: the figures are as good without the name
    return f"{model}, {os.cpu_count()} CPUs, Python {platform.python_version()}"


def qemu_version() -> str:
    """As QEMU gives it. Raises BenchError if there is none."""
    try:
        done = subprocess.run(["qemu-system-x86_64", "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise BenchError(f"qemu-system-x86_64 cannot be run ({error}): install it (qemu-system-x86)") from error
    return " ".join(done.stdout.split("(")[0].replace("emulator version", "").split())


def demand(path: Path, how: str) -> Path:
    """`path`, if it is there. Raises BenchError that says how to make it."""
    if not path.is_file():
        raise BenchError(f"{path} is missing: {how}")
    return path


def report(main: Callable[[], None]) -> int:
    """Run a benchmark's `main`; the exit status, with one clear message if it failed."""
    try:
        main()
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0
