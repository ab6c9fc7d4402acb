"""The gdb stub: dbgvmm's against QEMU's, driven by one client (rsp.py). `python bench/gdb_stub.py [--rounds N]`.

Both run guests/cpubound to the beginning of one of its parts (`run_fib`, recursive calls) and are measured there. The
two take turns; the table has medians. Rows whose packet a stub does not offer say so. A condition that gdb itself
evaluates, as with QEMU it has to, is measured with the real gdb.
"""

from __future__ import annotations

import argparse
import random
import re
import socket
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Final

from measure import REPOSITORY, BenchError, demand, machine_line, qemu_version, report, table
from rsp import RspClient

from dbgvmm.debug.symbols import SymbolTable, load_symbols

BUILD: Final = REPOSITORY / "guests" / "build"
HOW: Final = "run `make -C guests`"
OURS, QEMU = "dbgvmm", "QEMU TCG"
PATTERN_AT: Final = 0x60_0000
PATTERN_SIZE: Final = 1 << 20
BREAKPOINTS: Final = 1000
GDB_EVALUATIONS: Final = 1000
UNUSED_CODE: Final = ("skip", "verdict")
"""Functions between which nothing runs: the breakpoints that are not hit begin there."""
NEVER: Final = bytes.fromhex("260007" "2201" "13" "27")
"""Agent bytecode: reg 7 (rsp); const8 1; equal; end. False at every call."""

STEPS: Final = "`vCont;s`, steps a second"
REGISTERS: Final = "`g`, a second"
MEMORY_HEX: Final = "memory by `m`, MB/s"
MEMORY_BINARY: Final = "memory by `x`, MB/s"
CONDITION: Final = "condition in the stub, never true: evaluations a second"
CONDITION_SLOWDOWN: Final = "the same: times the time without"
CONDITION_GDB: Final = "condition in gdb, never true: evaluations a second"
WATCH: Final = "watchpoint beside what is written constantly: times the time without"
IDLE: Final = f"{BREAKPOINTS} breakpoints that are not hit: times the time without"
TRACE: Final = "fast tracepoint that collects RDI and 8 bytes of stack: hits a second"
ROWS: Final = (
    STEPS, REGISTERS, MEMORY_HEX, MEMORY_BINARY, CONDITION, CONDITION_SLOWDOWN, CONDITION_GDB, WATCH, IDLE, TRACE,
)  # fmt: skip


@dataclass
class Guest:
    """The benchmark's guest. `calls`: how often run_fib calls fib."""

    name: str
    elf: Path
    symbols: SymbolTable
    calls: int

    def address(self, name: str) -> int:
        """A function's address. Raises BenchError."""
        symbol = self.symbols.find(name)
        if symbol is None:
            raise BenchError(f"{self.elf}: there is no function {name!r}: {HOW}")
        return symbol.address


@dataclass
class Figures:
    """What was measured of one stub, by row: one value for each round, None for what it does not offer."""

    values: dict[str, list[float | None]] = field(default_factory=dict)

    def add(self, row: str, value: float | None) -> None:
        """One round's value."""
        self.values.setdefault(row, []).append(value)

    def median(self, row: str) -> float | None:
        """None if it was not offered."""
        known = [value for value in self.values.get(row, []) if value is not None]
        return statistics.median(known) if known else None


def load_guest(name: str) -> Guest:
    """Raises BenchError if it is not built."""
    elf = demand(BUILD / f"{name}.elf", HOW)
    scale = int(demand(BUILD / name / "scale", HOW).read_text())
    fib = [0, 1]
    while len(fib) < 25:
        fib.append(fib[-1] + fib[-2])
    calls = sum(2 * fib[20 + number % 3 + 1] - 1 for number in range(2 * scale))
    return Guest(name, elf, load_symbols(elf.with_suffix(".elf64")), calls)


# -- the two stubs


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def command(who: str, guest: Guest, port: int) -> list[str]:
    """The command line that waits for a debugger on `port`."""
    if who == OURS:
        line = [sys.executable, "-m", "dbgvmm", "run", str(guest.elf), f"--gdb=127.0.0.1:{port}", "--wait"]
        return [*line, "--memory", "64M", "--serial", "null"]
    return [
        "qemu-system-x86_64", "-M", "pc", "-cpu", "max", "-accel", "tcg", "-m", "64", "-kernel", str(guest.elf),
        "-display", "none", "-serial", "null", "-monitor", "none", "-no-reboot", "-S", "-gdb", f"tcp:127.0.0.1:{port}",
        "-device", "isa-debug-exit,iobase=0xf4,iosize=4",
    ]  # fmt: skip


