"""Our self-checking guests under us, in every mode: they pass under QEMU too (tests/guests), so they test the PC."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest

from dbgvmm import Machine, MachineConfig
from dbgvmm.debug.inside.check import check_machine
from dbgvmm.debug.stops import Stop, StopKind

GUESTS = ("selftest", "exceptions", "smc", "pagetables", "cpubound-small", "modes")
PASSED = 1
"""isa-debug-exit turns the guest's 0 into this."""


def run(kernel: Path, *, pieces: tuple[int, ...] = (), steps: int = 0, **options: object) -> tuple[Machine, Stop, str]:
    """Run a guest to its end, with stops at the counts in `pieces` and some single steps behind each."""
    output: list[bytes] = []
    machine = Machine(MachineConfig(memory=64 << 20, **options), output.append)  # type: ignore[arg-type]  # vary by test
    machine.boot(kernel)
    for count in pieces:
        assert machine.run(max_count=count).kind is StopKind.LIMIT
        assert machine.count == count
        for _ in range(steps):
            machine.step()
        assert machine.count == count + steps
    return machine, machine.run(max_count=2_000_000_000), b"".join(output).decode("latin1")


@pytest.mark.parametrize("name", GUESTS)
def test_a_guest_passes_its_own_checks_and_sees_no_difference_between_modes(guest: Callable[[str], Path], name: str) -> None:
    """How the monitor goes about its work changes nothing: not what the guest prints, not the count at which it ends."""
    ends: set[tuple[int, str]] = set()
    for user, validate in product(("bt", "direct"), ("eager", "lazy")):
        machine, stop, output = run(guest(name), user=user, validate=validate)
        assert check_machine(machine).errors == ()
        assert "FAIL" not in output and "PASS" in output
        assert (stop.kind, stop.exit_code) == (StopKind.EXIT, PASSED)
        ends.add((machine.count, output))
        machine.close()
    assert len(ends) == 1, {count for count, _ in ends}


@pytest.mark.parametrize("name", ["selftest", "smc"])
def test_two_runs_are_the_same_to_the_instruction(guest: Callable[[str], Path], name: str) -> None:
    first, _, text = run(guest(name))
    second, _, again = run(guest(name))
    assert (first.count, text) == (second.count, again)


@pytest.mark.parametrize("user", ["bt", "direct"])
@pytest.mark.parametrize("name", ["selftest", "exceptions", "smc"])
def test_stops_and_steps_change_nothing(guest: Callable[[str], Path], name: str, user: str) -> None:
    """Timer interrupts arrive at the same instructions, however the run is cut into pieces."""
    whole, _, text = run(guest(name))
    cut, _, again = run(guest(name), pieces=(20_001, 50_000, 77_777, 100_003), steps=25, user=user)
    assert (whole.count, text) == (cut.count, again)


def test_breakpoints_leave_memory_and_count_alone(guest: Callable[[str], Path]) -> None:
    whole, _, text = run(guest("selftest"))
    output: list[bytes] = []
    machine = Machine(MachineConfig(memory=64 << 20), output.append)
    machine.boot(guest("selftest"))
    machine.run(max_count=60_000)
    address = machine.cpu.rip
    before = machine.memory.peek(address, 16)
    machine.breakpoints.add(address)
    hits = 0
    while (stop := machine.run()).kind is StopKind.BREAKPOINT and hits < 50:
        assert machine.cpu.rip == address
        hits += 1
    assert machine.memory.peek(address, 16) == before
    machine.breakpoints.clear()
    if not stop.kind.final:
        machine.run()
    assert (machine.count, b"".join(output).decode("latin1")) == (whole.count, text)


def test_a_small_translation_cache_is_flushed_and_the_guest_does_not_notice(guest: Callable[[str], Path]) -> None:
    whole, _, text = run(guest("selftest"))
    small, stop, again = run(guest("selftest"), tc_pages=40)
    assert small.stats()["tc_flushes"] > 0
    assert stop.exit_code == PASSED
    assert (small.count, again) == (whole.count, text)


def test_stores_that_keep_hitting_traces_are_retranslated(guest: Callable[[str], Path]) -> None:
    machine, _, _ = run(guest("pagetables"))
    figures = machine.stats()
    assert figures["adapted"] > 0
    assert figures["adapted_stores"] > 0


def test_a_triple_fault_tells_its_chain(guest: Callable[[str], Path]) -> None:
    _, stop, _ = run(guest("triplefault"))
    assert stop.kind is StopKind.TRIPLE_FAULT
    assert "#DF" in stop.text


def test_a_halt_that_nothing_ends_stops_the_machine(guest: Callable[[str], Path]) -> None:
    machine, stop, output = run(guest("hello"))
    assert stop.kind is StopKind.HALT
    assert "Hello" in output
    assert machine.run().kind is StopKind.HALT
