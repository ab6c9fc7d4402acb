"""The engine's own MMU walks the shadow: real loads, stores and jumps at CPL 1 and 3."""

from __future__ import annotations

import struct

import pytest
from mmu_machine import RW, USER_RW, MmuMachine

from dbgvmm.cpu.bits import PageFaultError
from dbgvmm.hardware.layout import DATA_OFFSET, DATA_VA, TC_VA, USER_DATA_VA
from dbgvmm.hardware.paging import PTE
from dbgvmm.mmu.access import HIDDEN, TRACE
from dbgvmm.mmu.monitor_space import GLOBAL_TC_PAGES

VA = 0x40_0000_1000
AD = PTE.A | PTE.D
P, W, U = PageFaultError.P, PageFaultError.W, PageFaultError.U
PAGE = GLOBAL_TC_PAGES
END = b"\xcd\x21"
PF, CALLOUT = 14, 0x21


def load(va: int) -> bytes:
    return b"\x48\xb8" + struct.pack("<Q", va) + b"\x48\x8b\x18"


def store(va: int) -> bytes:
    return b"\x48\xb8" + struct.pack("<Q", va) + b"\x48\x89\x18"


def run(machine: MmuMachine, code: bytes, cpl: int, rbx: int = 0) -> tuple[list[int], list[tuple[int, int, int]]]:
    """Run code from a TC page; returns the outcomes of its page faults, up to the first not hidden, and all exits."""
    rip = machine.put_code(code + END, PAGE)
    machine.open_forever(PAGE, cpl == 3)
    machine.load(rip, cpl)
    machine.engine.context.gpr[3] = rbx
    outcomes: list[int] = []

    def on_exit(vector: int, cr2: int, error: int) -> bool:
        if vector != PF:
            return False
        outcomes.append(machine.touch(cr2, error, cpl == 3))
        return outcomes[-1] == HIDDEN

    return outcomes, machine.run(on_exit)


@pytest.mark.parametrize("cpl", [1, 3])
def test_a_load_takes_one_hidden_fault_and_a_second_none(machine: MmuMachine, cpl: int) -> None:
    machine.map(VA, 0x5000 | USER_RW)
    machine.ram.u64[0x5008 >> 3] = 0x1234
    outcomes, exits = run(machine, load(VA + 8) * 2, cpl)
    assert outcomes == [HIDDEN] and exits[-1][0] == CALLOUT
    assert machine.engine.context.gpr[3] == 0x1234


def test_a_store_reaches_ram_and_sets_d(machine: MmuMachine) -> None:
    machine.map(VA, 0x5000 | RW)
    outcomes, _ = run(machine, load(VA) + store(VA + 16), 1)
    assert outcomes == [HIDDEN, HIDDEN]
    assert machine.entry(VA) & AD == AD


def test_the_engine_reports_the_bits_of_a_true_fault(machine: MmuMachine) -> None:
    machine.map(VA, 0x5000 | RW | AD)
    _, exits = run(machine, store(VA + 0x10), 3)
    assert exits[0][:2] == (PF, VA + 0x10)
    assert machine.mmu.fault_error == P | W | U


def test_a_traced_table_faults_although_the_tlb_knew_it_writable(machine: MmuMachine) -> None:
    table = 0x8000
    machine.map(VA, table | RW)
    outcomes, _ = run(machine, store(VA), 1, rbx=0x77)
    assert outcomes == [HIDDEN] and machine.ram.u64[table >> 3] == 0x77
    machine.mmu.protect_code(table >> 12)
    outcomes, _ = run(machine, store(VA), 1, rbx=0x88)
    assert outcomes == [TRACE] and machine.ram.u64[table >> 3] == 0x77


def test_a_trace_set_during_a_run_takes_effect_at_the_next_store(machine: MmuMachine) -> None:
    machine.map(VA, 0x5000 | RW)
    rip = machine.put_code(store(VA) + b"\xcd\x22" + store(VA + 8) + END, PAGE)
    machine.open_forever(PAGE, False)
    machine.load(rip, 1)
    outcomes: list[int] = []

    def on_exit(vector: int, cr2: int, error: int) -> bool:
        if vector == 0x22:
            machine.mmu.protect_code(5)
            return True
        if vector == PF:
            outcomes.append(machine.touch(cr2, error))
            return outcomes[-1] == HIDDEN
        return False

    machine.run(on_exit)
    assert outcomes == [HIDDEN, TRACE]