@contextmanager
def running(who: str, guest: Guest) -> Iterator[int]:
    """The machine, waiting for a debugger on the port given."""
    port = free_port()
    process = subprocess.Popen(
        command(who, guest, port), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield port
    finally:
        process.kill()
        process.wait()


@contextmanager
def attached(who: str, guest: Guest) -> Iterator[RspClient]:
    """A session with the machine, standing at the beginning of run_fib."""
    with running(who, guest) as port, RspClient(("127.0.0.1", port)) as client:
        client.run_to(guest.address("run_fib"))
        yield client


# -- what is measured


def rate(work: Callable[[], object], seconds: float, batch: int = 20) -> float:
    """How often a second `work` can be done, doing it for about so long."""
    for _ in range(batch):
        work()
    done, started = 0, perf_counter()
    while (elapsed := perf_counter() - started) < seconds:
        for _ in range(batch):
            work()
        done += batch
    return done / elapsed


def packets(client: RspClient, figures: Figures, seconds: float) -> None:
    """Steps, registers, memory."""
    before = client.rip()
    client.ask(b"vCont;s:1")
    if client.rip() == before:
        raise BenchError("vCont;s did not step")
    figures.add(STEPS, rate(lambda: client.ask(b"vCont;s:1"), seconds))
    figures.add(REGISTERS, rate(lambda: client.ask(b"g"), seconds))
    # What no run-length encoding can shorten.
    pattern = random.Random(1).randbytes(PATTERN_SIZE)
    client.write(PATTERN_AT, pattern)
    for row, read, offered in (
        (MEMORY_HEX, client.read_hex, True),
        (MEMORY_BINARY, client.read_binary, client.offers(b"binary-upload+")),
    ):
        if not offered:
            figures.add(row, None)
            continue
        if read(PATTERN_AT, PATTERN_SIZE) != pattern:
            raise BenchError(f"{row}: what was read is not what had been written")
        figures.add(row, rate(partial(read, PATTERN_AT, PATTERN_SIZE), seconds, 1) * PATTERN_SIZE / 1e6)


def part(client: RspClient) -> float:
    """Seconds that the rest of run_fib takes: up to its return address, which is on the stack."""
    return client.run_to(client.word(client.stack_pointer()))


def plain(who: str, guest: Guest) -> float:
    """Seconds for run_fib with nothing set."""
    with attached(who, guest) as client:
        return part(client)


def condition(who: str, guest: Guest, figures: Figures, without: float) -> None:
    """Evaluations a second of a condition at `fib`, which is never true, and what they cost the guest."""
    with attached(who, guest) as client:
        if not client.offers(b"ConditionalBreakpoints+"):
            figures.add(CONDITION, None)
            figures.add(CONDITION_SLOWDOWN, None)
            return
        client.demand(b"Z0,%x,1;X%x,%b" % (guest.address("fib"), len(NEVER), NEVER.hex().encode()))
        seconds = part(client)
    # All of the time counts, the guest's own work included: it is the rate that a person sees.
    figures.add(CONDITION, guest.calls / seconds)
    figures.add(CONDITION_SLOWDOWN, seconds / without)


def condition_by_gdb(who: str, guest: Guest, figures: Figures) -> None:
    """The same, gdb evaluating: the time of a fixed number of stops, at the last of which the condition is true."""
    with running(who, guest) as port:
        script = [
            "set pagination off", "set confirm off", f"file {guest.elf.with_suffix('.elf64')}",
            f"target remote 127.0.0.1:{port}", "break run_fib", "continue", "delete", "set $evaluations = 0",
            "set breakpoint condition-evaluation host", f"break *fib if ++$evaluations == {GDB_EVALUATIONS}",
            "python import time; started = time.monotonic()", "continue",
            "python print('seconds', time.monotonic() - started, gdb.parse_and_eval('$evaluations'))", "kill",
        ]  # fmt: skip
        line = ["gdb", "-nx", "-q", "-batch", *(word for text in script for word in ("-ex", text))]
        done = subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False)
    found = re.search(rf"seconds ([0-9.]+) {GDB_EVALUATIONS}$", done.stdout, re.MULTILINE)
    if found is None:
        raise BenchError(f"gdb has not counted evaluations:\n{done.stdout[-500:]}{done.stderr[-500:]}")
    figures.add(CONDITION_GDB, GDB_EVALUATIONS / float(found[1]))


