from __future__ import annotations

import pytest
from mmu_machine import CR3, RW, USER_RW, MmuMachine, Registers

from dbgvmm.cpu.bits import CR0, CR4, EFER, PageFaultError
from dbgvmm.cpu.faults import GuestFault
from dbgvmm.hardware.layout import MONITOR_PA, TC_OFFSET, TC_VA
from dbgvmm.hardware.paging import PTE
from dbgvmm.mmu.inspect import ShadowTranslation
from dbgvmm.mmu.monitor_space import GLOBAL_TC_PAGES

VA = 0x40_0000_1000
OTHER_CR3 = 0x10_0000
AD = PTE.A | PTE.D
PAGE = GLOBAL_TC_PAGES + 3
GLOBAL_PAGE = 5


def window(machine: MmuMachine, tc_page: int) -> ShadowTranslation | None:
    return machine.shadow(TC_VA + tc_page * 4096)


def opened(machine: MmuMachine, rights: int = USER_RW, user: bool = True) -> int:
    """Map code at VA to frame 5 and open PAGE; returns the entry's address."""
    at = machine.map(VA, 0x5000 | rights)
    assert machine.mmu.open_window(PAGE, [(VA, 5)], user, False)
    return at


@pytest.mark.parametrize("user", [False, True])
def test_a_window_is_executable_read_only_and_for_its_mode(machine: MmuMachine, user: bool) -> None:
    opened(machine, user=user)
    found = window(machine, PAGE)
    assert found is not None and found.physical == MONITOR_PA + TC_OFFSET + PAGE * 4096
    assert (found.executable, found.writable, found.user) == (True, False, user)


def test_resolve_code_sets_a_and_names_frame_and_globality(machine: MmuMachine) -> None:
    machine.map(VA, 0x5000 | RW | PTE.G)
    assert machine.mmu.resolve_code(VA + 7, False) == (5, True)
    assert machine.entry(VA) & AD == PTE.A


def test_g_means_nothing_without_pge(build: type[MmuMachine]) -> None:
    machine = build(Registers(cr4=CR4.PAE))
    machine.map(VA, 0x5000 | RW | PTE.G)
    assert machine.mmu.resolve_code(VA, False) == (5, False)


def test_resolve_code_raises_the_page_fault_of_a_fetch(machine: MmuMachine) -> None:
    machine.map(VA, 0x5000 | USER_RW | PTE.NX)
    with pytest.raises(GuestFault) as caught:
        machine.mmu.resolve_code(VA + 7, True)
    fault = caught.value
    assert (fault.vector, fault.cr2) == (14, VA + 7)
    assert fault.error_code == PageFaultError.P | PageFaultError.U | PageFaultError.I


@pytest.mark.parametrize(("entry", "user"), [
    (0x6000 | USER_RW, True), (0, True), (0x5000 | RW, True), (0x5000 | RW | PTE.NX, False),
])  # fmt: skip
def test_a_window_is_refused_if_the_guest_does_not_map_its_code_so(machine: MmuMachine, entry: int, user: bool) -> None:
    machine.map(VA, entry)
    assert not machine.mmu.open_window(PAGE, [(VA, 5)], user, False)
    assert window(machine, PAGE) is None


def test_a_window_is_one_roots_own(machine: MmuMachine) -> None:
    opened(machine)
    machine.mmu.load_cr3(OTHER_CR3)
    assert window(machine, PAGE) is None
    machine.mmu.load_cr3(CR3)
    assert window(machine, PAGE) is not None


def test_a_global_window_is_in_all_roots(machine: MmuMachine) -> None:
    machine.map(VA, 0x5000 | RW | PTE.G)
    assert machine.mmu.open_window(GLOBAL_PAGE, [(VA, 5)], False, True)
    machine.mmu.load_cr3(OTHER_CR3)
    assert window(machine, GLOBAL_PAGE) is not None


def test_the_half_of_the_tc_must_agree(machine: MmuMachine) -> None:
    machine.map(VA, 0x5000 | RW | PTE.G)
    with pytest.raises(ValueError, match="use one below"):
        machine.mmu.open_window(PAGE, [(VA, 5)], False, True)
    with pytest.raises(ValueError, match="use one from"):
        machine.mmu.open_window(GLOBAL_PAGE, [(VA, 5)], False, False)


@pytest.mark.parametrize("level", [4, 3, 2, 1])
def test_a_changed_entry_at_any_level_closes_the_window(either: MmuMachine, level: int) -> None:
    opened(either)
    either.engine.needs_flush = False
    either.mmu.guest_write_int(either.entry_gpa(VA, level), 0, 8)
    assert window(either, PAGE) is None
    assert either.engine.needs_flush


@pytest.mark.parametrize(("change", "closes"), [
    (PTE.D, False), (1 << 9, False), (PTE.W, False), (PTE.A, True), (PTE.U, True), (PTE.NX, True), (PTE.G, True),
    (0x1000, True),
])  # fmt: skip
def test_only_what_matters_to_a_fetch_closes_a_window(either: MmuMachine, change: int, closes: bool) -> None:
    at = opened(either, USER_RW | AD)
    either.mmu.guest_write_int(at, either.ram.u64[at >> 3] ^ change, 8)
    assert (window(either, PAGE) is None) == closes


def test_a_window_behind_a_large_page_follows_its_entry(either: MmuMachine) -> None:
    at = either.map(VA, 0x20_0000 | USER_RW | PTE.PS, 2)
    frame = either.mmu.resolve_code(VA, True)[0]
    assert either.mmu.open_window(PAGE, [(VA, frame)], True, False)
    either.mmu.guest_write_int(at, 0x40_0000 | USER_RW | PTE.PS | AD, 8)
    assert window(either, PAGE) is None


