"""After any sequence of guest table edits and accesses, the shadow grants what the guest's tables grant and no more."""

from __future__ import annotations

import random

import pytest
from mmu_machine import CR3, MmuMachine, Registers

from dbgvmm.cpu.bits import CR0
from dbgvmm.hardware.paging import PTE
from dbgvmm.mmu.access import FETCH, HIDDEN, TRACE, TRUE, USER, WRITE
from dbgvmm.mmu.consistency import check_shadow

TABLES = [CR3 + n * 0x1000 for n in range(9)]
"""Any of these may be used as a table of any level: shared, aliased and recursive tables included."""
INDICES = [0, 1, 255, 256, 511]
FLAGS = [PTE.W, PTE.U, PTE.A, PTE.D, PTE.G, PTE.NX, 1 << 10]


def random_entry(rng: random.Random, nx: float = 0.4) -> int:
    if rng.random() < 0.08:
        return rng.getrandbits(20) << 12 & ~1
    entry = PTE.P | rng.choice(TABLES if rng.random() < 0.93 else [0x20_0000, 0x40_0000, 0xFEE0_0000])
    for flag in FLAGS:
        if rng.random() < (0.9 if flag in (PTE.W, PTE.U) else nx if flag == PTE.NX else 0.4):
            entry |= flag
    if rng.random() < 0.1:
        entry = entry & ~PTE.ADDRESS | PTE.PS | rng.choice([0, 0x20_0000, 0x4000_0000])
    if rng.random() < 0.01:
        entry |= 1 << 45
    return entry


def random_address(rng: random.Random) -> int:
    va = rng.choice(INDICES) << 39
    for shift in (30, 21, 12):
        va |= rng.choice(INDICES) << shift
    return va | 0xFFFF_0000_0000_0000 if va >> 47 else va


def check_address(machine: MmuMachine, va: int, traced: dict[int, int]) -> None:
    """What the shadow maps, the guest maps: same page, no right that the guest's walk would not give."""
    found = machine.shadow(va)
    if found is None:
        return
    report = machine.mmu.walk_report(va)
    assert report.gpa == found.physical, f"{va:#x} is mapped to {found.physical:#x}, the guest says {report}"
    assert all(level.entry & PTE.A for level in report.levels), f"{va:#x} is mapped although an A bit is clear"
    if machine.cpu.cr0 & CR0.WP:
        assert found.user == report.user
        assert not found.writable or report.writable
    else:
        assert not found.user or report.user
        assert not found.writable or report.writable or not found.user
    if found.writable:
        assert report.levels[-1].entry & PTE.D, f"{va:#x} is writable although not dirty"
        assert report.gpa is not None and report.gpa >> 12 not in traced, f"{va:#x} is writable although traced"
    assert not found.executable


def check_tracing(machine: MmuMachine) -> None:
    pages = machine.mmu.pages
    for gfn in pages.of_table:
        assert gfn in machine.mmu.traces.kinds or gfn << 12 >= machine.ram.size
    linked = {parent for page in pages.by_base.values() for parent in page.parents}
    assert len(linked) == sum(len(page.parents) for page in pages.by_base.values())


