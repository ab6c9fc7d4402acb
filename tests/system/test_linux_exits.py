"""The ledger of a Linux that runs, against what Linux itself has counted."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

import pytest

from dbgvmm import Machine, MachineConfig
from dbgvmm.bt.mechanisms import Mechanism
from dbgvmm.debug.hits import BreakpointHit
from dbgvmm.profile.exits import Exits
from dbgvmm.profile.guest_events import EventKind
from dbgvmm.profile.moments import POWER_ON, Interval
from dbgvmm.profile.spans import spans_of
from dbgvmm.profile.timeline import Timeline

LINUX = Path(os.environ.get("DBGVMM_LINUX", Path(__file__).parents[2] / "build" / "linux"))
COMMAND_LINE = "cryptomgr.notests=1 console=ttyS0 nokaslr pci=off acpi=off noapic nolapic nopti mitigations=off quiet"
READ, WRITE = 0, 1
BETWEEN_KEYS = 100_000
TIMER_VECTOR = "vector 0x30"

pytestmark = [
    pytest.mark.xdist_group("linux-exits"),  # one boot for all of them
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(not (LINUX / "vmlinuz").exists(), reason=f"no Linux in {LINUX}: run scripts/linux.sh {LINUX}"),
]


class Shell:
    """A Linux with a shell on its serial line."""

    def __init__(self) -> None:
        self.printed = bytearray()
        self._wanted = b""
        self.machine = Machine(MachineConfig(), self._take)
        self.machine.boot(LINUX / "vmlinuz", COMMAND_LINE, LINUX / "initramfs.cpio")
        self._until(b"shell ready")
        self.run("true")  # behind it the shell waits for keys, and the CPU is halted

    def _take(self, data: bytes) -> None:
        self.printed += data
        if self._wanted and self._wanted in self.printed:
            self._wanted = b""
            self.machine.request_stop("printed")

    def _until(self, text: bytes) -> None:
        self._wanted = text
        assert self.machine.run().text == "printed"

    def run(self, line: str) -> str:
        """Type a line, and run until it is done. Returns what was printed."""
        self.printed.clear()
        for byte in f"{line}; echo do''ne\n".encode():
            self.machine.serial_input(bytes([byte]))
            self.machine.run(max_count=self.machine.count + BETWEEN_KEYS)
        self._until(b"done\r\n")
        return self.printed.decode("latin-1")


@pytest.fixture(scope="module")
def shell() -> Shell:
    return Shell()


def timer_interrupts(interval: Interval) -> int:
    return sum(row.count for row in interval.details(Mechanism.INTERRUPT) if row.detail == TIMER_VECTOR)


def page_faults(interval: Interval) -> int:
    """All that the guest got: those at an instruction's fetch are no exits of their own."""
    return sum(row.count for row in interval.details(Mechanism.DELIVERY) if row.detail == "#PF")


def number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    assert found is not None, text
    return int(found[1])


def test_the_ledger_adds_up(shell: Shell) -> None:
    machine = shell.machine
    whole = machine.exits.snapshot() - POWER_ON
    assert whole.exits == machine.engine.exits
    assert whole.count_of(Mechanism.OTHER) == 0
    assert 0 < whole.guest_seconds < whole.seconds
    assert whole.count_of(Mechanism.HIDDEN_FAULT) + whole.count_of(Mechanism.AD_UPDATE) == machine.mmu.hidden_faults
    assert whole.count_of(Mechanism.TRUE_FAULT) == machine.mmu.true_faults


def test_timer_interrupts_are_those_that_linux_has_counted(shell: Shell) -> None:
    """Exactly, but for those between the count's reading and its arrival here."""
    exits: Exits = shell.machine.exits
    before = timer_interrupts(exits.since())
    counted = number(r"0: +(\d+) .*timer", shell.run("cat /proc/interrupts"))
    after = timer_interrupts(exits.since())
    assert before <= counted <= after


def test_page_faults_are_those_that_linux_has_counted(shell: Shell) -> None:
    """Exactly: /proc/vmstat has the page faults that we have delivered, and one for each page that Linux handles in advance,
    without a fault (__get_user_pages: a new program's arguments). Both are looked at where Linux sums its own counts up."""
    machine = shell.machine
    assert machine.os.name == "Linux"
    callers: Counter[str] = Counter()
    read: list[tuple[int, Counter[str]]] = []

    @machine.on_breakpoint("handle_mm_fault")
    def handled(hit: BreakpointHit) -> None:
        callers[machine.symbols.describe(machine.memory.u64[machine.registers.rsp]).partition("+")[0]] += 1

    @machine.on_breakpoint("all_vm_events")
    def summed_up(hit: BreakpointHit) -> None:
        read.append((page_faults(machine.exits.since()), Counter(callers)))

    counts, moments = [], []
    for line in ("true", "i=0; while [ $i -lt 50 ]; do /bin/true; i=$((i+1)); done"):
        read.clear()
        counts.append(number(r"pgfault (\d+)", shell.run(f"{line}; grep pgfault /proc/vmstat")))
        moments.append(read[0])  # the first of its reads has the line
    handled.remove()
    summed_up.remove()
    (faults_before, calls_before), (faults_after, calls_after) = moments
    calls, faults = calls_after - calls_before, faults_after - faults_before
    assert set(calls) == {"do_user_addr_fault", "__get_user_pages"}
    assert faults == calls["do_user_addr_fault"] > 1000
    assert counts[1] - counts[0] == faults + calls["__get_user_pages"]


def test_system_calls_are_those_that_a_program_makes(shell: Shell) -> None:
    def calls(blocks: int) -> Counter[int]:
        machine = shell.machine
        recording = machine.exits.record(1 << 18)
        shell.run(f"dd if=/dev/zero of=/dev/null bs=1 count={blocks}")
        machine.exits.stop_recording()
        assert not recording.dropped_text
        entries = [event for event in recording.events if event.kind is EventKind.SYSTEM_CALL]
        assert len(entries) == sum(
            row.count for row in (machine.exits.snapshot() - recording.began).details(Mechanism.CALLOUT)
            if row.detail == "syscall"
        )  # fmt: skip
        return Counter(event.number for event in entries)

    few, many = calls(1000), calls(3000)
    difference = {call: many[call] - few[call] for call in {*few, *many} if abs(many[call] - few[call]) > 20}
    assert difference == {READ: 2000, WRITE: 2000}


def test_a_timeline_of_linux_pairs_what_it_began(shell: Shell) -> None:
    machine = shell.machine
    recording = machine.exits.record()
    shell.run("/bin/true")
    machine.exits.stop_recording()
    spans = spans_of(recording.events)
    paired = Counter((span.kind, span.end is not None) for span in spans)
    for kind in (EventKind.INTERRUPT, EventKind.EXCEPTION, EventKind.SYSTEM_CALL):
        assert paired[kind, True] > 20 * paired[kind, False], paired
    assert paired[EventKind.SWITCH, True] > 2
    counts = [item.exit.count for item in recording.exits]
    assert counts == sorted(counts)
    names = {event["name"] for event in Timeline(recording, machine.symbols).document()["traceEvents"]}
    assert {"#PF", "interrupt 0x30", "halted"} <= names
