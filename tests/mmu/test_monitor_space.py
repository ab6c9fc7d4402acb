from __future__ import annotations

import pytest
from mmu_machine import MmuMachine

from dbgvmm.hardware.layout import KERNEL_LOOKUP_VA, LOOKUP_SPAN, USER_LOOKUP_VA

EMPTY = 0x1234_5678_9ABC_DEF0


@pytest.mark.parametrize(("base", "user"), [(KERNEL_LOOKUP_VA, False), (USER_LOOKUP_VA, True)])
@pytest.mark.parametrize("offset", [0, 8 * 0x7FFF_FFFF_F000, -8, -LOOKUP_SPAN])
def test_a_lookup_page_is_in_all_roots_with_its_tables_rights(
    machine: MmuMachine, base: int, user: bool, offset: int
) -> None:
    page = machine.mmu.monitor.map_lookup_page(base + offset)
    machine.mmu.load_cr3(0x10_0000)
    found = machine.shadow(base + offset)
    assert found is not None and found.physical == page | (base + offset) & 0xFFF
    assert (found.writable, found.user, found.executable) == (True, user, False)


def test_new_lookup_pages_hold_the_empty_slot_everywhere(build: type[MmuMachine]) -> None:
    machine = build(empty_slot=EMPTY)
    page = machine.mmu.monitor.map_lookup_page(KERNEL_LOOKUP_VA)
    base = machine.engine.frames.index(page)
    assert machine.engine.frames.u64[base : base + 512].tolist() == [EMPTY] * 512


def test_mapping_a_lookup_page_again_keeps_what_it_holds(machine: MmuMachine) -> None:
    monitor, frames = machine.mmu.monitor, machine.engine.frames
    page = monitor.map_lookup_page(KERNEL_LOOKUP_VA)
    frames.u64[frames.index(page)] = 7
    assert monitor.map_lookup_page(KERNEL_LOOKUP_VA + 8) == page
    assert frames.u64[frames.index(page)] == 7


def test_clearing_refills_every_lookup_page(build: type[MmuMachine]) -> None:
    machine = build(empty_slot=EMPTY)
    frames = machine.engine.frames
    index = frames.index(machine.mmu.monitor.map_lookup_page(USER_LOOKUP_VA))
    frames.u64[index + 3] = 7
    machine.mmu.monitor.clear_lookup()
    assert frames.u64[index + 3] == EMPTY


def test_an_address_outside_both_tables_is_refused(machine: MmuMachine) -> None:
    with pytest.raises(ValueError, match="neither lookup table"):
        machine.mmu.monitor.map_lookup_page(KERNEL_LOOKUP_VA + LOOKUP_SPAN)


def test_a_tc_page_beyond_the_end_is_refused(machine: MmuMachine) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        machine.mmu.monitor.tc_slot(next(iter(machine.mmu.roots.by_key.values())).monitor, 1 << 20)
