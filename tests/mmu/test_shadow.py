from __future__ import annotations

import pytest
from mmu_machine import CR3, RW, USER_RW, MmuMachine, Registers

from dbgvmm.cpu.bits import CR0, CR4, EFER, PageFaultError
from dbgvmm.hardware.layout import DATA_VA, MONITOR_PA, TC_VA, USER_DATA_VA
from dbgvmm.hardware.paging import PTE
from dbgvmm.mmu.access import HIDDEN, TRACE, TRUE

VA = 0x40_0000_1000
KERNEL_VA = 0xFFFF_8880_0000_1000
AD = PTE.A | PTE.D
P, W, U = PageFaultError.P, PageFaultError.W, PageFaultError.U


@pytest.mark.parametrize("va", [VA, KERNEL_VA])
def test_a_hidden_fault_maps_the_page(machine: MmuMachine, va: int) -> None:
    machine.map(va, 0x5000 | RW)
    assert machine.touch(va) == HIDDEN
    found = machine.shadow(va + 0x10)
    assert found is not None and found.physical == 0x5010
    assert (found.writable, found.user, found.executable) == (False, False, False)


def test_a_true_fault_has_the_exact_error_code_and_maps_nothing(machine: MmuMachine) -> None:
    machine.map(VA, 0x5000 | PTE.P)
    assert machine.touch(VA, W | U, user=True) == TRUE
    assert machine.mmu.fault_error == P | W | U
    assert machine.shadow(VA) is None


def test_a_clean_page_is_writable_only_after_its_first_write(machine: MmuMachine) -> None:
    machine.map(VA, 0x5000 | RW)
    machine.touch(VA)
    found = machine.shadow(VA)
    assert found is not None and not found.writable
    assert machine.touch(VA, P | W) == HIDDEN
    found = machine.shadow(VA)
    assert found is not None and found.writable
    assert machine.entry(VA) & PTE.D


@pytest.mark.parametrize("level", [4, 3, 2, 1])
@pytest.mark.parametrize("right", [PTE.W, PTE.U])
def test_a_right_missing_at_any_level_is_missing_in_the_shadow(machine: MmuMachine, level: int, right: int) -> None:
    machine.map(VA, 0x5000 | USER_RW | AD)
    machine.ram.u64[machine.entry_gpa(VA, level) >> 3] &= ~right
    machine.touch(VA)
    found = machine.shadow(VA)
    assert found is not None
    assert (found.writable, found.user) == (right != PTE.W, right != PTE.U)


def test_used_neighbours_are_filled_with_it_and_others_are_not(machine: MmuMachine) -> None:
    machine.map(VA, 0x5000 | RW)
    machine.map(VA + 0x1000, 0x6000 | RW | AD)
    machine.map(VA + 0x2000, 0x7000 | RW)
    machine.map(VA + 0x3000, 1 << 40 | RW | AD)
    machine.touch(VA)
    found = machine.shadow(VA + 0x1000)
    assert found is not None and found.physical == 0x6000 and found.writable
    assert machine.shadow(VA + 0x2000) is None
    assert machine.shadow(VA + 0x3000) is None
    assert not machine.entry(VA + 0x2000) & PTE.A


@pytest.mark.parametrize(("level", "base"), [(2, 0x20_0000), (3, 0)])
def test_a_large_page_is_mapped_2_mib_at_a_time(machine: MmuMachine, level: int, base: int) -> None:
    machine.map(VA, base | RW | PTE.PS | AD, level)
    va = VA & -(1 << 30) | 0x20_0000 if level == 3 else VA & -(1 << 21)
    machine.touch(va)
    for offset in (0, 0x1000, 0x1F_FFFF):
        found = machine.shadow(va + offset)
        assert found is not None and found.physical == 0x20_0000 + offset and found.writable


def test_a_clean_large_page_is_read_only_as_a_whole(machine: MmuMachine) -> None:
    machine.map(VA, 0x20_0000 | RW | PTE.PS, 2)
    machine.touch(VA)
    found = machine.shadow(VA)
    assert found is not None and not found.writable
    machine.touch(VA + 0x5000, W)
    found = machine.shadow(VA)
    assert found is not None and found.writable