@pytest.mark.parametrize("page", [0, 1])
def test_code_across_two_pages_needs_both(either: MmuMachine, page: int) -> None:
    either.map(VA, 0x5000 | USER_RW)
    either.map(VA + 0x1000, 0x9000 | USER_RW)
    pages = [(VA, 5), (VA + 0x1000, 9)]
    assert either.mmu.open_window(PAGE, pages, True, False)
    either.mmu.guest_write_int(either.entry_gpa(VA + page * 0x1000, 1), 0, 8)
    assert window(either, PAGE) is None
    assert not either.mmu.open_window(PAGE, pages, True, False)


def test_releasing_a_table_closes_what_depends_on_it(either: MmuMachine) -> None:
    opened(either)
    either.mmu.release_table(either.entry_gpa(VA, 1) >> 12)
    assert window(either, PAGE) is None


def test_invlpg_closes_global_windows_too(machine: MmuMachine) -> None:
    machine.map(VA, 0x5000 | RW | PTE.G)
    machine.mmu.open_window(GLOBAL_PAGE, [(VA, 5)], False, True)
    machine.mmu.invlpg(VA + 0x1000)
    assert window(machine, GLOBAL_PAGE) is not None
    machine.mmu.invlpg(VA + 0x10)
    assert window(machine, GLOBAL_PAGE) is None


@pytest.mark.parametrize(("include_global", "stays"), [(False, True), (True, False)])
def test_global_windows_survive_all_but_global_flushes(machine: MmuMachine, include_global: bool, stays: bool) -> None:
    machine.map(VA, 0x5000 | RW | PTE.G)
    machine.mmu.open_window(GLOBAL_PAGE, [(VA, 5)], False, True)
    machine.mmu.flush_all(include_global)
    assert (window(machine, GLOBAL_PAGE) is not None) == stays


@pytest.mark.parametrize(("kind", "va", "stays"), [(0, VA, False), (0, 0, True), (1, VA, True), (2, 0, False), (3, 0, True)])
def test_invpcid_kinds_reach_global_windows_as_documented(machine: MmuMachine, kind: int, va: int, stays: bool) -> None:
    machine.map(VA, 0x5000 | RW | PTE.G)
    machine.mmu.open_window(GLOBAL_PAGE, [(VA, 5)], False, True)
    machine.mmu.invpcid(kind, 0, va)
    assert (window(machine, GLOBAL_PAGE) is not None) == stays


def test_a_reused_tc_page_is_closed_everywhere_and_at_once(machine: MmuMachine) -> None:
    opened(machine)
    first = machine.mmu.root
    machine.mmu.load_cr3(OTHER_CR3)
    machine.map(VA, 0x5000 | USER_RW, cr3=OTHER_CR3)
    assert machine.mmu.open_window(PAGE, [(VA, 5)], True, False)
    machine.engine.needs_flush = False
    machine.mmu.close_windows_of(PAGE)
    assert machine.engine.needs_flush and window(machine, PAGE) is None
    machine.mmu.load_cr3(CR3)
    assert machine.mmu.root == first and window(machine, PAGE) is None


def test_close_all_closes_all(machine: MmuMachine) -> None:
    opened(machine)
    machine.mmu.close_all()
    assert window(machine, PAGE) is None and machine.mmu.stats()["windows"] == 0


def test_smep_closes_windows_onto_user_pages(machine: MmuMachine) -> None:
    opened(machine, user=False)
    machine.cpu.cr4 |= CR4.SMEP
    machine.mmu.mode_changed()
    assert window(machine, PAGE) is None
    assert not machine.mmu.open_window(PAGE, [(VA, 5)], False, False)


def test_with_paging_off_windows_depend_on_nothing(build: type[MmuMachine]) -> None:
    machine = build(Registers(cr0=CR0.PE, efer=0, cr4=0))
    assert machine.mmu.resolve_code(0x5123, False) == (5, False)
    assert machine.mmu.open_window(PAGE, [(0x5000, 5)], False, False)
    machine.mmu.guest_write(0, bytes(0x4000))
    assert window(machine, PAGE) is not None


def test_a_discarded_roots_windows_are_forgotten(machine: MmuMachine) -> None:
    opened(machine)
    machine.mmu.load_cr3(OTHER_CR3)
    machine.mmu.release_table(CR3 >> 12)
    assert machine.mmu.stats()["windows"] == 0
    machine.mmu.close_windows_of(PAGE)


def test_a_window_opened_twice_is_one(machine: MmuMachine) -> None:
    at = opened(machine)
    assert machine.mmu.open_window(PAGE, [(VA, 5)], True, False)
    assert machine.mmu.stats()["windows"] == 1
    machine.mmu.guest_write_int(at, 0, 8)
    assert machine.mmu.stats()["windows"] == 0


def test_the_unpaged_roots_windows_go_with_it(build: type[MmuMachine]) -> None:
    machine = build(Registers(cr0=CR0.PE, efer=0, cr4=0))
    machine.mmu.open_window(PAGE, [(0x5000, 5)], False, False)
    machine.cpu.cr0, machine.cpu.cr4 = CR0.PE | CR0.PG | CR0.WP, CR4.PAE
    machine.cpu.efer = EFER.LME | EFER.LMA
    machine.mmu.mode_changed()
    machine.mmu.drop_all()
    assert machine.mmu.stats()["windows"] == 0 and machine.mmu.stats()["roots"] == 1
