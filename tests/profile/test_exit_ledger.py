"""Every exit is of one mechanism, and all mechanisms and translated code add up to the run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

import pytest

from dbgvmm import Machine
from dbgvmm.bt.mechanisms import Mechanism, detail_text, key_of, parts
from dbgvmm.bt.watching import Watch
from dbgvmm.profile.moments import POWER_ON, Interval

GUESTS = ("hello", "exceptions", "pagetables", "smc", "modes", "selftest", "triplefault", "cpubound-small")
COM1 = 0x3F8
CLOCK_USERS = ("dbgvmm.hardware.meter", "dbgvmm.hardware.engine", "dbgvmm.machine")

Booted = Callable[..., Machine]


@dataclass(frozen=True)
class Finished:
    """A guest that ran to its end, with a clock that advances by one whenever it is read."""

    machine: Machine
    whole: Interval
    ticks: int


@pytest.fixture(params=[(guest, user) for guest in GUESTS for user in ("bt", "direct")], ids=lambda item: "-".join(item))
def finished(request: pytest.FixtureRequest, booted: Booted, monkeypatch: pytest.MonkeyPatch) -> Finished:
    name, user = request.param
    reads = count()
    for module in CLOCK_USERS:
        monkeypatch.setattr(f"{module}.perf_counter", lambda: float(next(reads)))
    machine = booted(name, user=user)
    machine.run()
    return Finished(machine, machine.exits.snapshot() - POWER_ON, int(machine.seconds_total))


def test_the_ledger_is_complete_and_adds_up(finished: Finished) -> None:
    """One test for all, since each guest runs for a while."""
    machine, whole = finished.machine, finished.whole
    mmu, stats = machine.mmu, machine.stats()

    assert whole.exits == machine.engine.exits
    assert whole.count_of(Mechanism.OTHER) == 0

    # Each exit and the entry takes the ticks between its first and its last look at the clock. What is left is one tick in
    # front of each and one at the end: translated code, and nothing else.
    assert whole.seconds == finished.ticks
    assert whole.guest_seconds == whole.exits + whole.count_of(Mechanism.ENTRY) + 1
    assert all(seconds > 0 for _, seconds in whole.cells.values())
    assert sum(row.seconds for row in whole.rows()) == whole.vmm_seconds
    assert sum(row.count for row in whole.rows() if row.is_exit) == whole.exits

    assert whole.count_of(Mechanism.HIDDEN_FAULT) + whole.count_of(Mechanism.AD_UPDATE) == mmu.hidden_faults
    assert whole.count_of(Mechanism.TRUE_FAULT) == mmu.true_faults
    assert whole.count_of(Mechanism.TRACE) == mmu.trace_faults
    assert whole.count_of(Mechanism.TRANSLATION) >= machine.cache.units_made
    assert whole.count_of(Mechanism.STEP) + whole.count_of(Mechanism.STEP_CALLOUT) <= machine.dispatcher.stepper.steps
    assert whole.count_of(Mechanism.CR3_SWITCH) <= machine.cr3_loads
    assert stats["interrupts"] == whole.count_of(Mechanism.INTERRUPT)
    assert stats["exceptions"] == whole.count_of(Mechanism.DELIVERY)


def cells(machine: Machine, mechanism: Mechanism) -> dict[str, int]:
    rows = machine.exits.since().details(mechanism)
    return {row.detail: row.count for row in rows}


def test_each_byte_that_a_guest_prints_is_an_exit_for_the_serial_port(booted: Booted) -> None:
    machine = booted("pagetables")
    machine.run()
    assert cells(machine, Mechanism.PORT)[f"out {COM1:#x}"] == len(machine.serial_log) + 1  # the divisor's lower byte


def test_ports_are_told_apart_with_their_direction(booted: Booted) -> None:
    machine = booted("exceptions")
    machine.run()
    ports = cells(machine, Mechanism.PORT)
    denied = 4  # user code that may not: #GP
    assert sum(ports.values()) == machine.callouts.port_callouts.accesses + denied
    assert ports["out 0xf4"] == 1  # how the guest ends
    assert ports["in 0x21"] == 3
    assert ports["out 0x21"] == 6


def test_exceptions_and_true_faults_are_those_that_the_guest_provokes(booted: Booted) -> None:
    machine = booted("exceptions")
    machine.run()
    delivered = cells(machine, Mechanism.DELIVERY)
    assert delivered == {"#GP": 67, "#PF": 52, "#DB": 39, "#UD": 28, "#DE": 11, "#NM": 8, "#NP": 6, "#SS": 5, "#MF": 2}
    faults = cells(machine, Mechanism.TRUE_FAULT)
    assert sum(faults.values()) == machine.mmu.true_faults == 41
    assert faults["not present, read, user (error 0x4)"] == 2


def test_address_spaces_of_a_guest_are_as_many_exits(booted: Booted) -> None:
    machine = booted("pagetables")
    machine.run()
    assert cells(machine, Mechanism.CR3_SWITCH) == {"": machine.cr3_loads - 1}  # the first one is stepped: 32-bit code


def test_traces_are_told_apart_by_what_is_on_the_page(booted: Booted) -> None:
    machine = booted("smc")
    machine.run()
    traces = cells(machine, Mechanism.TRACE)
    assert set(traces) <= {"page table", "code", "page table and code"}
    assert traces["code"] > 100


def test_an_access_to_a_watched_page_is_no_trace(booted: Booted) -> None:
    machine = booted("hello")
    machine.watchpoints.add(Watch(0x10C000 - 8, 8))  # the stack's first word
    machine.run()
    assert machine.exits.since().count_of(Mechanism.WATCH) > 0
    assert machine.exits.since().count_of(Mechanism.TRACE) == 0


def test_a_breakpoint_is_an_exit_of_its_own(booted: Booted) -> None:
    machine = booted("hello")
    machine.breakpoints.add(0x106000)
    machine.run()
    before = machine.exits.snapshot()
    machine.step()
    after = machine.exits.snapshot() - before
    assert after.instructions == 1
    assert after.exits == after.count_of(Mechanism.PRECISE_END) + after.count_of(Mechanism.WINDOW_FAULT)
    assert after.count_of(Mechanism.ENTRY) == 1


def test_a_device_in_memory_is_work_but_no_exit(booted: Booted) -> None:
    machine = booted("hello")
    hole = 0xFEE0_0000
    before = machine.exits.snapshot()
    machine.mmu.mmio_read(hole, 4)
    machine.mmu.mmio_write(hole, 4, 0)
    happened = machine.exits.snapshot() - before
    assert happened.count_of(Mechanism.MMIO) == 2
    assert happened.exits == 0


def test_waiting_for_people_is_not_the_monitors_time(booted: Booted) -> None:
    machine = booted("selftest")
    calls = []
    machine.idle = calls.append
    machine.run()
    assert machine.exits.since().count_of(Mechanism.OUTSIDE) == len(calls) > 0
    assert machine.stats()["seconds_outside"] > 0


def test_an_exit_that_ends_the_run_by_a_triple_fault_is_counted(booted: Booted) -> None:
    machine = booted("triplefault")
    machine.run()
    assert machine.exits.since().exits == machine.engine.exits
    assert cells(machine, Mechanism.DELIVERY) == {"#UD": 1}


@pytest.mark.parametrize("mechanism", list(Mechanism))
def test_a_key_is_a_mechanism_and_a_detail(mechanism: Mechanism) -> None:
    assert parts(key_of(mechanism, 0x1234)) == (mechanism, 0x1234)
    assert mechanism.title
    assert mechanism.meaning


def test_details_are_words() -> None:
    assert detail_text(Mechanism.PORT, 0x3F8 << 1 | 1) == "out 0x3f8"
    assert detail_text(Mechanism.EXCEPTION, 13) == "#GP"
    assert detail_text(Mechanism.TRUE_FAULT, 0x16) == "not present, write, user, fetch (error 0x16)"
    assert detail_text(Mechanism.CHAIN, 0) == ""
