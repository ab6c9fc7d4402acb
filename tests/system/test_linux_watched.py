"""Debian's Linux while its first programs run: watched where it writes all the time, and traced, it does what it does."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from dbgvmm import Machine, MachineConfig
from dbgvmm.debug.stops import StopKind
from dbgvmm.debug.trace_compiler import NAMES
from dbgvmm.debug.watchpoints import Watch
from gdbstub.tracing import CollectMemory, CollectRegisters, Experiment, Key, Plan, Tracepoint

REPOSITORY = Path(__file__).parent.parent.parent
LINUX = Path(os.environ.get("DBGVMM_LINUX", REPOSITORY / "build" / "linux"))
COMMAND_LINE = "cryptomgr.notests=1 console=ttyS0 nokaslr pci=off acpi=off noapic nolapic nopti mitigations=off"
BEFORE_USERS = b"Run /init as init process"
WINDOW = 12_000_000
GENERAL = sum(1 << number for number, name in enumerate(NAMES) if number <= NAMES.index("gs_base"))
PAGE = 0x1000

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not (LINUX / "vmlinux").exists(), reason=f"no Linux in {LINUX}: run scripts/linux.sh {LINUX}"),
]


def before_users() -> Machine:
    """A machine that is about to start its first program."""
    machine = Machine(MachineConfig(memory=256 << 20))
    machine.boot(LINUX / "vmlinux", COMMAND_LINE, LINUX / "initramfs.cpio")
    while BEFORE_USERS not in machine.serial_log:
        assert machine.run(max_count=machine.count + 500_000).kind is StopKind.LIMIT
    return machine


def per_cpu(machine: Machine) -> int:
    """Where the kernel's per-CPU data is."""
    cpu = machine.cpu
    return cpu.kernel_gs_base if cpu.cpl == 3 else cpu.segs[5].base


def watch(machine: Machine) -> None:
    """Words on the per-CPU page and on the current stack's that nobody writes."""
    machine.watchpoints.add(Watch((per_cpu(machine) & -PAGE) + 2 * PAGE - 8, 8))
    machine.watchpoints.add(Watch((machine.cpu.gpr[4] & -PAGE) + 0x40, 8))


def trace(machine: Machine) -> Experiment:
    """Collect at each system call."""
    experiment = machine.tracing.experiment
    key = Key(1, machine.cpu.lstar)
    actions = CollectRegisters(GENERAL), CollectMemory(None, per_cpu(machine), 16)
    experiment.define(Tracepoint(key, Plan(actions=actions), 0, 5), enabled=True)
    experiment.complete(key)
    experiment.start()
    return experiment


def outcome(machine: Machine) -> tuple[int, list[int], int, str]:
    """What the guest is behind the window."""
    end = machine.count + WINDOW
    while (stop := machine.run(max_count=end)).kind is StopKind.WATCHPOINT:
        pass
    assert stop.kind is StopKind.LIMIT, stop
    machine.watchpoints.clear()
    memory = hashlib.sha256(machine.ram.bytes).hexdigest()
    return machine.count, list(machine.cpu.gpr), machine.cpu.rip, memory


def test_a_watched_and_traced_linux_does_what_it_does() -> None:
    plain = outcome(before_users())
    machine = before_users()
    watch(machine)
    experiment = trace(machine)
    assert outcome(machine) == plain
    assert experiment.tracepoints[0].hits == len(experiment.buffer) > 100
    assert machine.dispatcher.watching.guards > 100
