"""Debian's kernel to its shell: dbgvmm against QEMU, and what our time goes into. `python bench/linux.py [--rounds N]`.

Both get the same kernel, initramfs and command line. Times are wall-clock seconds from the start of the process to the
line that init prints, and to the end of the process.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Final

from measure import (
    EXIT,
    REPOSITORY,
    Contestant,
    demand,
    interleave,
    machine_line,
    qemu_version,
    report,
    table,
)

READY: Final = "dbgvmm: shell ready"
CMDLINE: Final = (
    "console=ttyS0 nokaslr pci=off acpi=off noapic nolapic nopti mitigations=off reboot=k"
)
OURS: Final = "dbgvmm"
MEMORY_MIB: Final = 256
PARTS: Final = {
    "translating": "seconds_translating",
    "hidden faults (a shadow entry filled)": "seconds_hidden_faults",
    "trace faults (a write to a guest page table or to code)": "seconds_trace_faults",
    "device I/O": "seconds_devices",
    "other callouts (sensitive instructions)": "seconds_callouts",
}
"""What the monitor measures of itself, by the names of docs/statistics.md."""
COUNTS: Final = (
    "instructions", "exits", "translation_units", "hidden_faults", "trace_faults", "true_faults", "callouts",
    "chain_exits", "interrupts", "port_io", "cr3_loads", "steps_16_32",
)  # fmt: skip


class StatsFile:
    """Where our runs leave their counters."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.runs: list[dict[str, float]] = []

    def collect(self) -> None:
        """Take what the last run has written."""
        self.runs.append(json.loads(self.path.read_text()))

    def median(self, key: str) -> float | None:
        """Of a counter over all runs; None if the monitor has no such counter."""
        values = [run[key] for run in self.runs if key in run]
        return statistics.median(values) if values else None


def contestants(
    directory: Path, kernel_name: str, script: str, wants: str, stats: StatsFile, extra: list[str]
) -> list[Contestant]:
    """Both. Raises BenchError if the Linux guest has not been prepared."""
    how = f"run `scripts/linux.sh {directory}` (`make bench` does)"
    kernel, initrd = demand(directory / kernel_name, how), demand(directory / "initramfs.cpio", how)
    cmdline = f"{CMDLINE} dbgvmm.script={script}"
    ours = [
        sys.executable, "-m", "dbgvmm", "run", str(kernel), "--initrd", str(initrd), "--append", cmdline,
        "--memory", f"{MEMORY_MIB}M", "--stats", str(stats.path), *extra,
    ]  # fmt: skip
    qemu = [
        "qemu-system-x86_64", "-M", "isapc", "-cpu", "qemu64", "-m", str(MEMORY_MIB), "-accel", "tcg",
        "-icount", "shift=5", "-kernel", str(kernel), "-initrd", str(initrd), "-append", cmdline,
        "-display", "none", "-serial", "stdio", "-no-reboot",
    ]  # fmt: skip
    return [
        Contestant(OURS, ours, wants, (READY,), stats.collect, timeout=1800),
        Contestant("QEMU TCG -icount shift=5", qemu, wants, (READY,)),
    ]


def breakdown(stats: StatsFile) -> str:
    """What our median run spent its time on, as a table."""
    total = stats.median("seconds_wall") or 0.0
    running = stats.median("seconds_total") or 0.0
    rows: list[list[str]] = []
    rest = running
    for name, key in PARTS.items():
        seconds = stats.median(key)
        if seconds is None:
            continue
        if key == "seconds_callouts":
            seconds -= stats.median("seconds_devices") or 0.0
        rest -= seconds
        rows.append([name, f"{seconds:.2f} s", f"{seconds / running:.0%}"])
    rows.append(["the guest's translated code, and the rest of the exits", f"{rest:.2f} s", f"{rest / running:.0%}"])
    rows.append(["together (serving the serial line apart)", f"{running:.2f} s of {total:.2f} s", "100%"])
    return table(["what", "median", "share"], rows)


def counts(stats: StatsFile) -> str:
    """How often, as a table; the counters are the same in every run."""
    rows = []
    for key in COUNTS:
        value = stats.median(key)
        if value is not None:
            rows.append([f"`{key}`", f"{value:,.0f}"])
    return table(["counter", "to the end"], rows)


def main() -> None:
    """Measure, and print the tables. Raises BenchError."""
    parser = argparse.ArgumentParser(description="Compare dbgvmm and QEMU on booting Linux.")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each (3)")
    parser.add_argument("--kernel", default="vmlinuz", help="vmlinuz (with its decompressor), or vmlinux (by PVH)")
    parser.add_argument("--script", default="boot", choices=("boot", "test"), help="what init runs (boot)")
    parser.add_argument("--directory", type=Path, help="where scripts/linux.sh has put them (build/linux)")
    parser.add_argument("extra", nargs="*", help="more options for `dbgvmm run`, after --")
    options = parser.parse_args()
    directory = options.directory or Path(os.environ.get("DBGVMM_LINUX", REPOSITORY / "build" / "linux"))
    print(f"## Linux, {options.kernel}, script {options.script}: {machine_line()}; {qemu_version()}\n")
    wants = READY
    if options.script == "test":
        wants = json.loads(demand(directory / "guest.json", "run scripts/linux.sh").read_text())["test_line"]
    with tempfile.TemporaryDirectory(prefix="dbgvmm-bench-") as scratch:
        stats = StatsFile(Path(scratch) / "stats.json")
        who = contestants(directory, options.kernel, options.script, wants, stats, options.extra)
        times = interleave(who, options.rounds)
    ours = times[OURS]
    rows = [
        [name, runs.show(READY), f"{runs.median(READY) / ours.median(READY):.2f}",
         runs.show(EXIT), f"{runs.median(EXIT) / ours.median(EXIT):.2f}"]
        for name, runs in times.items()
    ]  # fmt: skip
    header = [f"{options.rounds} runs each, in turn", "to the shell", f"{OURS} = 1", "to the end", f"{OURS} = 1"]
    print(table(header, rows))
    print(f"\n{breakdown(stats)}\n\n{counts(stats)}\n")


if __name__ == "__main__":
    sys.exit(report(main))
