"""Counting while Debian's Linux boots: exact, unnoticed, kernel and processes apart."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dbgvmm import Machine, MachineConfig
from dbgvmm.debug.stops import StopKind
from dbgvmm.profile.functions import function_profile
from dbgvmm.profile.mix import instruction_mix

LINUX = Path(os.environ.get("DBGVMM_LINUX", Path(__file__).parents[2] / "build" / "linux"))
COMMAND_LINE = "cryptomgr.notests=1 console=ttyS0 nokaslr pci=off acpi=off noapic nolapic nopti mitigations=off"
STEP = 100_000_000
LATEST = 1_500_000_000
"""Instructions from power-on with vmlinux at which its init has long said so."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not (LINUX / "vmlinux").exists(), reason=f"no Linux in {LINUX}: run scripts/linux.sh {LINUX}"),
]


def boot(output: bytearray) -> Machine:
    machine = Machine(MachineConfig(memory=256 << 20), output.extend)
    machine.boot(LINUX / "vmlinux", COMMAND_LINE, LINUX / "initramfs.cpio")
    return machine


def test_linux_is_counted_exactly_and_does_not_notice() -> None:
    plain_text, text = bytearray(), bytearray()
    plain, counted = boot(plain_text), boot(text)
    counted.counters.start()
    moment = 0
    while b"dbgvmm: shell ready" not in text:
        moment += STEP
        assert moment < LATEST
        assert counted.run(max_count=moment).kind is StopKind.LIMIT
    plain.run(max_count=moment)
    assert text == plain_text and b"Linux version" in text
    assert list(plain.cpu.gpr) == list(counted.cpu.gpr)
    assert (plain.cpu.rip, plain.cpu.cr3, plain.count) == (counted.cpu.rip, counted.cpu.cr3, counted.count)
    counts = counted.counters.counts()
    assert counts.total == moment == sum(counts.instructions.values())
    assert moment == sum(unit.instructions for unit in counts.units)
    assert 100_000 < counts.user_total < moment
    assert all(item.address < 1 << 47 for item in counts.instructions if item.user)
    mix = instruction_mix(counts)
    assert sum(row.times for row in mix.mnemonics) == moment and mix.user_total == counts.user_total
    profile = function_profile(counts, counted.symbols)
    assert sum(item.instructions for item in profile.functions.values()) == moment
    calls = counts.indirect_calls
    assert all(sum(targets.values()) == counts.instructions[item] for item, targets in calls.items())
    assert len(calls) > 500