def test_two_mappings_of_a_large_page_keep_their_own_rights(machine: MmuMachine) -> None:
    other = VA + (1 << 30)
    machine.map(VA, 0x20_0000 | USER_RW | PTE.PS | AD, 2)
    machine.map(other, 0x20_0000 | PTE.P | PTE.PS | AD, 2)
    machine.touch(VA)
    machine.touch(other)
    first, second = machine.shadow(VA), machine.shadow(other)
    assert first is not None and first.writable and first.user
    assert second is not None and not second.writable and not second.user


def test_addresses_outside_ram_are_mapped_straight_and_never_traced(machine: MmuMachine) -> None:
    machine.map(VA, 0xFEE0_0000 | RW)
    machine.mmu.protect_code(0xFEE00)
    assert machine.touch(VA, W) == HIDDEN
    found = machine.shadow(VA)
    assert found is not None and found.physical == 0xFEE0_0000 and found.writable


def test_guest_page_tables_are_traced_once_used(machine: MmuMachine) -> None:
    machine.map(VA, 0x5000 | RW)
    table = machine.entry_gpa(VA, 1) & -4096
    machine.map(VA + 0x1000, table | RW)
    machine.touch(VA)
    assert machine.touch(VA + 0x1008, W) == TRACE
    assert machine.mmu.trace_gpa == table + 8
    found = machine.shadow(VA + 0x1000)
    assert found is not None and not found.writable


@pytest.mark.parametrize("slot", [(0, 256), (0, 511), (511, 0), (511, 255)])
def test_guest_non_canonical_addresses_are_never_mapped(machine: MmuMachine, slot: tuple[int, int]) -> None:
    for index in (0, 255, 256, 511):
        machine.map(index << 39, 0x5000 | RW | AD)
    for va in (0, 255 << 39, 0xFFFF_8000_0000_0000, 0xFFFF_FF80_0000_0000):
        machine.touch(va)
        assert machine.shadow(va) is not None
    assert machine.shadow(slot[0] << 48 | slot[1] << 39) is None


def test_address_spaces_share_the_shadow_of_a_shared_table(machine: MmuMachine) -> None:
    machine.map(KERNEL_VA, 0x5000 | RW)
    machine.touch(KERNEL_VA)
    before = machine.mmu.pages.created
    other = 0x10_0000
    at = (KERNEL_VA >> 39 & 511) * 8
    machine.ram.u64[other + at >> 3] = machine.ram.u64[CR3 + at >> 3]
    machine.mmu.load_cr3(other)
    assert machine.shadow(KERNEL_VA) is not None
    assert machine.mmu.pages.created == before + 1


def test_a_root_survives_cr3_writes(machine: MmuMachine) -> None:
    machine.map(VA, 0x5000 | RW)
    machine.touch(VA)
    root = machine.mmu.root
    machine.mmu.load_cr3(0x10_0000)
    assert machine.shadow(VA) is None
    machine.mmu.load_cr3(CR3 | 5)
    assert machine.mmu.root == root and machine.shadow(VA) is not None


def test_the_least_recently_used_root_is_given_back(machine: MmuMachine) -> None:
    mmu = machine.mmu
    mmu.roots.limit = 3
    for n in range(4):
        mmu.load_cr3(0x10_0000 + n * 0x1000)
        machine.map(VA, 0x5000 | RW, cr3=0x10_0000 + n * 0x1000)
        machine.touch(VA)
    in_use = machine.engine.frames.in_use
    assert [key[0] for key in mmu.roots.by_key] == [0x101, 0x102, 0x103]
    assert 0x100 not in mmu.traces.kinds
    for n in range(4, 12):
        mmu.load_cr3(0x10_0000 + n * 0x1000)
        machine.map(VA, 0x5000 | RW, cr3=0x10_0000 + n * 0x1000)
        machine.touch(VA)
    assert machine.engine.frames.in_use == in_use


def test_a_new_cr3_needs_a_flush_and_the_same_one_does_not(machine: MmuMachine) -> None:
    engine, mmu = machine.engine, machine.mmu
    engine.needs_flush = False
    mmu.load_cr3(CR3)
    assert not engine.needs_flush
    mmu.load_cr3(0x10_0000)
    assert engine.needs_flush


def test_turning_nxe_off_drops_what_is_reserved_now(machine: MmuMachine) -> None:
    machine.map(VA, 0x5000 | RW | PTE.NX)
    machine.touch(VA)
    machine.cpu.efer &= ~EFER.NXE
    machine.mmu.mode_changed()
    assert machine.shadow(VA) is None
    assert machine.touch(VA) == TRUE


