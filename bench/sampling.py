"""What sampling costs: `python bench/sampling.py [--rounds N] [--guest cpubound-small]`.

The CPU-bound guest of bench/cpubound.py in one process, not sampled (1), at 1 kHz and at 10 kHz of guest time, in turn. Times
are those of this process' CPU, since other programs on the machine are not what is measured.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
from time import process_time

from measure import REPOSITORY, demand, machine_line, report, table

from dbgvmm import Machine, MachineConfig
from dbgvmm.profile.sampling import period_of


def run_once(guest: str, hz: int, walk: bool = True) -> tuple[float, int]:
    """CPU seconds of a run, and samples. walk: with stacks, not just where the guest is."""
    machine = Machine(MachineConfig(memory=64 << 20))
    machine.boot(demand(REPOSITORY / "guests" / "build" / f"{guest}.elf", "run `make -C guests`"))
    if hz:
        if not walk:
            machine.sampler.walk = lambda: (machine.cpu.rip,)
        machine.sampler.start(period_of(hz, machine.config.ns_per_insn))
    started = process_time()
    machine.run()
    return process_time() - started, len(machine.sampler.samples) if hz else 0


def main() -> None:
    """Measure, and print the table. Raises BenchError."""
    parser = argparse.ArgumentParser(description="What sampling costs on a CPU-bound guest.")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each (5)")
    parser.add_argument("--guest", default="cpubound", help="cpubound, or cpubound-small to try this out (cpubound)")
    options = parser.parse_args()
    ways = [("not sampled", 0, True), ("1 kHz, no stacks", 1_000, False), ("1 kHz", 1_000, True), ("10 kHz", 10_000, True)]
    times: dict[str, list[float]] = {name: [] for name, _, _ in ways}
    samples = dict.fromkeys(times, 0)
    for _ in range(options.rounds):
        for name, hz, walk in ways:
            seconds, samples[name] = run_once(options.guest, hz, walk)
            times[name].append(seconds)
            gc.collect()
    print(f"## sampling {options.guest}: {machine_line()}\n")
    base = statistics.median(times["not sampled"])
    rows = []
    for name, runs in times.items():
        median = statistics.median(runs)
        each = f"{(median - base) / samples[name] * 1e6:.1f} us" if samples[name] else "-"
        spread = f"{median:.2f} s ({min(runs):.2f}..{max(runs):.2f})"
        rows.append([name, spread, f"{median / base:.3f}", f"{samples[name]:,}", each])
    print(table([f"{options.rounds} runs each, in turn", "median (least..most)", "not sampled = 1", "samples", "each"], rows))
    print()


if __name__ == "__main__":
    sys.exit(report(main))