def watchpoint(who: str, guest: Guest, figures: Figures, without: float) -> None:
    """A word at the beginning of the stack's page, which the calls do not reach."""
    with attached(who, guest) as client:
        watched = client.stack_pointer() & ~0xFFF
        if client.ask(b"Z2,%x,8" % watched) != b"OK":
            figures.add(WATCH, None)
            return
        figures.add(WATCH, part(client) / without)


def idle_breakpoints(who: str, guest: Guest, figures: Figures, without: float) -> None:
    """Breakpoints, some in the guest's own pages of code, of which none is hit."""
    first, last = (guest.address(name) for name in UNUSED_CODE)
    near = range(first, last)
    places = [*near, *(PATTERN_AT + 16 * number for number in range(BREAKPOINTS - len(near)))]
    with attached(who, guest) as client:
        for place in places:
            client.demand(b"Z0,%x,1" % place)
        figures.add(IDLE, part(client) / without)


def tracepoint(who: str, guest: Guest, figures: Figures) -> None:
    """A fast tracepoint at `fib`: the newest frames are kept."""
    with attached(who, guest) as client:
        if not client.offers(b"FastTracepoints+"):
            figures.add(TRACE, None)
            return
        place = b"%x" % guest.address("fib")
        for packet in (b"QTinit", b"QTBuffer:circular:1", b"QTDP:1:%b:E:0:0:F5-", b"QTDP:-1:%b:R20M7,0,8", b"QTStart"):
            client.demand(packet.replace(b"%b", place))
        figures.add(TRACE, guest.calls / part(client))
        if b"tframes" not in client.demand(b"qTStatus"):
            raise BenchError("the tracepoint has collected nothing")


def round_of(who: str, guest: Guest, figures: Figures, seconds: float, packets_only: bool) -> None:
    """Everything once."""
    with attached(who, guest) as client:
        packets(client, figures, seconds)
    if not packets_only:
        without = plain(who, guest)
        condition(who, guest, figures, without)
        condition_by_gdb(who, guest, figures)
        watchpoint(who, guest, figures, without)
        idle_breakpoints(who, guest, figures, without)
        tracepoint(who, guest, figures)


def show(value: float | None) -> str:
    """A rate or a factor."""
    return "not offered" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def main() -> None:
    """Measure, and print the table. Raises BenchError."""
    parser = argparse.ArgumentParser(description="Compare dbgvmm's gdb stub with QEMU's.")
    parser.add_argument("--rounds", type=int, default=3, help="rounds, in which the stubs take turns (3)")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each rate (2)")
    parser.add_argument("--guest", default="cpubound", help="cpubound, or cpubound-small to try this out (cpubound)")
    parser.add_argument("--packets", action="store_true", help="only the rates of packets, not what running costs")
    options = parser.parse_args()
    guest = load_guest(options.guest)
    print(f"## gdb stubs, {guest.name}: {machine_line()}; {qemu_version()}\n")
    figures = {OURS: Figures(), QEMU: Figures()}
    for number in range(options.rounds):
        for who, mine in figures.items():
            if sys.stderr.isatty():
                print(f"\rround {number + 1} of {options.rounds}: {who:<20}\r", end="", file=sys.stderr, flush=True)
            round_of(who, guest, mine, options.seconds, options.packets)
    rows = []
    for row in ROWS:
        if row in figures[OURS].values:
            ours, theirs = figures[OURS].median(row), figures[QEMU].median(row)
            ratio = f"{ours / theirs:.2f}" if ours is not None and theirs else ""
            rows.append([row, show(ours), show(theirs), ratio])
    print(table([f"medians of {options.rounds} rounds", OURS, QEMU, f"{OURS} / {QEMU}"], rows))
    print()


if __name__ == "__main__":
    sys.exit(report(main))
