"""The rule that `why fault` names decides as the walk of the guest's own accesses does, error code included."""

from __future__ import annotations

import random

import pytest
from mmu_machine import MmuMachine, Registers
from test_random_edits import INDICES, TABLES, random_address, random_entry

from dbgvmm.cpu.bits import CR0, CR4, EFER
from dbgvmm.mmu.access import FETCH, READ, USER, WRITE
from dbgvmm.mmu.verdict import judge

ACCESSES = [READ, WRITE, FETCH, USER, USER | WRITE, USER | FETCH]


@pytest.mark.parametrize("wp", [0, CR0.WP])
@pytest.mark.parametrize("nxe", [0, EFER.NXE])
@pytest.mark.parametrize("cr4", [0, CR4.SMEP, CR4.SMAP, CR4.SMEP | CR4.SMAP])
def test_the_verdict_is_that_of_the_walk(wp: int, nxe: int, cr4: int) -> None:
    rng = random.Random(wp + nxe + cr4)
    registers = Registers(cr0=CR0.PG | CR0.PE | wp, cr4=CR4.PAE | cr4, efer=EFER.LME | EFER.LMA | nxe)
    machine = MmuMachine(registers)
    for table in TABLES:
        for index in INDICES:
            machine.ram.u64[(table >> 3) + index] = random_entry(rng, 0.2 if nxe else 0.005)
    mmu = machine.mmu
    allowed = 0
    for _ in range(600):
        va, access = random_address(rng), rng.choice(ACCESSES)
        machine.ac = rng.random() < 0.5
        verdict = judge(mmu, mmu.current, mmu.report_in(mmu.current, va), access)
        assert verdict.rule
        walk = mmu.walk(va, access)
        assert verdict.allowed == (walk is not None), f"{va:#x} {access:#x}: {verdict}"
        if walk is None:
            assert verdict.error_code == mmu.format.error, f"{va:#x} {access:#x}: {verdict}"
        allowed += verdict.allowed
    assert 0 < allowed < 600
