"""What sampling costs, and all that a report records: `python bench/sampling.py [--rounds N] [--guest NAME | --linux DIR]`.

One guest in one process, not sampled (1), and sampled in several ways, in turn: by default the CPU-bound one of
bench/cpubound.py, with --linux a boot of Linux to its shell. Times are those of this process' CPU, since other programs on
the machine are not what is measured.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import process_time

from measure import REPOSITORY, demand, machine_line, report, table

from dbgvmm import Machine, MachineConfig
from dbgvmm.profile.sampling import period_of

CMDLINE = "console=ttyS0 nokaslr pci=off acpi=off noapic nolapic nopti mitigations=off reboot=k dbgvmm.script=boot"


@dataclass(frozen=True)
class Way:
    """How a run is sampled: so often in a second of guest time (0: not), and what of it is left out."""

    name: str
    hz: int
    stacks: bool = True
    tasks: bool = True
    history: bool = True


WAYS = (
    Way("not sampled", 0),
    Way("1 kHz, only where it is", 1_000, stacks=False, tasks=False, history=False),
    Way("1 kHz, and its stacks", 1_000, tasks=False, history=False),
    Way("1 kHz, and who runs", 1_000, history=False),
    Way("1 kHz, and the history: a report", 1_000),
    Way("10 kHz, all of it", 10_000),
)


def cpubound(name: str) -> Machine:
    """Our own guest. Raises BenchError."""
    machine = Machine(MachineConfig(memory=64 << 20))
    machine.boot(demand(REPOSITORY / "guests" / "build" / f"{name}.elf", "run `make -C guests`"))
    return machine


def linux(directory: Path) -> Machine:
    """Debian's kernel. Raises BenchError."""
    how = f"run `scripts/linux.sh {directory}`"
    machine = Machine(MachineConfig(memory=256 << 20))
    machine.boot(demand(directory / "vmlinuz", how), CMDLINE, demand(directory / "initramfs.cpio", how))
    return machine


def run_once(booted: Callable[[], Machine], way: Way) -> tuple[float, int]:
    """CPU seconds of a run, and samples."""
    machine = booted()
    sampler = machine.sampler
    if not way.stacks:
        sampler.walk = lambda: (machine.cpu.rip,)
    if not way.tasks:
        sampler.task = None
    if not way.history:
        sampler.history = None
    if way.hz:
        sampler.start(period_of(way.hz, machine.config.ns_per_insn))
    started = process_time()
    machine.run()
    seconds = process_time() - started
    samples = len(sampler.samples)
    machine.close()
    return seconds, samples


def main() -> None:
    """Measure, and print the table. Raises BenchError."""
    parser = argparse.ArgumentParser(description="What sampling costs, and all that a report records.")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each (5)")
    parser.add_argument("--guest", default="cpubound", help="cpubound, or cpubound-small to try this out (cpubound)")
    parser.add_argument("--linux", type=Path, metavar="DIR", help="boot the Linux that scripts/linux.sh has made there instead")
    options = parser.parse_args()
    name = options.guest if options.linux is None else "a boot of Linux"

    def booted() -> Machine:
        return cpubound(options.guest) if options.linux is None else linux(options.linux)

    times: dict[str, list[float]] = {way.name: [] for way in WAYS}
    samples = dict.fromkeys(times, 0)
    for _ in range(options.rounds):
        for way in WAYS:
            seconds, samples[way.name] = run_once(booted, way)
            times[way.name].append(seconds)
            gc.collect()
    print(f"## sampling {name}: {machine_line()}\n")
    base = statistics.median(times[WAYS[0].name])
    rows = []
    for label, runs in times.items():
        median = statistics.median(runs)
        each = f"{(median - base) / samples[label] * 1e6:.1f} us" if samples[label] else "-"
        spread = f"{median:.2f} s ({min(runs):.2f}..{max(runs):.2f})"
        rows.append([label, spread, f"{median / base:.3f}", f"{samples[label]:,}", each])
    print(table([f"{options.rounds} runs each, in turn", "median (least..most)", "not sampled = 1", "samples", "each"], rows))
    print()


if __name__ == "__main__":
    sys.exit(report(main))
