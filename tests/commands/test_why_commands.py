"""`why`: explanations of faults, exits, retranslation and slowness, with what our own guests do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dbgvmm import Machine
from dbgvmm.bt.mechanisms import Mechanism, detail_text, parts
from dbgvmm.commands import CommandError, CommandTable, Session
from dbgvmm.commands.parameters import Address
from dbgvmm.commands.why import WhyAccess, WhyFault, why_exit, why_fault, why_slow_command, why_tu
from dbgvmm.debug.symbols import load_symbols
from dbgvmm.hardware.paging import PTE

Booted = Callable[..., Machine]
Started = Callable[..., Session]


@pytest.fixture
def started(booted: Booted, guest: Callable[[str], Path]) -> Started:
    """`started("smc", user="direct")` is a session in front of the guest's first instruction, with symbols."""

    def start(name: str, **options: object) -> Session:
        return Session(booted(name, **options), load_symbols(guest(name).with_suffix(".elf64")))

    return start


def address(session: Session, name: str) -> Address:
    symbol = session.symbols.find(name)
    assert symbol is not None
    return Address(symbol.address)


def access(session: Session, va: int, kind: str = "r", **privilege: bool) -> WhyAccess:
    found = why_fault(session, Address(va), access=kind, **privilege)  # type: ignore[arg-type]  # a choice of words
    assert isinstance(found, WhyAccess)
    return found


# -- faults


@pytest.mark.parametrize("user", ["bt", "direct"])
@pytest.mark.parametrize("validate", ["eager", "lazy"])
def test_the_last_fault_is_explained_with_entry_rule_and_writer(started: Started, user: str, validate: str) -> None:
    session = started("pagetables", user=user, validate=validate)
    session.machine.run(max_count=200_000)
    report = why_fault(session)
    assert isinstance(report, WhyFault)
    fault = report.fault
    assert (fault.name, fault.error_code, fault.cr2) == ("#PF", 0, 0x14000001F000)
    assert (fault.place.partition(" ")[2], fault.count, fault.cpl) == ("<do_load>", 188_695, 0)
    assert (fault.entry_gpa, fault.entry) == (0x1580F8, 0)
    assert fault.access is not None
    assert fault.access.outcome == "true"
    assert fault.access.verdict is not None
    assert fault.access.verdict.rule == "PTE is not present (P=0)"
    writers = {writer.level: writer.place.partition(" ")[2] for writer in fault.access.writers}
    assert writers["PML4E"] == "<test_mapping+0x5d7>"
    assert writers["PDE"] == "<test_mapping+0x6a3>"
    assert "the walk ended at the entry at 0x1580f8" in str(report)


def test_at_a_catchpoint_the_fault_that_comes_is_explained(started: Started, table: CommandTable) -> None:
    session = started("exceptions")
    table.execute(session, "catch exception pf")
    table.execute(session, "continue")
    report = why_fault(session)
    assert isinstance(report, WhyFault)
    assert report.fault.rip == session.machine.cpu.rip == address(session, "k_read_at")
    assert report.fault.count == session.machine.count
    assert report.fault.cr2 == 0x1000_0000_0008
    exit_ = why_exit(session).exit
    assert (exit_.mechanism, exit_.address) == ("true", 0x1000_0000_0008)
    assert exit_.instruction == "mov rax, qword ptr [rdi]"


def test_a_fault_that_is_no_page_fault_has_its_own_words(started: Started, table: CommandTable) -> None:
    session = started("exceptions")
    table.execute(session, "catch exception gp")
    table.execute(session, "continue")
    report = why_fault(session)
    assert isinstance(report, WhyFault)
    assert report.fault.name == "#GP"
    assert report.fault.access is None
    assert report.fault.rip == session.machine.cpu.rip


def test_before_any_fault_or_exit_it_says_so(started: Started) -> None:
    session = started("hello")
    with pytest.raises(CommandError, match="no fault so far: give an ADDRESS"):
        why_fault(session)
    with pytest.raises(CommandError, match="not left yet: run the guest first"):
        why_exit(session)


def test_the_outcome_of_an_access_is_what_happens(started: Started) -> None:
    """A page of the guest `hello` (2 MiB pages): code on it is traced; what is beside is not."""
    session = started("hello")
    session.machine.run()
    code = address(session, "kmain")
    assert access(session, code, "w").access.outcome == "trace"
    assert access(session, code, "w").access.traced == "code"
    assert access(session, code, "r").access.outcome == "none"
    assert access(session, code, "x").access.outcome == "translated"
    assert access(session, code, "r", user=True).access.outcome == "true"
    assert "U/S=0" in str(access(session, code, "r", user=True))
    assert access(session, 0x8000_0000_0000).access.outcome == "noncanonical"
    assert access(session, 0x120_0000, "w").access.outcome == "hidden"
    mmu = session.machine.mmu
    before = mmu.hidden_faults
    session.machine.memory.poke(0x120_0000, b"x")
    assert mmu.hidden_faults == before, "looking and poking fill nothing"


def test_hostile_tables_are_explained_and_nothing_hangs(started: Started) -> None:
    session = started("pagetables")
    machine = session.machine
    machine.run(max_count=200_000)
    hostile = 0x1FF_F000
    for index in range(512):
        machine.ram.u64[(hostile >> 3) + index] = hostile | PTE.P | PTE.W | PTE.A | PTE.D
    machine.ram.u64[hostile >> 3] = 0x10_0000_0000 | PTE.P
    machine.cpu.cr3 = hostile
    machine.mmu.load_cr3(hostile)
    looping = access(session, 0x1000 | 1 << 39 | 1 << 30 | 1 << 21, "w")
    assert looping.access.guest is not None
    assert looping.access.guest.gpa == hostile
    outside = access(session, 0x1000)
    assert "reserved" in str(outside)
    assert outside.access.outcome == "true"
    assert "each access is a fault" in str(why_slow_command(session, Address(0x1000)))


