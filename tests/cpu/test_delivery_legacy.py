"""Delivery in 32-bit protected mode and in real mode."""

from __future__ import annotations

import pytest

from dbgvmm.cpu.bits import RFLAGS, SReg, Vector
from dbgvmm.cpu.boot_state import enter_real_mode
from dbgvmm.cpu.exceptions import deliver
from dbgvmm.cpu.faults import TripleFault
from dbgvmm.cpu.iret import iret
from dbgvmm.cpu.state import Mode

from .guest import (
    HANDLER,
    KDATA,
    KERNEL_STACK,
    READ_ONLY,
    RSP0,
    TSS,
    TSS_SEL,
    UCODE32,
    UDATA,
    USER_STACK,
    FakeMemory,
    mode,
    new_cpu,
    protected_guest,
    set_gate32,
)


def test_page_fault_from_user_pushes_dwords_on_esp0_and_loads_ss0() -> None:
    cpu, mem = protected_guest(cpl=3)
    before = cpu.rflags
    deliver(cpu, mem, Vector.PF, 4, cr2=0x1000)
    assert cpu.gpr[4] == RSP0 - 24
    assert mem.dwords(RSP0 - 24, 6) == [4, 0x40_0000, UCODE32 | 3, before | RFLAGS.RF, USER_STACK, UDATA | 3]
    assert (cpu.cpl, cpu.segs[SReg.SS].selector, cpu.rip) == (0, KDATA, HANDLER + 14)
    assert mode(cpu) is Mode.PROTECTED32


def test_same_level_delivery_pushes_three_dwords() -> None:
    cpu, mem = protected_guest()
    deliver(cpu, mem, Vector.UD)
    assert cpu.gpr[4] == KERNEL_STACK - 12


def test_16_bit_gate_pushes_words() -> None:
    cpu, mem = protected_guest()
    set_gate32(mem, 6, kind=6, offset=0x1234)
    cpu.rip = 0x4321
    deliver(cpu, mem, Vector.UD)
    assert cpu.gpr[4] == KERNEL_STACK - 6
    assert (cpu.rip, mem.read_u16(cpu.gpr[4], False)) == (0x1234, 0x4321)


def test_delivery_and_iret_bring_back_the_interrupted_state() -> None:
    cpu, mem = protected_guest(cpl=3)
    before = cpu.save()
    deliver(cpu, mem, 0x14, ext=True)
    iret(cpu, mem, 4)
    after = cpu.save()
    # The data segments were usable by CPL 3 already, so nothing at all has changed but the accessed bits.
    for state in (before, after):
        for fields in state["segs"]:
            fields[3] |= 1
    assert after == before


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        (0, (Vector.TS, 1)),
        (0x7F8, (Vector.TS, 0x7F8 | 1)),
        (UDATA | 3, (Vector.TS, UDATA | 1)),
        (READ_ONLY, (Vector.TS, READ_ONLY | 1)),
        (0x90, (Vector.SS, 0x91)),
    ],
)
def test_a_bad_ss0_gives_the_manuals_fault(selector: int, expected: tuple[int, int]) -> None:
    cpu, mem = protected_guest(cpl=3)
    mem.write_u16(TSS + 8, selector, False)
    with pytest.raises(TripleFault) as caught:
        deliver(cpu, mem, Vector.UD)
    nested = caught.value.chain[1]
    assert (nested.vector, nested.error_code) == expected


def test_short_tss_is_ts_of_tr() -> None:
    cpu, mem = protected_guest(cpl=3)
    cpu.tr.limit = 8
    with pytest.raises(TripleFault) as caught:
        deliver(cpu, mem, Vector.UD)
    assert (caught.value.chain[1].vector, caught.value.chain[1].error_code) == (Vector.TS, TSS_SEL | 1)


def test_task_gate_says_that_it_is_one() -> None:
    cpu, mem = protected_guest()
    set_gate32(mem, 8, kind=5)
    with pytest.raises(TripleFault, match="task gate"):
        deliver(cpu, mem, Vector.DF, 0)


def test_stack_limit_is_checked_for_pushes() -> None:
    cpu, mem = protected_guest()
    cpu.segs[SReg.SS].limit = 0x7FFF
    cpu.gpr[4] = 0x8010
    with pytest.raises(TripleFault) as caught:
        deliver(cpu, mem, Vector.UD)
    assert (caught.value.chain[1].vector, caught.value.chain[1].error_code) == (Vector.SS, 1)


def test_expand_down_stack_is_valid_above_its_limit_only() -> None:
    cpu, mem = protected_guest()
    cpu.segs[SReg.SS].attributes |= 4
    cpu.segs[SReg.SS].limit = 0x6FFF
    assert deliver(cpu, mem, Vector.UD) == Vector.UD
    cpu.segs[SReg.SS].limit = KERNEL_STACK
    with pytest.raises(TripleFault):
        deliver(cpu, mem, Vector.UD)


def test_iret_with_nt_set_is_ts_because_there_are_no_tasks() -> None:
    cpu, mem = protected_guest()
    cpu.rflags |= RFLAGS.NT
    with pytest.raises(Exception, match="#TS"):
        iret(cpu, mem, 4)


def test_real_mode_interrupt_uses_the_vector_table_and_iret_returns() -> None:
    cpu, mem = new_cpu(), FakeMemory()
    enter_real_mode(cpu, 0x07C0, 0x10)
    cpu.segs[SReg.SS].base, cpu.segs[SReg.SS].selector = 0x9000 << 4, 0x9000
    cpu.gpr[4] = 0xABCD_0100
    cpu.rflags |= RFLAGS.IF
    mem.write_u32(0x21 * 4, 0xF000_1234, False)
    before = cpu.save()
    deliver(cpu, mem, 0x21, software=True, return_rip=0x12)
    assert (cpu.segs[SReg.CS].base, cpu.rip, cpu.gpr[4]) == (0xF_0000, 0x1234, 0xABCD_00FA)
    assert [mem.read_u16(0x9_00FA + i, False) for i in (0, 2, 4)] == [0x12, 0x07C0, RFLAGS.IF | 2]
    assert not cpu.rflags & RFLAGS.IF
    iret(cpu, mem, 2)
    before["rip"] = 0x12
    assert cpu.save() == before


def test_real_mode_stack_wraps_at_64_kib() -> None:
    cpu, mem = new_cpu(), FakeMemory()
    enter_real_mode(cpu, 0, 0x10)
    deliver(cpu, mem, 0x21, software=True, return_rip=0x12)
    assert cpu.gpr[4] == 0xFFFA
