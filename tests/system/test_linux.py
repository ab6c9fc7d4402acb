"""Debian's Linux: to a shell, through a script, under gdb. Prepared by tests/linux/prepare.py."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

import pytest

from dbgvmm import Machine, MachineConfig
from dbgvmm.debug.inside.check import check_machine
from dbgvmm.debug.inside.units import totals
from dbgvmm.debug.stops import StopKind
from dbgvmm.gdb import GdbSession, Reason, TimedOut

REPOSITORY = Path(__file__).parent.parent.parent
LINUX = Path(os.environ.get("DBGVMM_LINUX", REPOSITORY / "build" / "linux"))
COMMAND_LINE = "console=ttyS0 nokaslr pci=off acpi=off noapic nolapic nopti mitigations=off reboot=k dbgvmm.script="
STARTUP_64 = 0x1000000
"""Where the decompressed kernel begins, in its identity mapping."""
KERNEL_TEXT = 0xFFFFFFFF81000000
RAM = 256 << 20
SPARE = 400 << 20

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(not (LINUX / "vmlinuz").exists(), reason=f"no Linux in {LINUX}: run scripts/linux.sh {LINUX}"),
]
WITH_PEAK = """
import resource, subprocess, sys
status = subprocess.call(sys.argv[2:])
with open(sys.argv[1], "w") as file:
    file.write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(status)
"""
"""Runs a command and writes down its peak of memory. The peak of a child counts from the fork on, with all the memory of its
parent: so the parent is this small one, and not the process of the tests."""


def command(script: str, *options: str) -> list[str]:
    kernel, initrd = str(LINUX / "vmlinuz"), str(LINUX / "initramfs.cpio")
    return [sys.executable, "-m", "dbgvmm", "run", kernel, "--initrd", initrd, "--append", COMMAND_LINE + script, *options]


def test_a_script_of_200_forks_and_a_checksum_runs_and_linux_leaves(tmp_path: Path) -> None:
    """And its process stays small."""
    statistics, output, messages, peak = (tmp_path / name for name in ("stats.json", "output", "messages", "peak"))
    with output.open("wb") as stdout, messages.open("wb") as stderr:
        status = subprocess.call(
            [sys.executable, "-c", WITH_PEAK, str(peak), *command("test", "--stats", str(statistics))],
            stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr,
        )  # fmt: skip
    assert status == 0, messages.read_text()
    printed = output.read_text(errors="replace")
    assert "dbgvmm: shell ready" in printed
    assert json.loads((LINUX / "guest.json").read_text())["test_line"] in printed
    assert "asked for a reset" in messages.read_text()
    figures = json.loads(statistics.read_text())
    assert figures["instructions"] > 1_000_000_000
    assert figures["translation_units"] > 10_000
    assert int(peak.read_text()) << 10 < RAM + SPARE


def demand_consistency(machine: Machine) -> None:
    """The shadow is as the guest's tables say, and what is known of units and traces sums up."""
    assert check_machine(machine).errors == ()
    cache = totals(machine)
    assert cache.live + cache.precise + sum(cache.reasons.values()) == cache.made > 10_000
    assert cache.reasons["guest wrote its code"] > 100
    assert 0 < cache.missed < cache.asked
    assert 2 < cache.expansion < 8
    noted = machine.mmu.writers.frames.values()
    assert 0 < sum(frame.faults for frame in noted) <= machine.mmu.trace_faults
    assert 0 < sum(frame.stores for frame in noted) <= machine.dispatcher.adaptation.adapted_stores


def test_linux_boots_the_same_twice() -> None:
    """To the instruction, the byte and the exit, however slow the host is (the engine sizes its TLB by the clock)."""

    def boot(pause: float) -> tuple[bytes, int, list[int], dict[str, float]]:
        output: list[bytes] = []
        machine = Machine(MachineConfig(memory=RAM), output.append)
        machine.service = lambda: time.sleep(pause)
        machine.boot(LINUX / "vmlinux", "cryptomgr.notests=1 " + COMMAND_LINE + "boot", LINUX / "initramfs.cpio")
        assert machine.run().kind is StopKind.RESET
        demand_consistency(machine)
        figures = {name: value for name, value in machine.stats().items() if not name.startswith("seconds_")}
        return b"".join(output), machine.cpu.rip, list(machine.cpu.gpr), figures

    assert boot(0.0) == boot(0.02)


def test_linux_sees_no_difference_between_the_modes_of_the_monitor() -> None:
    """Each byte is printed and each interrupt arrives at the same count, and all of memory is the same at the end."""

    def boot(user: str, validate: str) -> tuple[list[tuple[int, bytes]], list[tuple[int, int]], list[int], str]:
        output: list[tuple[int, bytes]] = []
        interrupts: list[tuple[int, int]] = []
        config = MachineConfig(memory=RAM, user=user, validate=validate)
        with Machine(config, lambda data: output.append((machine.count, data))) as machine:
            machine.dispatcher.on_interrupt = lambda vector: interrupts.append((machine.count, vector))
            machine.boot(LINUX / "vmlinux", "cryptomgr.notests=1 " + COMMAND_LINE + "boot", LINUX / "initramfs.cpio")
            assert machine.run().kind is StopKind.RESET
            assert machine.dispatcher.direct is None or machine.dispatcher.direct.blocks > 10_000
            return output, interrupts, list(machine.cpu.gpr), sha256(machine.ram.bytes).hexdigest()

    assert boot("bt", "eager") == boot("direct", "lazy")


def test_linux_boots_with_no_option_but_its_console() -> None:
    """With KASLR, page table isolation and mitigations as it decides, and looking for PCI, ACPI and APICs in vain."""
    lines = "console=ttyS0 reboot=k dbgvmm.script=boot"
    done = subprocess.run(
        [*command("boot")[:-1], lines], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "dbgvmm: shell ready" in done.stdout
    assert "asked for a reset" in done.stderr


def linux_session(script: str) -> GdbSession:
    return GdbSession.run(LINUX / "vmlinuz", initrd=LINUX / "initramfs.cpio", append=COMMAND_LINE + script, stop_timeout=600)


@pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb is not installed")
def test_gdb_breaks_steps_reads_and_interrupts_a_booting_linux() -> None:
    with linux_session("boot") as gdb:
        gdb.break_at(STARTUP_64)
        stop = gdb.continue_()
        assert (stop.reason, stop.pc) == (Reason.BREAKPOINT, STARTUP_64)
        assert "lea" in gdb.execute(f"x/6i {STARTUP_64:#x}")
        assert gdb.step_instruction().pc != STARTUP_64
        assert "RFL=" in gdb.monitor("info registers")
        gdb.delete()
        gdb.resume()
        with pytest.raises(TimedOut):
            gdb.wait_for_stop(3)
        stop = gdb.interrupt()
        assert stop.signal == "SIGINT" and stop.pc is not None
        assert stop.pc >= KERNEL_TEXT or stop.pc < 1 << 47
        assert len(gdb.read_memory("$pc", 16)) == 16


@pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb is not installed")
def test_a_session_types_into_linux_shell_and_stops_it_there() -> None:
    with linux_session("") as gdb:
        gdb.continue_to_output("dbgvmm: shell ready")
        gdb.serial_input("echo $((6 * 7))-is-the-answer\n")
        assert "42-is-the-answer" in gdb.continue_to_output("42-is-the-answer")
        assert gdb.register("cr0") & 1 << 31
