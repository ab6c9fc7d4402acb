"""The shadow tables as commands show them, with the numbers of our own guests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dbgvmm import Machine
from dbgvmm.commands import CommandError, CommandTable, Session, shadow_space
from dbgvmm.commands.parameters import Address
from dbgvmm.commands.shadow import (
    shadow_check,
    shadow_frame,
    shadow_roots,
    shadow_traces,
    shadow_walk_command,
)
from dbgvmm.commands.shadow_space import shadow_diff, shadow_large, shadow_ranges_command
from dbgvmm.debug.symbols import load_symbols
from dbgvmm.hardware.paging import PTE

COUNT = 400_000
"""Some way into the guest `pagetables`."""
Booted = Callable[..., Machine]


@pytest.fixture
def ended(hello: Session, table: CommandTable) -> Session:
    """The guest `hello` after its last instruction."""
    table.execute(hello, "continue")
    return hello


@pytest.fixture(params=["eager", "lazy"])
def tables(request: pytest.FixtureRequest, booted: Booted, guest: Callable[[str], Path]) -> Session:
    """The guest `pagetables` at COUNT, under each policy."""
    machine = booted("pagetables", validate=request.param)
    machine.run(max_count=COUNT)
    return Session(machine, load_symbols(guest("pagetables").with_suffix(".elf64")))


def address(session: Session, name: str) -> Address:
    symbol = session.symbols.find(name)
    assert symbol is not None
    return Address(symbol.address)


def test_shadow_walk_shows_both_walks_and_why_they_differ(ended: Session) -> None:
    report = shadow_walk_command(ended, Address(0x107000))
    assert report.found is not None
    assert report.found.physical == 0x107000 == report.guest.gpa
    assert [level.name for level in report.levels] == ["PML5E", "PML4E", "PDPTE", "PDE", "PTE"]
    assert [level.name for level in report.guest.levels] == ["PML4E", "PDPTE", "PDE"]
    assert "PML5E" in str(report)
    code = shadow_walk_command(ended, address(ended, "kmain"))
    assert (code.state, code.detail) == ("traced", "code")
    assert "read-only in the shadow on purpose" in str(code)


def test_shadow_walk_says_what_kind_of_fault_comes_next(ended: Session) -> None:
    text = str(shadow_walk_command(ended, Address(0x7F00_0000_0000)))
    assert "is not mapped: PDPTE not present" in text or "is not mapped: PML4E not present" in text
    assert "a true fault" in text


def test_the_old_names_still_work(ended: Session, table: CommandTable) -> None:
    assert str(table.execute(ended, "info shadow rip")) == str(table.execute(ended, "shadow walk rip"))
    assert str(table.execute(ended, "shadow rip")) == str(table.execute(ended, "shadow walk rip"))
    assert str(table.execute(ended, "info traces")) == str(table.execute(ended, "shadow traces"))


def test_an_address_that_no_guest_can_have_is_refused_in_one_line(ended: Session, table: CommandTable) -> None:
    with pytest.raises(CommandError, match="not a canonical address"):
        table.execute(ended, "shadow walk 0x800000000000")
    with pytest.raises(CommandError, match="never loaded into CR3; `shadow roots` lists them"):
        table.execute(ended, "shadow walk rip --cr3 0x99000")
    with pytest.raises(CommandError, match="outside RAM"):
        table.execute(ended, "shadow frame 0x1234567890")


def test_shadow_roots_of_a_guest_with_several_address_spaces(tables: Session) -> None:
    report = shadow_roots(tables)
    assert [(root.number, root.cr3, root.current) for root in report.roots] == [(3, 0x147000, True), (2, 0x102000, False)]
    assert [(gone.number, gone.cr3) for gone in report.evicted] == [(1, None), (4, 0x168000)]
    assert report.created == 4
    assert report.roots[0].born == 55_194
    assert "4 made, 2 given back" in str(report)


def test_shadow_ranges_are_what_single_walks_find(tables: Session) -> None:
    report = shadow_ranges_command(tables)
    assert not report.cut
    assert sum(item.pages for item in report.ranges) > 1000
    for item in report.ranges:
        for va in (item.start, item.end - 0x1000):
            found = shadow_walk_command(tables, Address(va)).found
            assert found is not None
            assert (found.writable, found.user, found.executable) == (item.writable, item.user, item.executable)
            if item.physical is not None:
                assert found.physical == item.physical + va - item.start


def test_shadow_diff_accounts_for_every_page_the_guest_maps(tables: Session) -> None:
    report = shadow_diff(tables, all=True)
    assert report.pages["traced"] == 38
    assert report.pages["clean"] == 2
    assert sum(item.pages for item in report.differences) == sum(report.pages.values()) == 2315
    assert all(one.end <= other.start for one, other in zip(report.differences, report.differences[1:], strict=False))
    traced = {item.detail for item in report.differences if item.state == "traced"}
    assert traced == {"code", "page table"}
    assert all(item.state != "in step" for item in shadow_diff(tables).differences)


def test_shadow_diff_of_one_page_follows_what_the_guest_does_with_it(ended: Session) -> None:
    """hello maps its image with pages of 2 MiB."""
    machine = ended.machine
    va = Address(0x107000)
    entry_gpa = shadow_walk_command(ended, va).guest.levels[-1].entry_gpa
    entry = machine.ram.u64[entry_gpa >> 3]
    machine.mmu.guest_write_int(entry_gpa, entry & ~PTE.D, 8)
    assert shadow_walk_command(ended, va).state == "lazy", "the link of a large page has no entry to be validated"
    machine.mmu.guest_write_int(entry_gpa, entry & ~PTE.A, 8)
    assert shadow_walk_command(ended, va).state == "not accessed"
    machine.mmu.guest_write_int(entry_gpa, entry, 8)
    report = shadow_walk_command(ended, va)
    assert (report.state, report.detail) == ("lazy", "entries written by the monitor")
    assert shadow_check(ended).result.errors == ()


def test_shadow_frame_knows_all_addresses_of_a_frame(tables: Session) -> None:
    report = shadow_frame(tables, Address(0x107123))
    assert report.traced == "code"
    assert len([item for item in report.guest if item.cr3 == 0x147000]) == 2
    assert len([item for item in report.guest if item.cr3 == 0x102000]) == 6
    assert not report.cut
    assert [item.large for item in report.shadow] == [False, True]
    assert [place.va for place in report.shadow[0].places] == [0xFFFFFFFF80107000]


def test_a_frame_that_is_mapped_everywhere_is_cut_and_said_so(tables: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table that maps itself 512 times at all levels: 2^36 addresses."""
    monkeypatch.setattr(shadow_space, "MOST_PAGES", 1 << 14)
    machine = tables.machine
    hostile = 0x1FF_F000
    for index in range(512):
        machine.ram.u64[(hostile >> 3) + index] = hostile | PTE.P | PTE.W | PTE.A | PTE.D
    machine.cpu.cr3 = hostile
    machine.mmu.load_cr3(hostile)
    assert shadow_frame(tables, Address(hostile)).cut
    assert shadow_walk_command(tables, Address(0)).guest.gpa == hostile
    for report in (shadow_diff(tables), shadow_large(tables)):
        assert report.cut
        assert "cut after" in str(report)
    assert not shadow_ranges_command(tables).cut
    assert shadow_check(tables).result.errors == ()


