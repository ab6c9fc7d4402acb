from __future__ import annotations

import pytest
from mmu_machine import CR3, RW, USER_RW, MmuMachine

from dbgvmm.cpu.bits import PageFaultError
from dbgvmm.hardware.paging import PTE
from dbgvmm.mmu.access import HIDDEN, TRACE, TRUE
from dbgvmm.mmu.writes import FLOOD_LIMIT

VA = 0x40_0000_1000
AD = PTE.A | PTE.D
W = PageFaultError.W


def physical(machine: MmuMachine, va: int = VA) -> int | None:
    found = machine.shadow(va)
    return None if found is None else found.physical


def test_eager_validation_maps_the_new_page_at_once(build: type[MmuMachine]) -> None:
    machine = build(validate="eager")
    at = machine.map(VA, 0x5000 | RW | AD)
    machine.touch(VA)
    machine.mmu.guest_write_int(at, 0x6000 | RW | AD, 8)
    assert physical(machine) == 0x6000


def test_lazy_validation_drops_the_old_page(build: type[MmuMachine]) -> None:
    machine = build(validate="lazy")
    at = machine.map(VA, 0x5000 | RW | AD)
    machine.touch(VA)
    machine.mmu.guest_write_int(at, 0x6000 | RW | AD, 8)
    assert physical(machine) is None


def test_an_entry_that_the_guest_has_not_accessed_is_not_mapped(either: MmuMachine) -> None:
    at = either.map(VA, 0x5000 | RW | AD)
    either.touch(VA)
    either.mmu.guest_write_int(at, 0x6000 | RW, 8)
    assert physical(either) is None


def test_a_change_takes_effect_before_the_guest_goes_on(either: MmuMachine) -> None:
    """What the engine's TLB still holds would depend on the host's clock, by which the engine sizes it."""
    at = either.map(VA, 0x5000 | RW | AD)
    either.touch(VA)
    either.mmu.invlpg(VA)
    either.engine.needs_flush = False
    either.mmu.guest_write_int(at, 0, 8)
    assert either.engine.needs_flush


def test_filling_an_empty_entry_leaves_nothing_stale(either: MmuMachine) -> None:
    either.map(VA, 0x5000 | RW | AD)
    at = either.map(VA + 0x1000, 0)
    either.touch(VA)
    either.engine.needs_flush = False
    either.mmu.guest_write_int(at, 0x6000 | RW | AD, 8)
    assert not either.engine.needs_flush


@pytest.mark.parametrize("level", [4, 3, 2])
def test_unlinking_a_table_unmaps_what_is_below_and_untraces_it(either: MmuMachine, level: int) -> None:
    at = either.map(VA, 0x5000 | RW | AD)
    table = either.entry_gpa(VA, 1) >> 12
    either.touch(VA)
    assert table in either.mmu.traces.kinds
    either.mmu.guest_write_int(either.entry_gpa(VA, level), 0, 8)
    assert physical(either) is None
    assert table not in either.mmu.traces.kinds
    assert at


def test_a_table_linked_twice_stays_until_both_links_go(either: MmuMachine) -> None:
    other = VA + (1 << 21)
    either.map(VA, 0x5000 | RW | AD)
    table = either.entry_gpa(VA, 1) >> 12
    either.ram.u64[either.entry_gpa(other, 2) >> 3] = table << 12 | USER_RW
    either.touch(VA)
    either.touch(other)
    either.mmu.guest_write_int(either.entry_gpa(VA, 2), 0, 8)
    assert table in either.mmu.traces.kinds and physical(either, other) == 0x5000
    either.mmu.guest_write_int(either.entry_gpa(other, 2), 0, 8)
    assert table not in either.mmu.traces.kinds


def test_rights_taken_from_a_link_are_taken_from_the_shadow(either: MmuMachine) -> None:
    either.map(VA, 0x5000 | USER_RW | AD)
    either.touch(VA)
    at = either.entry_gpa(VA, 2)
    either.mmu.guest_write_int(at, either.ram.u64[at >> 3] & ~(PTE.U | PTE.W), 8)
    either.touch(VA)
    found = either.shadow(VA)
    assert found is not None and not found.user and not found.writable