def test_a_large_page_is_loaded_through_its_region_table(machine: MmuMachine) -> None:
    machine.map(VA, 0x20_0000 | RW | PTE.PS, 2)
    machine.ram.u64[0x3F_FFF8 >> 3] = 0x4321
    outcomes, _ = run(machine, load((VA | 0x1F_FFFF) - 7), 1)
    assert outcomes == [HIDDEN] and machine.engine.context.gpr[3] == 0x4321


def test_device_memory_answers_through_the_shadow(machine: MmuMachine) -> None:
    machine.map(VA, 0xFEE0_0000 | RW)
    outcomes, _ = run(machine, load(VA + 0x20), 1)
    assert outcomes == [HIDDEN] and machine.engine.context.gpr[3] == 0x0000_005A_0000_005A


def test_each_mode_reaches_the_data_page_at_its_own_address_only(machine: MmuMachine) -> None:
    block = machine.engine.frames.block
    block.u64[DATA_OFFSET >> 3] = 0x99
    for cpl, own in ((1, DATA_VA), (3, USER_DATA_VA)):
        _, exits = run(machine, load(own), cpl)
        assert exits[-1][0] == CALLOUT and machine.engine.context.gpr[3] == 0x99
    machine.engine.handler = lambda vector: None
    rip = machine.put_code(load(DATA_VA) + END, PAGE)
    machine.load(rip, 3)
    assert machine.run(lambda *found: False)[0] == (PF, DATA_VA, P | U)


def test_an_unopened_window_faults_at_its_tc_address_and_then_runs(machine: MmuMachine) -> None:
    machine.map(VA, 0x6000 | USER_RW)
    rip = machine.put_code(END, PAGE + 1)
    machine.load(rip, 3)
    opened: list[bool] = []

    def on_exit(vector: int, cr2: int, error: int) -> bool:
        if vector == PF:
            assert cr2 == TC_VA + (PAGE + 1) * 4096
            opened.append(machine.mmu.open_window(PAGE + 1, [(VA, 6)], True, False))
            return True
        return False

    exits = machine.run(on_exit)
    assert opened == [True] and exits[-1][0] == CALLOUT


def test_an_unmapped_code_page_cannot_be_jumped_to_after_the_guests_flush(machine: MmuMachine) -> None:
    at = machine.map(VA, 0x6000 | USER_RW)
    rip = machine.put_code(END, PAGE + 1)
    machine.mmu.open_window(PAGE + 1, [(VA, 6)], True, False)
    machine.load(rip, 3)
    assert machine.run(lambda *found: False)[0][0] == CALLOUT
    machine.mmu.guest_write_int(at, 0, 8)
    machine.mmu.invlpg(VA)
    context = machine.engine.context
    context.q[context.rip_q] = rip
    assert machine.run(lambda *found: False)[0][:2] == (PF, rip)


def test_a_stepped_store_through_an_opened_page_lands_and_is_applied(machine: MmuMachine) -> None:
    at = machine.map(VA, 0x5000 | RW | AD)
    machine.map(VA + 0x1000, at & -4096 | RW | AD)
    machine.touch(VA)
    rip = machine.put_code(store(VA + 0x1000 + (at & 0xFFF)) + END, PAGE)
    machine.open_forever(PAGE, False)
    machine.load(rip, 1)
    machine.engine.context.gpr[3] = 0x7000 | RW | AD

    def on_exit(vector: int, cr2: int, error: int) -> bool:
        if vector == PF and machine.touch(cr2, error) == TRACE:
            machine.mmu.open_page(machine.mmu.trace_gpa)
            return True
        return False

    exits = machine.run(on_exit)
    machine.mmu.close_page(at)
    assert [vector for vector, _, _ in exits] == [PF, CALLOUT]
    machine.touch(VA)
    found = machine.shadow(VA)
    assert found is not None and found.physical == 0x7000


def test_the_user_runs_guest_pages_in_place_with_user_execute(build: type[MmuMachine]) -> None:
    machine = build(user_execute=True)
    machine.map(VA, 0x5000 | USER_RW)
    machine.ram.bytes[0x5000:0x5002] = END
    machine.load(VA, 3)

    def on_exit(vector: int, cr2: int, error: int) -> bool:
        return vector == PF and machine.touch(cr2, error, user=True) == HIDDEN

    assert [vector for vector, _, _ in machine.run(on_exit)] == [PF, CALLOUT]