def test_tables_outside_ram_are_shown_and_nothing_breaks(tables: Session) -> None:
    machine = tables.machine
    machine.cpu.cr3 = 0x10_0000_0000
    machine.mmu.load_cr3(0x10_0000_0000)
    report = shadow_walk_command(tables, Address(0x1000))
    assert "reserved bits" in report.guest.problem
    assert shadow_ranges_command(tables).ranges == ()
    assert shadow_diff(tables).differences == ()


def test_shadow_traces_know_costs_and_last_writers(tables: Session) -> None:
    report = {trace.gpa: trace for trace in shadow_traces(tables).traces}
    assert len(report) == 38
    kernel_root = report[0x147000]
    assert kernel_root.why == "page table"
    assert (kernel_root.faults, kernel_root.stores, kernel_root.monitor) == (27, 0, 0)
    assert kernel_root.place.endswith("<map_page+0x77>")
    assert report[0x176000].stores == 22
    assert report[0x107000].why == "code"
    assert report[0x107000].writer is None
    assert sum(trace.faults for trace in report.values()) <= tables.machine.mmu.trace_faults


def test_a_write_of_a_debugger_to_a_traced_frame_is_the_monitors(tables: Session, table: CommandTable) -> None:
    table.execute(tables, "poke-physical/b 0x107000 0x90")
    trace = next(trace for trace in shadow_traces(tables).traces if trace.gpa == 0x107000)
    assert (trace.monitor, trace.place) == (1, "the monitor")


def test_shadow_large_tells_why_a_page_is_not_mapped_as_a_whole(tables: Session) -> None:
    first, second, *rest = shadow_large(tables).pages
    assert first.traced == {"code": 11, "page table": 27}
    assert first.split
    assert second.clean
    assert not second.split
    assert all(page.reasons == () for page in rest)
    assert [page.va for page in shadow_large(tables, split=True).pages] == [first.va]


def test_a_large_page_at_the_end_of_ram_says_so(booted: Booted, guest: Callable[[str], Path]) -> None:
    machine = booted("hello")
    machine.run()
    page = shadow_large(Session(machine)).pages[-1]
    assert page.outside_ram == page.size
    assert page.reasons[0] == "not RAM: MMIO or nothing"


def test_shadow_check_finds_what_is_broken_by_hand(tables: Session) -> None:
    machine = tables.machine
    assert "nothing is wrong" in str(shadow_check(tables))
    region = machine.mmu.regions.slot(0x107)
    machine.engine.frames.u64[region] |= PTE.W
    report = shadow_check(tables)
    assert [finding.rule for finding in report.result.errors] == ["trace"]
    assert "ERROR (trace)" in str(report)


def test_looking_changes_nothing(tables: Session, booted: Booted) -> None:
    machine = tables.machine
    before = bytes(machine.ram.bytes), machine.count, list(machine.cpu.gpr)
    for show in (shadow_roots, shadow_traces, shadow_check, shadow_diff, shadow_large, shadow_ranges_command):
        str(show(tables))
    shadow_frame(tables, Address(0x107000))
    assert (bytes(machine.ram.bytes), machine.count, list(machine.cpu.gpr)) == before
    other = booted("pagetables", validate=machine.config.validate)
    assert machine.run().exit_code == other.run().exit_code
    assert machine.count == other.count
