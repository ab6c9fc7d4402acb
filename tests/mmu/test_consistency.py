"""The consistency check finds each thing that is broken by hand, and nothing in a shadow that is as it should be."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from mmu_machine import CR3, RW, USER_RW, MmuMachine, Registers

from dbgvmm.cpu.bits import CR0, CR4
from dbgvmm.hardware.layout import DATA_VA, MONITOR_PA, TC_VA
from dbgvmm.hardware.paging import PTE
from dbgvmm.mmu.access import HIDDEN, WRITE
from dbgvmm.mmu.consistency import check_shadow
from dbgvmm.mmu.trace_kinds import HIDE, WATCH

VA = 0x40_0000
LARGE = 0x8000_0000
FRAME = 0x50_0000


class Owner:
    """What a TC page belongs to."""

    def __init__(self, *pages: tuple[int, int], user: bool = False) -> None:
        self.pages = pages
        self.user = user


@pytest.fixture
def filled() -> MmuMachine:
    """A page of 4 KiB and one of 2 MiB, both written, and an open window onto code. Not checked behind the test."""
    machine = MmuMachine()
    machine.map(VA, FRAME | RW)
    machine.map(VA + 0x1000, FRAME + 0x1000 | USER_RW)
    machine.map(LARGE, 0x60_0000 | RW | PTE.PS, 2)
    for va in (VA, VA + 0x1000, LARGE):
        assert machine.touch(va, WRITE) == HIDDEN
    assert machine.mmu.open_window(20_000, [(VA, FRAME >> 12)], False, False)
    return machine


def slot_of(machine: MmuMachine, va: int, level: int = 1) -> int:
    """The slot of the shadow entry that `va` uses at a level."""
    frames = machine.engine.frames
    table: int = machine.mmu.root
    for above in range(5, level, -1):
        table = frames.u64[frames.index(table) + (va >> 3 + 9 * above & 511)] & PTE.ADDRESS
    return frames.index(table) + (va >> 3 + 9 * level & 511)


def rules(machine: MmuMachine, owner: Callable[[int], Owner | None] = lambda page: None) -> set[str]:
    return {finding.rule for finding in check_shadow(machine.mmu, owner).findings}


def test_nothing_is_found_in_a_sound_shadow(filled: MmuMachine) -> None:
    report = check_shadow(filled.mmu, lambda page: Owner((VA, FRAME >> 12)))
    assert report.findings == ()
    assert report.checked["shadow pages"] == 5
    assert report.checked["windows"] == 1
    assert report.checked["reverse map entries"] == 2


@pytest.mark.parametrize(
    ("level", "flip", "rule"),
    [
        (1, 0x1000, "entry"),
        (1, PTE.U, "rights"),
        (1, PTE.NX, "rights"),
        (2, PTE.P | 1 << 40, "link"),
        (3, 0x1000, "link"),
    ],
)
def test_a_changed_shadow_entry_is_found(filled: MmuMachine, level: int, flip: int, rule: str) -> None:
    filled.engine.frames.u64[slot_of(filled, VA, level)] ^= flip
    assert rule in rules(filled)


def test_a_guest_entry_that_changed_behind_the_monitors_back_is_found(filled: MmuMachine) -> None:
    at = filled.entry_gpa(VA, 1) >> 3
    for gone, word in ((PTE.P, "not present"), (PTE.A, "A bit"), (PTE.W, "writable"), (PTE.D, "D bit")):
        filled.ram.u64[at] ^= gone
        (finding,) = [each for each in check_shadow(filled.mmu).findings if each.rule != "window"]
        assert word in finding.text
        assert f"{VA:#x}" in finding.text
        filled.ram.u64[at] ^= gone
    filled.ram.u64[at] |= 1 << 45
    assert "reserved" in str(check_shadow(filled.mmu).findings)


def test_a_traced_frame_that_is_writable_is_found(filled: MmuMachine) -> None:
    filled.mmu.traces.kinds[FRAME >> 12] = WATCH
    assert rules(filled) == {"trace"}
    filled.mmu.traces.kinds[FRAME >> 12] = HIDE
    assert rules(filled) == {"trace"}
    del filled.mmu.traces.kinds[FRAME >> 12]
    filled.mmu.traces.kinds[0x60_0000 >> 12] = WATCH
    assert rules(filled) == {"trace"}, "in a region table"


def test_a_shadowed_table_that_is_not_traced_is_found_and_a_trace_without_reason_too(filled: MmuMachine) -> None:
    kinds = filled.mmu.traces.kinds
    kept = kinds.pop(CR3 >> 12)
    assert rules(filled) == {"trace"}
    kinds[CR3 >> 12] = kept
    kinds[0x999] = 1
    assert rules(filled) == {"trace"}
    del kinds[0x999]
    filled.mmu.protect_code(FRAME >> 12)
    assert check_shadow(filled.mmu, code_frames={FRAME >> 12}).findings == ()
    assert "no translations" in check_shadow(filled.mmu, code_frames=()).findings[0].text


def test_a_slot_that_the_reverse_map_lacks_is_found(filled: MmuMachine) -> None:
    noted = filled.mmu.rmap.slots.pop(FRAME >> 12)
    assert rules(filled) == {"reverse map"}
    filled.mmu.rmap.slots[FRAME >> 12] = noted
    filled.mmu.rmap.leaf_tables.clear()
    assert rules(filled) == {"reverse map"}


def test_a_parent_that_links_elsewhere_is_found(filled: MmuMachine) -> None:
    page = next(page for page in filled.mmu.pages.by_base.values() if page.level == 1)
    page.parents.add(slot_of(filled, VA, 1))
    assert rules(filled) == {"link"}
    page.parents.clear()
    assert rules(filled) == {"link"}


def test_a_damaged_region_table_is_found(filled: MmuMachine) -> None:
    base = filled.engine.frames.index(filled.mmu.regions.tables[3])
    filled.engine.frames.u64[base + 7] = 0
    assert "region" in rules(filled)


@pytest.mark.parametrize("va", [DATA_VA, DATA_VA + 0x1_0000, TC_VA & -1 << 30 | 1 << 30])
def test_a_damaged_monitor_region_is_found(filled: MmuMachine, va: int) -> None:
    level = 2 if va & 1 << 30 else 1
    filled.engine.frames.u64[slot_of(filled, va, level)] ^= PTE.U
    assert "monitor" in rules(filled)


def test_a_mapping_between_the_guests_halves_is_found(filled: MmuMachine) -> None:
    filled.engine.frames.u64[filled.engine.frames.index(filled.mmu.root) + 3] = MONITOR_PA | PTE.P
    assert rules(filled) == {"monitor"}


def test_an_executable_tc_page_without_a_window_is_found(filled: MmuMachine) -> None:
    filled.open_forever(20_001, False)
    assert rules(filled) == {"window"}
    filled.close_forced()
    (slot,) = filled.mmu.windows.open
    filled.engine.frames.u64[slot] = 0
    assert rules(filled) == {"window"}


def test_a_window_onto_other_code_is_an_error(filled: MmuMachine) -> None:
    report = check_shadow(filled.mmu, lambda page: Owner((VA, 0x777)))
    assert [finding.rule for finding in report.errors] == ["window"]
    assert rules(filled, lambda page: Owner((VA, FRAME >> 12), user=True)) == {"window"}


def test_a_global_window_may_outlive_its_mapping_as_in_a_tlb(machine: MmuMachine) -> None:
    """SDM vol. 3A 4.10.4.3: until the guest invalidates it."""
    entry = machine.map(VA, FRAME | RW | PTE.G)
    assert machine.mmu.open_window(100, [(VA, FRAME >> 12)], False, True)
    machine.map(VA, FRAME | RW | PTE.G, cr3=0x9000)
    machine.mmu.load_cr3(0xA000)
    report = check_shadow(machine.mmu)
    assert [finding.permitted for finding in report.findings] == [True]
    assert report.errors == ()
    machine.mmu.invlpg(VA)
    assert check_shadow(machine.mmu).findings == ()
    assert entry


def test_a_frame_that_leaks_or_is_used_twice_is_found(filled: MmuMachine) -> None:
    leaked = filled.engine.frames.allocate()
    assert rules(filled) == {"frames"}
    filled.engine.frames.release(leaked)
    assert rules(filled) == set()
    filled.mmu.regions.tables[77] = filled.mmu.regions.tables[3]
    assert "frames" in rules(filled)


def test_pages_made_with_wp_off_are_checked_by_their_own_rules() -> None:
    machine = MmuMachine(Registers(cr0=CR0.PG | CR0.PE, cr4=CR4.PAE))
    machine.map(VA, FRAME | PTE.P)
    machine.map(VA + 0x1000, FRAME + 0x1000 | PTE.P | PTE.U)
    assert machine.touch(VA, WRITE) == machine.touch(VA + 0x1000, WRITE) == HIDDEN
    assert check_shadow(machine.mmu).findings == ()
    machine.engine.frames.u64[slot_of(machine, VA + 0x1000)] |= PTE.U
    assert rules(machine) == {"rights"}
