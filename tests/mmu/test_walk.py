from __future__ import annotations

import pytest
from mmu_machine import CR3, RAM_SIZE, RW, USER_RW, MmuMachine, Registers

from dbgvmm.cpu.bits import CR0, CR4, EFER, PageFaultError
from dbgvmm.hardware.paging import PTE
from dbgvmm.mmu.access import FETCH, IMPLICIT, READ, USER, WRITE

VA = 0x40_0000_1000
P, W, U, RSVD, I = (  # noqa: E741 - the manual's names
    PageFaultError.P, PageFaultError.W, PageFaultError.U, PageFaultError.RSVD, PageFaultError.I
)  # fmt: skip


def fault(machine: MmuMachine, access: int, va: int = VA) -> int | None:
    """The error code, or None if the walk succeeds."""
    return machine.mmu.format.error if machine.mmu.walk(va, access) is None else None


@pytest.mark.parametrize(
    ("level", "base", "va", "gpa"),
    [
        (1, 0x5000, VA + 0x123, 0x5123),
        (2, 0x80_0000, 0x40_0012_3456, 0x92_3456),
        (3, 0x4000_0000, 0x40_1234_5678, 0x5234_5678),
    ],
)
def test_each_page_size_translates_its_whole_offset(machine: MmuMachine, level: int, base: int, va: int, gpa: int) -> None:
    machine.map(va, base | RW | (PTE.PS if level > 1 else 0), level)
    walk = machine.mmu.walk(va, READ)
    assert walk is not None and walk[0] == gpa


def test_a_read_sets_a_at_every_level_and_d_nowhere(machine: MmuMachine) -> None:
    machine.map(VA, 0x5000 | RW)
    machine.mmu.walk(VA, READ)
    assert [machine.entry(VA, level) & (PTE.A | PTE.D) for level in (4, 3, 2, 1)] == [PTE.A] * 4


def test_a_write_sets_d_in_the_leaf_only(machine: MmuMachine) -> None:
    machine.map(VA, 0x5000 | RW)
    machine.mmu.walk(VA, WRITE)
    assert [bool(machine.entry(VA, level) & PTE.D) for level in (4, 3, 2, 1)] == [False, False, False, True]


@pytest.mark.parametrize("level", [2, 3])
def test_a_write_sets_d_in_a_large_leaf(machine: MmuMachine, level: int) -> None:
    machine.map(VA, 0x4000_0000 | RW | PTE.PS, level)
    machine.mmu.walk(VA, WRITE)
    assert machine.entry(VA, level) & (PTE.A | PTE.D) == PTE.A | PTE.D


def test_a_failed_walk_sets_no_bits(machine: MmuMachine) -> None:
    machine.map(VA, 0x5000 | PTE.P)
    assert fault(machine, WRITE) == P | W
    assert not any(machine.entry(VA, level) & (PTE.A | PTE.D) for level in (4, 3, 2, 1))


@pytest.mark.parametrize("level", [4, 3, 2, 1])
def test_a_missing_entry_at_any_level_is_not_present(machine: MmuMachine, level: int) -> None:
    machine.map(VA, 0x5000 | USER_RW)
    machine.ram.u64[machine.entry_gpa(VA, level) >> 3] &= ~PTE.P
    assert fault(machine, WRITE | USER) == W | U


@pytest.mark.parametrize("level", [4, 3, 2, 1])
@pytest.mark.parametrize("bit", [1 << 37, 1 << 51])
def test_address_bits_from_37_up_are_reserved(machine: MmuMachine, level: int, bit: int) -> None:
    machine.map(VA, 0x5000 | RW)
    machine.ram.u64[machine.entry_gpa(VA, level) >> 3] |= bit
    assert fault(machine, READ) == P | RSVD


def test_reserved_bits_of_an_entry_that_is_not_present_do_not_matter(machine: MmuMachine) -> None:
    machine.map(VA, 1 << 40)
    assert fault(machine, READ) == 0


@pytest.mark.parametrize(("level", "bit"), [(2, 13), (2, 20), (3, 13), (3, 29)])
def test_misaligned_large_pages_are_reserved(machine: MmuMachine, level: int, bit: int) -> None:
    machine.map(VA, 0x4000_0000 | RW | PTE.PS | 1 << bit, level)
    assert fault(machine, READ | USER) == P | RSVD | U


@pytest.mark.parametrize("level", [2, 3])
def test_bit_12_of_a_large_page_is_pat_and_no_address(machine: MmuMachine, level: int) -> None:
    machine.map(VA, 0x4000_0000 | RW | PTE.PS | PTE.LARGE_PAT, level)
    walk = machine.mmu.walk(VA & -(1 << 30), READ)
    assert walk is not None and walk[0] == 0x4000_0000


def test_ps_in_a_pml4_entry_is_reserved(machine: MmuMachine) -> None:
    machine.map(VA, 0x5000 | RW)
    machine.ram.u64[machine.entry_gpa(VA, 4) >> 3] |= PTE.PS
    assert fault(machine, READ) == P | RSVD


def test_nx_is_reserved_without_nxe(build: type[MmuMachine]) -> None:
    machine = build(Registers(efer=EFER.LME | EFER.LMA))
    machine.map(VA, 0x5000 | RW | PTE.NX)
    assert fault(machine, READ) == P | RSVD