@pytest.mark.parametrize("wp", [True, False])
@pytest.mark.parametrize("validate", ["eager", "lazy"])
@pytest.mark.parametrize("seed", range(6))
def test_the_shadow_never_says_more_than_the_guest(validate: str, wp: bool, seed: int) -> None:
    rng = random.Random(seed)
    registers = Registers() if wp else Registers(cr0=CR0.PG | CR0.PE)
    machine = MmuMachine(registers, validate=validate)
    mmu = machine.mmu
    for table in TABLES:
        for index in INDICES:
            machine.ram.u64[(table >> 3) + index] = random_entry(rng)
    outcomes = {HIDDEN: 0, TRUE: 0, TRACE: 0}
    seen = [random_address(rng) for _ in range(24)]
    for _ in range(700):
        action = rng.random()
        if action < 0.45:
            va = rng.choice(seen) if rng.random() < 0.7 else random_address(rng)
            write, user = rng.choice([0, WRITE]), rng.random() < 0.4
            expected = mmu.walk(va, write | (USER if user else 0))
            outcome = machine.touch(va, write, user)
            outcomes[outcome] += 1
            assert (outcome == TRUE) == (expected is None)
            if outcome == HIDDEN:
                found = machine.shadow(va)
                assert found is not None and (found.writable or not write) and (found.user or not user)
            elif outcome == TRACE:
                assert expected is not None and expected[0] == mmu.trace_gpa
                assert mmu.trace_gpa >> 12 in mmu.traces.kinds
        elif action < 0.8:
            at = rng.choice(TABLES) + 8 * rng.choice(INDICES)
            if rng.random() < 0.3:
                mmu.guest_write_int(at, machine.ram.u64[at >> 3] ^ rng.choice(FLAGS), 8)
            elif rng.random() < 0.1:
                mmu.guest_write(at, random_entry(rng).to_bytes(8, "little")[: rng.randint(1, 7)])
            else:
                mmu.guest_write_int(at, random_entry(rng), 8)
            mmu.invlpg(random_address(rng))
        elif action < 0.86:
            mmu.load_cr3(rng.choice(TABLES[:3]))
        elif action < 0.9:
            frame = rng.choice(TABLES) >> 12
            rng.choice([mmu.protect_code, mmu.unprotect_code, mmu.release_table])(frame)
        elif action < 0.93:
            gpa = rng.choice(TABLES)
            mmu.open_page(gpa)
            for _ in range(rng.randint(0, 3)):
                machine.ram.u64[(gpa >> 3) + rng.choice(INDICES)] = random_entry(rng)
            mmu.close_page(gpa)
        for va in rng.sample(seen, 4):
            check_address(machine, va, mmu.traces.kinds)
        if not rng.randrange(50):
            assert check_shadow(mmu).errors == ()
    assert check_shadow(mmu).errors == ()
    for va in [random_address(rng) for _ in range(300)] + seen:
        check_address(machine, va, mmu.traces.kinds)
    check_tracing(machine)
    assert outcomes[HIDDEN] > 30 and outcomes[TRUE] > 10, f"the test did too little: {outcomes}"


@pytest.mark.parametrize("validate", ["eager", "lazy"])
@pytest.mark.parametrize("seed", range(4))
def test_windows_are_open_only_while_the_guest_maps_their_code(validate: str, seed: int) -> None:
    rng = random.Random(seed)
    machine = MmuMachine(validate=validate)
    mmu = machine.mmu
    for table in TABLES:
        for index in INDICES:
            machine.ram.u64[(table >> 3) + index] = random_entry(rng, nx=0.05)
    opened: dict[tuple[int, int], tuple[int, int, bool]] = {}
    refused = 0
    half = 1 << 14
    for step in range(500):
        if rng.random() < 0.5:
            va, user = random_address(rng), rng.random() < 0.5
            walk = mmu.walk(va, FETCH | (USER if user else 0))
            frame = walk[0] >> 12 if walk else 1
            if mmu.open_window(half + step, [(va, frame)], user, False):
                opened[mmu.root, half + step] = va, frame, user
            else:
                refused += 1
        elif rng.random() < 0.7:
            mmu.guest_write_int(rng.choice(TABLES) + 8 * rng.choice(INDICES), random_entry(rng, nx=0.05), 8)
        else:
            mmu.load_cr3(rng.choice(TABLES[:3]))
        for (root, tc_page), (va, frame, user) in opened.items():
            if root != mmu.root or machine.shadow(0xFF10_0000_0020_0000 + tc_page * 4096) is None:
                continue
            report = mmu.walk_report(va)
            assert report.gpa is not None and report.gpa >> 12 == frame
            assert report.executable and (report.user or not user)
    assert len(opened) > 20 and refused > 20