def test_paging_off_maps_everything_straight(build: type[MmuMachine]) -> None:
    machine = build(Registers(cr0=CR0.PE, efer=0, cr4=0))
    assert machine.touch(0x12_3456, W) == HIDDEN
    found = machine.shadow(0x12_3456)
    assert found is not None and found.physical == 0x12_3456 and found.writable and found.user
    assert machine.touch(0xFEE0_0010) == HIDDEN
    found = machine.shadow(0xFEE0_0010)
    assert found is not None and found.physical == 0xFEE0_0010


def test_turning_paging_on_changes_the_root(build: type[MmuMachine]) -> None:
    machine = build(Registers(cr0=CR0.PE, efer=0, cr4=0))
    machine.touch(VA & 0xFFFF_FFFF)
    machine.map(VA, 0x5000 | RW)
    machine.cpu.cr0 |= CR0.PG | CR0.WP
    machine.cpu.efer = EFER.LME | EFER.LMA
    machine.cpu.cr4 = CR4.PAE
    machine.mmu.mode_changed()
    assert machine.touch(VA, W) == HIDDEN
    found = machine.shadow(VA)
    assert found is not None and found.physical == 0x5000


def test_user_execute_lets_the_user_run_what_the_guest_lets_it(build: type[MmuMachine]) -> None:
    machine = build(user_execute=True)
    for n, entry in enumerate((USER_RW, USER_RW | PTE.NX, RW)):
        machine.map(VA + n * 0x1000, 0x5000 + n * 0x1000 | entry)
    machine.map(VA + (1 << 30), 0x20_0000 | USER_RW | PTE.PS, 2)
    machine.map(VA + (2 << 30), 0x20_0000 | USER_RW | PTE.PS | PTE.NX, 2)
    executable = []
    for va in (VA, VA + 0x1000, VA + 0x2000, VA + (1 << 30), VA + (2 << 30)):
        machine.touch(va)
        found = machine.shadow(va)
        assert found is not None
        executable.append(found.executable)
    assert executable == [True, False, False, True, False]


def test_nx_above_counts_with_user_execute(build: type[MmuMachine]) -> None:
    machine = build(user_execute=True)
    machine.map(VA, 0x5000 | USER_RW)
    machine.ram.u64[machine.entry_gpa(VA, 3) >> 3] |= PTE.NX
    machine.touch(VA)
    found = machine.shadow(VA)
    assert found is not None and not found.executable


def test_every_root_has_the_data_page_with_the_rights_of_its_address(machine: MmuMachine) -> None:
    machine.mmu.load_cr3(0x10_0000)
    kernel, user = machine.shadow(DATA_VA), machine.shadow(USER_DATA_VA)
    assert kernel is not None and user is not None
    assert kernel.physical == user.physical == MONITOR_PA
    assert (kernel.user, user.user) == (False, True)
    assert kernel.writable and user.writable and not kernel.executable and not user.executable
    assert machine.shadow(TC_VA) is None


def test_memory_pressure_drops_shadows_but_not_the_current_root(machine: MmuMachine) -> None:
    machine.map(VA, 0x5000 | RW)
    machine.touch(VA)
    root = machine.mmu.root
    machine.mmu.load_cr3(0x10_0000)
    machine.mmu.load_cr3(CR3)
    machine.mmu.reclaim()
    assert machine.mmu.root == root and machine.shadow(VA) is None
    assert machine.mmu.stats()["shadow_pages"] == machine.mmu.stats()["roots"] == 1
    assert machine.touch(VA) == HIDDEN


def test_an_unknown_policy_is_refused_with_what_to_write(build: type[MmuMachine]) -> None:
    with pytest.raises(ValueError, match='"eager" or "lazy"'):
        build(validate="sometimes")


def test_smap_is_asked_at_every_hidden_fault(build: type[MmuMachine]) -> None:
    machine = build(Registers(cr4=CR4.PAE | CR4.SMAP))
    for n in range(2):
        machine.map(VA + n * 0x1000, 0x5000 + n * 0x1000 | USER_RW)
    machine.ac = True
    assert machine.touch(VA) == HIDDEN
    machine.ac = False
    assert machine.touch(VA + 0x1000) == TRUE and machine.mmu.fault_error == P
    assert machine.touch(VA + 0x1000, U, user=True) == HIDDEN