def test_splitting_a_large_page_maps_the_new_pages(either: MmuMachine) -> None:
    va = VA & -(1 << 21)
    at = either.map(va, 0x20_0000 | RW | PTE.PS | AD, 2)
    either.touch(va)
    table = either.table()
    for n in range(512):
        either.ram.u64[(table >> 3) + n] = 0x40_0000 + n * 0x1000 | RW | AD
    either.mmu.guest_write_int(at, table | RW | PTE.A, 8)
    either.touch(va + 0x3000)
    assert physical(either, va + 0x3000) == 0x40_3000


def test_partial_and_byte_writes_count(either: MmuMachine) -> None:
    at = either.map(VA, 0x5000 | RW | AD)
    either.touch(VA)
    either.mmu.guest_write_int(at, 0, 1)
    assert physical(either) is None
    either.mmu.guest_write_int(at + 1, 0x70, 1)
    either.mmu.guest_write_int(at, RW | AD, 1)
    either.touch(VA)
    assert physical(either) == 0x7000


def test_one_store_may_change_many_entries_and_cross_pages(either: MmuMachine) -> None:
    at = either.map(VA, 0x5000 | RW | AD)
    either.map(VA + 0x1000, 0x6000 | RW | AD)
    either.touch(VA)
    either.touch(VA + 0x1000)
    either.mmu.guest_write(at - 0x1000, bytes(0x1010))
    assert physical(either) is None and physical(either, VA + 0x1000) is None


def test_a_store_outside_ram_is_an_error_and_writes_nothing(machine: MmuMachine) -> None:
    with pytest.raises(IndexError, match="outside RAM"):
        machine.mmu.guest_write(machine.ram.size - 4, b"12345678")
    assert machine.ram.read(machine.ram.size - 4, 4) == bytes(4)


def test_a_flood_of_writes_releases_the_table(either: MmuMachine) -> None:
    at = either.map(VA, 0x5000 | RW | AD) & -4096
    either.touch(VA)
    for n in range(FLOOD_LIMIT):
        either.mmu.guest_write_int(at + 8 * n, n << 12, 8)
    assert at >> 12 in either.mmu.traces.kinds
    either.mmu.guest_write_int(at + 8 * FLOOD_LIMIT, 0, 8)
    assert at >> 12 not in either.mmu.traces.kinds
    assert physical(either) is None


@pytest.mark.parametrize("used_by", ["hidden fault", "true fault"])
def test_a_table_in_use_is_never_released(either: MmuMachine, used_by: str) -> None:
    at = either.map(VA, 0x5000 | RW | AD) & -4096
    either.touch(VA)
    for n in range(3 * FLOOD_LIMIT):
        either.mmu.guest_write_int(at + 8 * (n % 4 + 64), 0, 8)
        if n % 4 == 3:
            either.touch(VA if used_by == "hidden fault" else (VA & -(1 << 21)) + 100 * 0x1000)
    assert at >> 12 in either.mmu.traces.kinds


def test_the_current_top_level_table_is_never_released(either: MmuMachine) -> None:
    either.map(VA, 0x5000 | RW)
    either.touch(VA)
    for n in range(3 * FLOOD_LIMIT):
        either.mmu.guest_write_int(CR3 + 8 * (100 + n), 0, 8)
    assert CR3 >> 12 in either.mmu.traces.kinds and physical(either) == 0x5000


def test_releasing_another_roots_top_table_destroys_the_root(either: MmuMachine) -> None:
    either.mmu.load_cr3(0x10_0000)
    either.mmu.load_cr3(CR3)
    either.mmu.release_table(0x100)
    assert (0x100, 0) not in either.mmu.roots.by_key and 0x100 not in either.mmu.traces.kinds


