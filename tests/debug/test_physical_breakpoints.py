"""Breakpoints at guest-physical addresses, on machines that run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dbgvmm import Machine
from dbgvmm.commands import CommandError, CommandTable, Session
from dbgvmm.debug.stops import StopKind
from dbgvmm.debug.symbols import load_symbols

BootedMachine = Callable[..., Machine]
LOADED_AT = 0xFFFF_FFFF_8000_0000


@pytest.fixture
def selftest(booted: BootedMachine, guest: Callable[[str], object]) -> Session:
    """A kernel of the upper half: its physical addresses are others than its linear ones."""
    return Session(booted("selftest"), load_symbols(guest("selftest").with_suffix(".elf64")))  # type: ignore[attr-defined]


def physical(session: Session, name: str) -> int:
    symbol = session.symbols.find(name)
    assert symbol is not None
    return symbol.address - LOADED_AT


def test_the_first_execution_at_a_physical_address_stops(selftest: Session, table: CommandTable) -> None:
    table.execute(selftest, f"break --phys {physical(selftest, 'kmain'):#x}")
    text = str(table.execute(selftest, "continue"))
    assert text.startswith("breakpoint 1, after")
    assert selftest.symbols.describe(selftest.machine.cpu.rip) == "kmain"


def test_it_stops_in_the_middle_of_code_that_is_translated_already(selftest: Session, table: CommandTable) -> None:
    table.execute(selftest, "until kmain")
    for _ in range(3):
        table.execute(selftest, "break check")
        table.execute(selftest, "continue")
        table.execute(selftest, "delete")
    table.execute(selftest, f"break --phys {physical(selftest, 'check'):#x}")
    table.execute(selftest, "continue")
    assert selftest.symbols.describe(selftest.machine.cpu.rip) == "check"


def test_it_stops_before_paging_is_on(hello: Session, table: CommandTable) -> None:
    at = hello.symbols.find("boot_entry32")
    assert at is not None
    table.execute(hello, f"break --phys {at.address + 1:#x}")
    stop = hello.run()
    assert (stop.kind, hello.machine.cpu.rip, hello.machine.count) == (StopKind.BREAKPOINT, at.address + 1, 1)


def test_it_stops_at_every_linear_address_of_the_code(hello: Session, table: CommandTable) -> None:
    """hello's tables map the first GiB six times over."""
    table.execute(hello, "until kmain")
    machine = hello.machine
    kmain = machine.cpu.rip
    table.execute(hello, f"break --phys {kmain + 1:#x}")
    seen = []
    for base in (0, 0xFFFF_8000_0000_0000, 0xFFFF_FFFF_8000_0000):
        machine.cpu.rip = base + kmain
        assert machine.run().kind is StopKind.BREAKPOINT
        seen.append(machine.cpu.rip - base)
    assert seen == [kmain + 1] * 3


def test_a_linear_address_that_leads_elsewhere_now_does_not_stop(hello: Session, table: CommandTable) -> None:
    table.execute(hello, "until kmain")
    machine = hello.machine
    table.execute(hello, f"break --phys {machine.cpu.rip + 1:#x}")
    assert machine.run().kind is StopKind.BREAKPOINT
    (places,) = (list(machine.breakpoints),)
    # The page table's entry for the first 2 MiB now leads to the third, where the same code is.
    machine.ram.bytes[0x400000:0x600000] = bytes(machine.ram.bytes[0:0x200000])
    machine.cpu.rip = 0xFFFF_8000_0000_0000 + machine.cpu.rip - 1
    entry = machine.memory.translate(machine.cpu.rip).levels[-1]
    machine.mmu.guest_write_int(entry.entry_gpa, entry.entry | 0x400000, 8)
    machine.mmu.load_cr3(machine.cpu.cr3)
    machine.engine.needs_flush = True
    assert places
    assert machine.run(steps=50).kind is StopKind.STEP


def test_it_is_listed_by_its_physical_address_and_goes_away(selftest: Session, table: CommandTable) -> None:
    at = physical(selftest, "kmain")
    table.execute(selftest, f"break --phys {at:#x}")
    selftest.run()
    listed = str(table.execute(selftest, "info breakpoints")).splitlines()
    assert len(listed) == 2 and f"{at:#x} physical" in listed[1]
    table.execute(selftest, "delete 1")
    assert not len(selftest.machine.breakpoints) and not len(selftest.machine.physical_breakpoints)
    assert selftest.run().kind is StopKind.EXIT


def test_the_guest_does_not_notice(booted: BootedMachine) -> None:
    plain, watched = booted("selftest"), booted("selftest")
    watched.physical_breakpoints.add(0x10_8000)
    plain.run()
    while not watched.run().kind.final:
        pass
    assert (plain.count, bytes(plain.serial_log)) == (watched.count, bytes(watched.serial_log))


@pytest.mark.parametrize("line", ["break --phys 0x200000000", "break --phys 0x1000 --cr3 0x1000"])
def test_mistakes_are_explained(hello: Session, table: CommandTable, line: str) -> None:
    with pytest.raises(CommandError, match=r"not in RAM|exclude"):
        table.execute(hello, line)


def test_a_page_that_is_first_run_just_before_a_deadline_stops_too(
    booted: BootedMachine, guest: Callable[[str], Path]
) -> None:
    """There, units are cut to length, and made by another way than elsewhere."""
    symbols = load_symbols(guest("selftest").with_suffix(".elf64"))
    place = symbols.find("check_eq")
    assert place is not None
    plain = booted("selftest")
    plain.breakpoints.add(place.address)
    assert plain.run().kind is StopKind.BREAKPOINT
    gpa = plain.memory.translate(place.address).gpa
    assert gpa is not None
    for beyond in (1, 5, 15):
        machine = booted("selftest")
        machine.run(max_count=plain.count - 1)
        machine.cache.flush()  # so that the page is translated only when it is arrived at
        machine.physical_breakpoints.add(gpa)
        stop = machine.run(max_count=plain.count + beyond)
        assert (stop.kind, machine.count) == (StopKind.BREAKPOINT, plain.count)
