from __future__ import annotations

import pytest
from mmu_machine import RW, MmuMachine, Registers

from dbgvmm.cpu.bits import CR0, CR4, EFER, PageFaultError
from dbgvmm.hardware.paging import PTE
from dbgvmm.mmu.access import HIDDEN, TRACE, TRUE

VA = 0x40_0000_1000
AD = PTE.A | PTE.D
P, W, U = PageFaultError.P, PageFaultError.W, PageFaultError.U


@pytest.fixture
def wp0(build: type[MmuMachine]) -> MmuMachine:
    return build(Registers(cr0=CR0.PG | CR0.PE))


def rights(machine: MmuMachine, va: int = VA) -> tuple[bool, bool]:
    found = machine.shadow(va)
    assert found is not None
    return found.writable, found.user


def test_a_read_only_supervisor_page_is_writable_once_dirty(wp0: MmuMachine) -> None:
    wp0.map(VA, 0x5000 | PTE.P)
    wp0.touch(VA)
    assert rights(wp0) == (False, False)
    assert wp0.touch(VA, P | W) == HIDDEN
    assert rights(wp0) == (True, False)


@pytest.mark.parametrize("level", [1, 2])
def test_a_read_only_user_page_belongs_to_who_used_it_last(wp0: MmuMachine, level: int) -> None:
    wp0.map(VA, (0x5000 if level == 1 else 0x20_0000 | PTE.PS) | PTE.P | PTE.U | AD, level)
    wp0.touch(VA, U, user=True)
    assert rights(wp0) == (False, True)
    assert wp0.touch(VA, P | W) == HIDDEN
    assert rights(wp0) == (True, False)
    assert wp0.touch(VA, P | U, user=True) == HIDDEN
    assert rights(wp0) == (False, True)
    assert wp0.touch(VA, P | W | U, user=True) == TRUE


def test_w_clear_above_the_leaf_is_ignored_too(wp0: MmuMachine) -> None:
    wp0.map(VA, 0x5000 | RW)
    wp0.ram.u64[wp0.entry_gpa(VA, 3) >> 3] &= ~(PTE.W | PTE.U)
    assert wp0.touch(VA, W) == HIDDEN
    assert rights(wp0) == (True, False)


def test_the_same_table_reached_with_other_rights_keeps_them(wp0: MmuMachine) -> None:
    other = VA + (1 << 39)
    wp0.map(VA, 0x5000 | PTE.P | PTE.W | PTE.U | AD)
    wp0.ram.u64[wp0.entry_gpa(other, 4) >> 3] = wp0.entry(VA, 4) & ~PTE.U
    wp0.touch(VA)
    wp0.touch(other)
    assert rights(wp0, VA) == (True, True)
    assert rights(wp0, other) == (True, False)


def test_traced_frames_stay_read_only(wp0: MmuMachine) -> None:
    wp0.map(VA, 0x5000 | PTE.P)
    wp0.mmu.protect_code(5)
    assert wp0.touch(VA, W) == TRACE
    assert rights(wp0) == (False, False)


def test_tracing_takes_w_from_flipped_pages(wp0: MmuMachine) -> None:
    wp0.map(VA, 0x5000 | PTE.P | PTE.U | AD)
    wp0.touch(VA, W)
    wp0.engine.needs_flush = False
    wp0.mmu.protect_code(5)
    assert rights(wp0) == (False, False)
    assert wp0.engine.needs_flush


def test_with_smap_such_a_write_is_to_be_emulated_or_stepped(build: type[MmuMachine]) -> None:
    machine = build(Registers(cr0=CR0.PG | CR0.PE, cr4=CR4.PAE | CR4.SMAP))
    machine.ac = True
    machine.map(VA, 0x5000 | PTE.P | PTE.U | AD)
    assert machine.touch(VA, W) == TRACE
    assert machine.mmu.trace_gpa == 0x5000
    machine.mmu.open_page(0x5000)
    assert rights(machine) == (True, False)
    machine.mmu.close_page(0x5000)
    assert machine.shadow(VA) is None


def test_a_written_entry_is_dropped(wp0: MmuMachine) -> None:
    at = wp0.map(VA, 0x5000 | RW | AD)
    wp0.touch(VA)
    wp0.mmu.guest_write_int(at, 0x6000 | RW | AD, 8)
    assert wp0.shadow(VA) is None
    wp0.touch(VA)
    found = wp0.shadow(VA)
    assert found is not None and found.physical == 0x6000


def test_setting_wp_again_restores_write_protection(wp0: MmuMachine) -> None:
    wp0.map(VA, 0x5000 | PTE.P)
    wp0.touch(VA, W)
    wp0.cpu.cr0 |= CR0.WP
    wp0.cpu.efer = EFER.LME | EFER.LMA | EFER.NXE
    wp0.mmu.mode_changed()
    assert wp0.touch(VA, W) == TRUE
    wp0.touch(VA)
    assert rights(wp0) == (False, False)


def test_flipping_a_page_back_takes_its_write_permission_out_of_the_tlb(wp0: MmuMachine) -> None:
    wp0.map(VA, 0x5000 | PTE.P | PTE.U | AD)
    wp0.touch(VA, W)
    wp0.mmu.flush_all(False)
    wp0.engine.needs_flush = False
    wp0.touch(VA, U, user=True)
    assert wp0.engine.needs_flush
