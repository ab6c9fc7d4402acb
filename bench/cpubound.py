"""A CPU-bound guest: dbgvmm against bare Unicorn and QEMU. `python bench/cpubound.py [--rounds N]`.

The guest is guests/cpubound: CRC32, a shell sort through a function pointer, fib, a linked list, a sieve, string
search, multiplication and division; it holds its checksums against those of the build host. All times are those of
whole processes.
"""

from __future__ import annotations

import argparse
import sys
from typing import Final

from measure import (
    REPOSITORY,
    Contestant,
    demand,
    interleave,
    machine_line,
    qemu_version,
    report,
    table,
)

BUILD: Final = REPOSITORY / "guests" / "build"
VERDICT: Final = "PASS 8 checks"
OURS: Final = "dbgvmm"


def contestants(guest: str) -> list[Contestant]:
    """Who takes part. Raises BenchError if the guest is not built."""
    how = "run `make -C guests`"
    elf, elf64 = demand(BUILD / f"{guest}.elf", how), demand(BUILD / f"{guest}.elf64", how)
    plain = [sys.executable, str(REPOSITORY / "bench" / "plain_unicorn.py"), str(elf64)]
    qemu = [
        "qemu-system-x86_64", "-M", "pc", "-cpu", "max", "-accel", "tcg", "-m", "64", "-kernel", str(elf),
        "-display", "none", "-serial", "stdio", "-no-reboot", "-device", "isa-debug-exit,iobase=0xf4,iosize=4",
    ]  # fmt: skip
    return [
        Contestant(OURS, [sys.executable, "-m", "dbgvmm", "run", str(elf)], VERDICT),
        Contestant("bare Unicorn, memory writable and executable", plain, VERDICT),
        Contestant("bare Unicorn, text and data apart", [*plain, "--separate"], VERDICT),
        Contestant("QEMU TCG -icount shift=0,sleep=off", [*qemu, "-icount", "shift=0,sleep=off"], VERDICT),
        Contestant("QEMU TCG", qemu, VERDICT),
    ]


def main() -> None:
    """Measure, and print the table. Raises BenchError."""
    parser = argparse.ArgumentParser(description="Compare dbgvmm, bare Unicorn and QEMU on a CPU-bound guest.")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each (5)")
    parser.add_argument("--guest", default="cpubound", help="cpubound, or cpubound-small to try this out (cpubound)")
    options = parser.parse_args()
    print(f"## {options.guest}: {machine_line()}; {qemu_version()}\n")
    times = interleave(contestants(options.guest), options.rounds)
    ours = times[OURS].median()
    rows = [[name, runs.show(), f"{runs.median() / ours:.2f}"] for name, runs in times.items()]
    print(table([f"{options.rounds} runs each, in turn", "median (least..most)", f"{OURS} = 1"], rows))
    print()


if __name__ == "__main__":
    sys.exit(report(main))