def test_a_table_that_maps_itself_is_released_cleanly(either: MmuMachine) -> None:
    recursive = 0xFFFF_FF00_0000_0000 | 510 << 30 | 510 << 21
    either.map(VA, 0x5000 | RW | AD)
    either.ram.u64[(CR3 >> 3) + 510] = CR3 | RW
    either.touch(VA)
    either.touch(recursive)
    either.mmu.guest_write_int(CR3 + 510 * 8, 0, 8)
    assert physical(either, recursive) is None
    assert len(either.mmu.pages.of_table[CR3 >> 12]) == 1
    assert physical(either) == 0x5000


def test_code_writes_are_reported_after_the_store(machine: MmuMachine) -> None:
    seen: list[tuple[int, int, int]] = []
    machine.mmu.on_code_write = lambda gpa, size: seen.append((gpa, size, machine.ram.u64[gpa >> 3]))
    machine.mmu.protect_code(5)
    machine.mmu.guest_write_int(0x5008, 0x1234, 8)
    machine.mmu.guest_write(0x5FFE, b"abcd")
    assert seen == [(0x5008, 8, 0x1234), (0x5FFE, 2, machine.ram.u64[0x5FFE >> 3])]


def test_tracing_code_takes_w_from_every_mapping_and_flushes(machine: MmuMachine) -> None:
    large = VA + (1 << 30)
    for n in range(3):
        machine.map(VA + n * 0x20_0000, 0x20_5000 | RW | AD)
        machine.touch(VA + n * 0x20_0000)
    machine.map(large, 0x20_0000 | RW | PTE.PS | AD, 2)
    machine.touch(large)
    machine.engine.needs_flush = False
    machine.mmu.protect_code(0x205)
    addresses = [VA + n * 0x20_0000 for n in range(3)] + [(large & -(1 << 21)) + 0x5000]
    assert machine.engine.needs_flush
    for va in addresses:
        found = machine.shadow(va)
        assert found is not None and not found.writable
        assert machine.touch(va, W) == TRACE and machine.mmu.trace_gpa == 0x20_5000
    machine.mmu.unprotect_code(0x205)
    for va in addresses:
        assert machine.touch(va, W) == HIDDEN
        found = machine.shadow(va)
        assert found is not None and found.writable


def test_tracing_a_frame_that_nobody_can_write_needs_no_flush(machine: MmuMachine) -> None:
    machine.map(VA, 0x5000 | RW)
    machine.touch(VA)
    machine.engine.needs_flush = False
    machine.mmu.protect_code(5)
    assert not machine.engine.needs_flush


def test_a_new_large_mapping_of_a_traced_frame_is_read_only_there(machine: MmuMachine) -> None:
    machine.mmu.protect_code(0x205)
    machine.map(VA, 0x20_0000 | RW | PTE.PS | AD, 2)
    machine.touch(VA)
    base = VA & -(1 << 21)
    traced, free = machine.shadow(base + 0x5000), machine.shadow(base + 0x6000)
    assert traced is not None and not traced.writable
    assert free is not None and free.writable


def test_an_open_page_takes_writes_and_closing_applies_them(either: MmuMachine) -> None:
    at = either.map(VA, 0x5000 | RW | AD)
    table = at & -4096
    either.map(VA + 0x1000, table | RW | AD)
    either.touch(VA)
    assert either.touch(VA + 0x1000, W) == TRACE
    either.mmu.open_page(table)
    found = either.shadow(VA + 0x1000)
    assert found is not None and found.writable
    either.ram.u64[at >> 3] = 0x7000 | RW | AD
    either.engine.needs_flush = False
    either.mmu.close_page(table)
    assert either.engine.needs_flush
    assert either.touch(VA + 0x1000, W) == TRACE
    either.touch(VA)
    assert physical(either) == 0x7000


