"""What exact execution counts cost: here, in QEMU's TCG plugins, in hooks on bare Unicorn.

`python bench/counting.py [--rounds N] [--guest NAME]`. The guest is that of cpubound.py; each tool counting is compared with
itself not counting, by the CPU time of whole processes. The plugin is bench/qemu_counting.c: it is built with gcc for the run.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cpubound import BUILD, VERDICT
from measure import (
    CPU,
    REPOSITORY,
    BenchError,
    Contestant,
    demand,
    interleave,
    machine_line,
    qemu_version,
    report,
    table,
)

PLUGIN: Final = REPOSITORY / "bench" / "qemu_counting.c"


@dataclass(frozen=True)
class Counting:
    """A tool that counts, and the name of itself when it does not. most: rounds that it takes part in at most."""

    contestant: Contestant
    base: str
    most: int = 1000


def build_plugin(folder: Path) -> Path:
    """The plugin, built. Raises BenchError."""
    made = folder / "qemu_counting.so"
    line = ["gcc", "-O2", "-shared", "-fPIC", "-fvisibility=hidden", "-o", str(made), str(PLUGIN)]
    try:
        subprocess.run(line, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise BenchError(f"{PLUGIN} cannot be built: {getattr(error, 'stderr', '') or error}") from error
    return made


def contestants(guest: str, folder: Path) -> list[Counting]:
    """Who takes part. Raises BenchError if something is not built."""
    how = "run `make -C guests`"
    elf, elf64 = demand(BUILD / f"{guest}.elf", how), demand(BUILD / f"{guest}.elf64", how)
    ours = [sys.executable, "-m", "dbgvmm", "run", str(elf)]
    plain = [sys.executable, str(REPOSITORY / "bench" / "plain_unicorn.py"), str(elf64)]
    qemu = [
        "qemu-system-x86_64", "-M", "pc", "-cpu", "max", "-accel", "tcg", "-m", "64", "-kernel", str(elf),
        "-display", "none", "-serial", "stdio", "-no-reboot", "-device", "isa-debug-exit,iobase=0xf4,iosize=4",
    ]  # fmt: skip
    plugin, counted = build_plugin(folder), "plugin: "
    found = [Counting(Contestant("dbgvmm", ours, VERDICT), "dbgvmm")]
    count = [*ours, "--count", str(folder / "callgrind.out")]
    found.append(Counting(Contestant("dbgvmm --count", count, VERDICT), "dbgvmm"))
    found.append(Counting(Contestant("QEMU TCG", qemu, VERDICT), "QEMU TCG"))
    for name, mode in (
        ("blocks, inline (hotblocks,inline=on)", "blocks"), ("blocks, calls (hotblocks)", "callbacks"),
        ("instructions, inline (howvec,inline=on)", "classes"),
    ):  # fmt: skip
        command = [*qemu, "-plugin", f"{plugin},count={mode}"]
        found.append(Counting(Contestant(f"QEMU TCG, {name}", command, counted), "QEMU TCG"))
    found.append(Counting(Contestant("bare Unicorn", plain, VERDICT), "bare Unicorn"))
    hooked = Contestant("bare Unicorn, UC_HOOK_BLOCK in Python", [*plain, "--count-blocks"], VERDICT)
    return [*found, Counting(hooked, "bare Unicorn", 1)]


def main() -> None:
    """Measure, and print the table. Raises BenchError."""
    parser = argparse.ArgumentParser(description="What exact execution counts cost, on a CPU-bound guest.")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each (5)")
    parser.add_argument("--guest", default="cpubound", help="cpubound, or cpubound-small to try this out (cpubound)")
    options = parser.parse_args()
    print(f"## counting, {options.guest}: {machine_line()}; {qemu_version()}\n")
    with tempfile.TemporaryDirectory() as folder:
        taking_part = contestants(options.guest, Path(folder))
        times = interleave([item.contestant for item in taking_part if item.most > 1], options.rounds)
        times |= interleave([item.contestant for item in taking_part if item.most == 1], 1)  # it takes minutes
    rows = []
    for item in taking_part:
        runs = times[item.contestant.name]
        ratio = runs.median(CPU) / times[item.base].median(CPU)
        rows.append([item.contestant.name, runs.show(CPU), f"{ratio:.2f}"])
    print(table([f"{options.rounds} runs each, in turn", "CPU time, median (least..most)", "without counting = 1"], rows))
    print()


if __name__ == "__main__":
    sys.exit(report(main))