@pytest.mark.parametrize("level", [4, 3, 2, 1])
def test_nx_at_any_level_forbids_the_fetch_only(machine: MmuMachine, level: int) -> None:
    machine.map(VA, 0x5000 | RW)
    machine.ram.u64[machine.entry_gpa(VA, level) >> 3] |= PTE.NX
    assert fault(machine, FETCH) == P | I
    assert fault(machine, WRITE) is None


@pytest.mark.parametrize("level", [4, 3, 2, 1])
def test_u_clear_at_any_level_keeps_the_user_out(machine: MmuMachine, level: int) -> None:
    machine.map(VA, 0x5000 | USER_RW)
    machine.ram.u64[machine.entry_gpa(VA, level) >> 3] &= ~PTE.U
    assert fault(machine, READ | USER) == P | U
    assert fault(machine, READ) is None


@pytest.mark.parametrize("level", [4, 3, 2, 1])
def test_w_clear_at_any_level_stops_writes_of_both(machine: MmuMachine, level: int) -> None:
    machine.map(VA, 0x5000 | USER_RW)
    machine.ram.u64[machine.entry_gpa(VA, level) >> 3] &= ~PTE.W
    assert fault(machine, WRITE | USER) == P | W | U
    assert fault(machine, WRITE) == P | W


def test_without_wp_only_the_user_respects_w(build: type[MmuMachine]) -> None:
    machine = build(Registers(cr0=CR0.PG | CR0.PE))
    machine.map(VA, 0x5000 | PTE.P | PTE.U)
    assert fault(machine, WRITE | USER) == P | W | U
    assert fault(machine, WRITE) is None


def test_smep_forbids_the_supervisor_to_fetch_from_user_pages(build: type[MmuMachine]) -> None:
    machine = build(Registers(cr4=CR4.PAE | CR4.SMEP))
    machine.map(VA, 0x5000 | USER_RW)
    assert fault(machine, FETCH) == P | I
    assert fault(machine, READ) is None
    assert fault(machine, FETCH | USER) is None


@pytest.mark.parametrize(("access", "ac", "faults"), [
    (READ, False, True), (READ, True, False), (READ | IMPLICIT, True, True), (READ | USER, False, False),
    (FETCH, False, False),
])  # fmt: skip
def test_smap_depends_on_ac_for_explicit_accesses(build: type[MmuMachine], access: int, ac: bool, faults: bool) -> None:
    machine = build(Registers(cr4=CR4.PAE | CR4.SMAP))
    machine.map(VA, 0x5000 | USER_RW)
    machine.ac = ac
    assert fault(machine, access) == (P if faults else None)


@pytest.mark.parametrize(("efer", "cr4", "code"), [
    (EFER.NXE, 0, I), (0, CR4.SMEP, I), (0, 0, 0),
])  # fmt: skip
def test_the_i_bit_needs_nxe_or_smep(build: type[MmuMachine], efer: int, cr4: int, code: int) -> None:
    machine = build(Registers(efer=EFER.LME | EFER.LMA | efer, cr4=CR4.PAE | cr4))
    assert fault(machine, FETCH) == code


def test_a_table_outside_ram_reads_as_ones(machine: MmuMachine) -> None:
    machine.map(VA, 0x5000 | RW)
    machine.ram.u64[machine.entry_gpa(VA, 2) >> 3] = RAM_SIZE | RW
    assert fault(machine, READ) == P | RSVD


def test_a_table_that_maps_itself_walks_and_gets_its_bits(machine: MmuMachine) -> None:
    machine.ram.u64[(CR3 >> 3) + 256] = CR3 | RW
    va = 0xFFFF_8000_0000_0000 | 256 << 30 | 256 << 21 | 256 << 12
    walk = machine.mmu.walk(va, WRITE)
    assert walk is not None and walk[0] == CR3
    assert walk[1] == walk[4] == CR3 | RW | PTE.A | PTE.D


def test_a_report_names_every_level_and_changes_nothing(machine: MmuMachine) -> None:
    machine.map(VA, 0x5000 | RW | PTE.G)
    before = bytes(machine.ram.bytes[:0x8000])
    report = machine.mmu.walk_report(VA + 5)
    assert [level.name for level in report.levels] == ["PML4E", "PDPTE", "PDE", "PTE"]
    assert (report.gpa, report.page_size, report.writable, report.user, report.is_global) == (0x5005, 4096, True, False, True)
    assert report.levels[-1].entry_gpa == machine.entry_gpa(VA, 1)
    assert bytes(machine.ram.bytes[:0x8000]) == before


def test_a_report_says_where_a_walk_ends(machine: MmuMachine) -> None:
    machine.map(VA, 0)
    report = machine.mmu.walk_report(VA)
    assert report.gpa is None and report.problem == "PTE not present" and len(report.levels) == 4


def test_paging_off_is_the_identity(build: type[MmuMachine]) -> None:
    machine = build(Registers(cr0=CR0.PE, efer=0, cr4=0))
    assert machine.mmu.walk(0x12_3456, WRITE | USER) == (0x12_3456, 0, 0, 0, 0)