def test_closing_reports_exactly_the_code_bytes_that_changed(machine: MmuMachine) -> None:
    seen: list[tuple[int, int]] = []
    machine.mmu.on_code_write = lambda gpa, size: seen.append((gpa, size))
    machine.mmu.protect_code(5)
    machine.mmu.open_page(0x5123)
    machine.ram.bytes[0x5100:0x5103] = b"abc"
    machine.ram.bytes[0x5FFF] = 1
    machine.mmu.close_page(0x5123)
    assert seen == [(0x5100, 3), (0x5FFF, 1)]
    assert 5 in machine.mmu.traces.kinds


def test_opening_an_untraced_page_is_harmless(machine: MmuMachine) -> None:
    machine.mmu.open_page(0x5000)
    machine.mmu.close_page(0x5000)
    assert 5 not in machine.mmu.traces.kinds


def test_a_frame_that_is_a_table_and_code_is_traced_until_both_end(machine: MmuMachine) -> None:
    machine.map(VA, 0x5000 | RW | AD)
    table = machine.entry_gpa(VA, 1) >> 12
    machine.touch(VA)
    machine.mmu.protect_code(table)
    machine.mmu.release_table(table)
    assert table in machine.mmu.traces.kinds
    machine.mmu.unprotect_code(table)
    assert table not in machine.mmu.traces.kinds


def test_a_not_present_fault_is_true_after_the_guest_unmaps(either: MmuMachine) -> None:
    at = either.map(VA, 0x5000 | RW | AD)
    either.touch(VA)
    either.mmu.guest_write_int(at, 0, 8)
    assert either.touch(VA, W) == TRUE and either.mmu.fault_error == W


def test_a_released_table_is_shadowed_anew_by_the_next_fault(either: MmuMachine) -> None:
    at = either.map(VA, 0x5000 | RW | AD)
    either.touch(VA)
    either.mmu.release_table(at >> 12)
    assert either.touch(VA) == HIDDEN
    assert physical(either) == 0x5000 and at >> 12 in either.mmu.traces.kinds


def test_rights_taken_from_a_link_deny_the_next_fault(either: MmuMachine) -> None:
    either.map(VA, 0x5000 | USER_RW)
    either.touch(VA)
    at = either.entry_gpa(VA, 2)
    either.mmu.guest_write_int(at, either.ram.u64[at >> 3] & ~PTE.W, 8)
    assert either.touch(VA, W) == TRUE and either.mmu.fault_error == W | PageFaultError.P


def test_a_reserved_bit_set_later_faults(either: MmuMachine) -> None:
    at = either.map(VA, 0x5000 | RW)
    either.touch(VA)
    either.mmu.guest_write_int(at, 1 << 40 | 0x5000 | RW | AD, 8)
    assert physical(either) is None
    assert either.touch(VA) == TRUE and either.mmu.fault_error == PageFaultError.P | PageFaultError.RSVD


def test_a_page_mapped_without_a_fault_of_its_own_can_be_traced(build: type[MmuMachine]) -> None:
    machine = build(validate="eager")
    machine.map(VA, 0x5000 | RW | AD)
    machine.map(VA + 0x1000, 0x6000 | RW | AD)
    at = machine.map(VA + 0x2000, 0)
    machine.touch(VA)
    machine.mmu.guest_write_int(at, 0x7000 | RW | AD, 8)
    for va, frame in ((VA + 0x1000, 6), (VA + 0x2000, 7)):
        found = machine.shadow(va)
        assert found is not None and found.writable
        machine.mmu.protect_code(frame)
        found = machine.shadow(va)
        assert found is not None and not found.writable


def test_tracing_never_touches_what_took_over_a_shadow_pages_memory(machine: MmuMachine) -> None:
    machine.map(VA, 0x5000 | RW | AD)
    machine.touch(VA)
    found = machine.shadow(VA)
    assert found is not None
    entry = found.entries[-1]
    slot = machine.engine.frames.index(found.entries[-2] & PTE.ADDRESS) + (VA >> 12 & 511)
    machine.mmu.release_table(machine.entry_gpa(VA, 1) >> 12)
    machine.engine.frames.u64[slot] = entry
    machine.mmu.protect_code(5)
    assert machine.engine.frames.u64[slot] == entry