# -- exits


def test_the_last_exit_of_a_guest_that_leaves_is_its_port_access(started: Started) -> None:
    session = started("smc")
    session.machine.run()
    report = why_exit(session).exit
    assert report.instruction == "out 0xf4, eax"
    assert (report.mechanism, report.detail) == ("port", "out 0xf4")
    assert report.place.endswith("<verdict+0x51>")
    assert report.number == session.machine.engine.exits
    assert report.times > 0
    assert report.mean_us > 0
    assert "the guest left with code 1" in str(why_exit(session))


def test_a_step_ends_in_a_unit_that_was_cut_to_length(started: Started) -> None:
    session = started("pagetables")
    session.machine.run(max_count=200_000)
    report = why_exit(session).exit
    assert report.mechanism == "precise"
    assert report.site.endswith("always leaves")
    assert report.place.endswith("<frame_alloc+0x3e>")


@pytest.mark.parametrize("user", ["bt", "direct"])
def test_every_exit_is_explained_by_what_it_was_booked_as(started: Started, table: CommandTable, user: str) -> None:
    session = started("exceptions", user=user)
    for kind in ("exception", "cr3"):
        table.execute(session, f"catch {kind}")
    machine = session.machine
    recording = machine.exits.record(1000)
    mechanisms = set()
    for _ in range(600):
        machine.run(steps=1_450)
        report = why_exit(session).exit
        mechanism, detail = parts(recording.exits[-1].exit.key)
        assert (report.mechanism, report.detail) == (mechanism.title, detail_text(mechanism, detail))
        mechanisms.add(mechanism)
        str(why_exit(session))
    assert {Mechanism.CR3_SWITCH, Mechanism.EXCEPTION, Mechanism.TRUE_FAULT, Mechanism.PRECISE_END} <= mechanisms


# -- units


def test_why_tu_tells_what_killed_the_units_of_an_address(started: Started) -> None:
    session = started("smc")
    session.machine.run()
    report = why_tu(session, address(session, "user_patch_next"))
    assert report.reasons == {"guest wrote its code": 3}
    assert [unit.by_place for unit in report.units] == ["0x400000 <user_patch_next>"] * 3
    once = why_tu(session, address(session, "kmain"))
    assert once.reasons == {}
    assert once.window == "open in this address space"
    assert "is not translated again" in str(once)
    with pytest.raises(CommandError, match="no translation unit began at 0x1234"):
        why_tu(session, Address(0x1234))


def test_a_breakpoint_is_a_reason(started: Started, table: CommandTable) -> None:
    session = started("hello")
    session.machine.run()
    table.execute(session, "break kmain")
    assert why_tu(session, address(session, "kmain")).reasons == {"breakpoint": 1}


# -- slow pages


def reasons(session: Session, va: int) -> dict[str, int | None]:
    return {reason.kind: reason.times for reason in why_slow_command(session, Address(va)).report.reasons}


def test_why_slow_counts_what_traces_have_cost(started: Started) -> None:
    session = started("pagetables")
    session.machine.run(max_count=400_000)
    assert reasons(session, 0xFFFF_8000_0014_7000)["traced table"] == 27
    assert reasons(session, 0xFFFF_8000_0017_6000)["traced table"] == 16 + 22
    assert "last by 0xffffffff8010c347 <map_page+0x77>" in str(why_slow_command(session, Address(0xFFFF_8000_0014_7000)))
    assert reasons(session, address(session, "kmain"))["traced code"] == 0
    assert "large" in reasons(session, 0xFFFF_8000_0014_7000)


def test_why_slow_knows_code_that_dies(started: Started) -> None:
    session = started("smc")
    session.machine.run()
    found = why_slow_command(session, address(session, "user_patch_next")).report.reasons
    died = {reason.text.rpartition(": ")[2]: reason.times for reason in found if reason.kind == "code that dies"}
    assert died == {"guest wrote its code": 38, "its page became data": 3}
    assert ("traced code", 36) in {(reason.kind, reason.times) for reason in found}


def test_why_slow_knows_watchpoints_devices_and_holes(started: Started, table: CommandTable) -> None:
    session = started("hello")
    session.machine.run()
    assert reasons(session, 0x108000) == {"large": None}
    table.execute(session, "watch 0x108000 8")
    assert "watched" in reasons(session, 0x108000)
    assert reasons(session, 0x7F00_0000_0000) == {"not mapped": None}
    assert reasons(session, 0x3E00_0000) == {"mmio": None}
    assert reasons(session, 0x8000_0000_0000) == {"not mapped": None}


def test_a_page_with_nothing_to_say_is_said_to_be_fast(started: Started) -> None:
    session = started("pagetables")
    session.machine.run(max_count=400_000)
    assert "nothing is slow about it" in str(why_slow_command(session, Address(0xFFFF_8000_0040_0000)))


def test_in_place_user_code_makes_stores_to_its_page_slow(started: Started) -> None:
    session = started("smc", user="direct")
    session.machine.run()
    assert "executable" in reasons(session, address(session, "user_patch_next"))
