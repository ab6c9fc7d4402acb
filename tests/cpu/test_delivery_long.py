"""Delivery through 64-bit gates."""

from __future__ import annotations

import pytest

from dbgvmm.cpu.bits import DR7, RFLAGS, PageFaultError, SReg, Vector
from dbgvmm.cpu.exceptions import deliver, deliver_fault
from dbgvmm.cpu.faults import GuestFault, TripleFault
from dbgvmm.cpu.interrupts import can_take_interrupt, can_take_nmi, deliver_external, deliver_nmi
from dbgvmm.cpu.state import Mode, VCpu

from .guest import (
    ABSENT_CODE,
    CONFORMING,
    GDT,
    HANDLER,
    IST1,
    KCODE,
    KCODE32,
    KDATA,
    KERNEL_STACK,
    RSP0,
    TSS,
    TSS_SEL,
    UCODE32,
    UCODE64,
    UDATA,
    USER_STACK,
    long_guest,
    mode,
    set_cs,
    set_gate64,
)

RF = RFLAGS.RF


def test_page_fault_from_user_pushes_the_exact_frame_on_rsp0() -> None:
    cpu, mem = long_guest(cpl=3)
    before = cpu.rflags
    entered = deliver(cpu, mem, Vector.PF, PageFaultError.U, cr2=0x1234)
    assert entered == Vector.PF
    assert cpu.gpr[4] == RSP0 - 48
    assert mem.qwords(RSP0 - 48, 6) == [
        PageFaultError.U, 0x40_0000, UCODE64 | 3, before | RF, USER_STACK, UDATA | 3
    ]  # fmt: skip
    assert (cpu.rip, cpu.cr2, cpu.cpl) == (HANDLER + 14, 0x1234, 0)
    assert (cpu.segs[SReg.CS].selector, cpu.segs[SReg.SS].selector) == (KCODE, 0)
    assert mode(cpu) is Mode.LONG64


def test_fault_at_same_level_aligns_the_stack_and_keeps_ss() -> None:
    cpu, mem = long_guest()
    cpu.gpr[4] = KERNEL_STACK - 3
    deliver(cpu, mem, Vector.UD)
    assert cpu.gpr[4] == KERNEL_STACK - 16 - 40
    assert mem.qwords(cpu.gpr[4], 5)[3:] == [KERNEL_STACK - 3, KDATA]
    assert cpu.segs[SReg.SS].selector == KDATA


def test_ist_is_used_even_without_a_change_of_level() -> None:
    cpu, mem = long_guest()
    set_gate64(mem, 8, ist=1)
    deliver(cpu, mem, Vector.DF, 0)
    assert cpu.gpr[4] == IST1 - 48
    assert mem.read_u64(IST1 - 16, False) == KERNEL_STACK


@pytest.mark.parametrize(("kind", "if_after"), [(14, 0), (15, RFLAGS.IF)])
def test_only_an_interrupt_gate_clears_if(kind: int, if_after: int) -> None:
    cpu, mem = long_guest()
    set_gate64(mem, 3, kind=kind)
    cpu.rflags |= RFLAGS.TF | RFLAGS.NT | RFLAGS.AC | RFLAGS.DF
    deliver(cpu, mem, 3, software=True, return_rip=0x40_0001)
    assert cpu.rflags == RFLAGS.FIXED | RFLAGS.AC | RFLAGS.DF | if_after


@pytest.mark.parametrize(("vector", "rf"), [(13, RF), (6, RF), (14, RF), (17, RF), (1, 0), (8, 0), (18, 0)])
def test_saved_rf_is_set_for_faults_only(vector: int, rf: int) -> None:
    cpu, mem = long_guest()
    deliver(cpu, mem, vector)
    assert mem.read_u64(cpu.gpr[4] + 16, False) & RF == rf


def test_external_interrupt_leaves_saved_rf_alone_and_wakes_the_cpu() -> None:
    cpu, mem = long_guest()
    set_gate64(mem, 32)
    cpu.halted = True
    assert deliver_external(cpu, mem, 32) == 32
    assert mem.read_u64(cpu.gpr[4] + 16, False) & RF == 0
    assert not cpu.halted and not cpu.rflags & RFLAGS.IF


def test_interrupts_wait_for_if_and_for_the_shadow() -> None:
    cpu, _ = long_guest()
    assert can_take_interrupt(cpu)
    cpu.interrupt_shadow = True
    assert not can_take_interrupt(cpu)
    cpu.interrupt_shadow = False
    cpu.rflags &= ~RFLAGS.IF
    assert not can_take_interrupt(cpu)


def test_nmi_blocks_further_nmis() -> None:
    cpu, mem = long_guest()
    assert can_take_nmi(cpu)
    deliver_nmi(cpu, mem)
    assert cpu.rip == HANDLER + 2 and not can_take_nmi(cpu)


def test_delivery_sets_the_accessed_bit_of_the_code_descriptor_once() -> None:
    cpu, mem = long_guest()
    deliver(cpu, mem, Vector.UD)
    assert mem.read_u64(GDT + KCODE, False) >> 40 & 1
    mem.read_only.add(GDT >> 12)
    assert deliver(cpu, mem, Vector.UD) == Vector.UD


def test_conforming_handler_keeps_cpl_3_and_writes_as_user() -> None:
    cpu, mem = long_guest(cpl=3)
    set_gate64(mem, 6, selector=CONFORMING)
    deliver(cpu, mem, Vector.UD)
    assert cpu.cpl == 3 and cpu.segs[SReg.CS].selector == CONFORMING | 3
    assert cpu.gpr[4] == USER_STACK - 40


def test_user_stack_of_a_conforming_handler_is_checked_as_user() -> None:
    cpu, mem = long_guest(cpl=3)
    set_gate64(mem, 6, selector=CONFORMING)
    mem.supervisor.add((USER_STACK - 8) >> 12)
    assert deliver(cpu, mem, Vector.UD) == Vector.PF
    assert cpu.cr2 == USER_STACK - 8
    assert mem.read_u64(cpu.gpr[4], False) == PageFaultError.P | PageFaultError.W | PageFaultError.U


@pytest.mark.parametrize(
    ("gate", "expected"),
    [
        ({"kind": 5}, (Vector.GP, 0x40 << 3 | 3)),
        ({"kind": 6}, (Vector.GP, 0x40 << 3 | 3)),
        ({"present": 0}, (Vector.NP, 0x40 << 3 | 3)),
        ({"selector": 0}, (Vector.GP, 1)),
        ({"selector": 0x7F8}, (Vector.GP, 0x7F8 | 1)),
        ({"selector": KDATA}, (Vector.GP, KDATA | 1)),
        ({"selector": ABSENT_CODE}, (Vector.NP, ABSENT_CODE | 1)),
        ({"selector": KCODE32}, (Vector.GP, KCODE32 | 1)),
        ({"offset": 0x8000_0000_0000}, (Vector.GP, 1)),
        ({"ist": 7}, (Vector.SS, 1)),
    ],
)
def test_a_bad_gate_gives_the_manuals_fault_with_ext(gate: dict[str, int], expected: tuple[int, int]) -> None:
    cpu, mem = long_guest(cpl=3)
    mem.write_u64(TSS + 36 + 6 * 8, 1 << 63, False)
    set_gate64(mem, 0x40, **gate)
    entered = deliver(cpu, mem, 0x40, ext=True)
    assert (entered, mem.read_u64(cpu.gpr[4], False)) == expected


def test_software_interrupt_needs_gate_dpl_and_its_error_has_no_ext() -> None:
    cpu, mem = long_guest(cpl=3)
    entered = deliver(cpu, mem, 3, software=True, return_rip=0x40_0001)
    assert entered == Vector.GP
    assert mem.qwords(cpu.gpr[4], 2) == [3 << 3 | 2, 0x40_0000]


def test_hardware_exception_ignores_gate_dpl() -> None:
    cpu, mem = long_guest(cpl=3)
    assert deliver(cpu, mem, 3) == 3


def test_vector_beyond_the_idt_limit_is_gp_of_the_vector() -> None:
    cpu, mem = long_guest()
    cpu.idtr.limit = 32 * 16 - 2
    assert deliver(cpu, mem, 31) == Vector.GP
    assert mem.read_u64(cpu.gpr[4], False) == 31 << 3 | 3


def test_tss_too_short_for_rsp0_is_ts_of_the_task_register() -> None:
    cpu, mem = long_guest(cpl=3)
    for vector in (8, 10):
        set_gate64(mem, vector, offset=HANDLER + vector, selector=CONFORMING)
    cpu.tr.limit = 4 + 6
    assert deliver(cpu, mem, 6) == Vector.TS
    assert mem.read_u64(cpu.gpr[4], False) == TSS_SEL | 1


def test_page_fault_then_page_fault_is_double_fault_with_original_state_and_second_cr2() -> None:
    cpu, mem = long_guest()
    cpu.gpr[4] = 0x5_0000
    mem.absent.add(0x4F)
    set_gate64(mem, 8, ist=1, offset=HANDLER + 8)
    before = cpu.rflags
    assert deliver(cpu, mem, Vector.PF, 2, cr2=0x999) == Vector.DF
    assert mem.qwords(IST1 - 48, 6) == [0, 0x40_0000, KCODE, before, 0x5_0000, KDATA]
    assert cpu.cr2 == 0x5_0000 - 8


def test_contributory_then_page_fault_is_delivered_as_page_fault() -> None:
    cpu, mem = long_guest()
    mem.absent.add(0x4F)
    cpu.gpr[4] = 0x5_0000
    set_gate64(mem, 14, ist=1, offset=HANDLER + 14)
    assert deliver(cpu, mem, Vector.GP, 0x18) == Vector.PF
    assert mem.read_u64(IST1 - 48, False) == PageFaultError.W


def test_contributory_then_contributory_is_double_fault() -> None:
    cpu, mem = long_guest()
    set_gate64(mem, 13, present=False)
    assert deliver(cpu, mem, Vector.GP, 0) == Vector.DF


def test_external_vector_14_is_benign() -> None:
    cpu, mem = long_guest()
    set_gate64(mem, 14, kind=0)
    assert deliver(cpu, mem, 14, ext=True) == Vector.GP


def test_triple_fault_names_its_chain_and_leaves_the_registers() -> None:
    cpu, mem = long_guest()
    cpu.idtr.limit = 0
    before = cpu.save()
    with pytest.raises(TripleFault) as caught:
        deliver(cpu, mem, Vector.PF, 2, cr2=0x55)
    assert [fault.vector for fault in caught.value.chain] == [14, 13, 8, 13]
    assert caught.value.chain[1].error_code == 14 << 3 | 3
    assert "#PF(2h) at 0x55, then #GP(73h)" in str(caught.value)
    before["cr2"] = 0x55
    assert cpu.save() == before


def test_fault_while_delivering_a_given_double_fault_is_triple() -> None:
    cpu, mem = long_guest()
    set_gate64(mem, 8, present=False)
    with pytest.raises(TripleFault) as caught:
        deliver(cpu, mem, Vector.DF, 0)
    assert [fault.vector for fault in caught.value.chain] == [8, 11]


def test_deliver_fault_takes_everything_from_the_fault() -> None:
    cpu, mem = long_guest()
    deliver_fault(cpu, mem, GuestFault(Vector.PF, 7, 0xABC))
    assert cpu.cr2 == 0xABC and mem.read_u64(cpu.gpr[4], False) == 7


def test_stack_pointer_wrapping_out_of_canonical_space_is_ss() -> None:
    cpu, mem = long_guest()
    cpu.gpr[4] = 0xFFFF_8000_0000_0010
    set_gate64(mem, 12, ist=1, offset=HANDLER + 12)
    assert deliver(cpu, mem, Vector.UD) == Vector.SS
    assert mem.read_u64(IST1 - 48, False) == 1


def test_interrupt_from_compatibility_mode_enters_64bit_code() -> None:
    cpu, mem = long_guest(cpl=3)
    set_cs(cpu, mem, UCODE32 | 3)
    assert mode(cpu) is Mode.COMPAT32
    deliver(cpu, mem, Vector.UD)
    assert mode(cpu) is Mode.LONG64
    assert mem.read_u64(cpu.gpr[4] + 8, False) == UCODE32 | 3


def test_db_clears_general_detect() -> None:
    cpu, mem = long_guest()
    cpu.dr[7] |= DR7.GD
    told: list[VCpu] = []
    cpu.on_debug_registers_changed = told.append
    deliver(cpu, mem, Vector.DB)
    assert not cpu.dr[7] & DR7.GD and told == [cpu]


def test_reading_an_absent_idt_from_user_code_is_a_supervisor_page_fault() -> None:
    cpu, mem = long_guest(cpl=3)
    cpu.idtr.base = 0x5_0000
    mem.absent.add(0x50)
    with pytest.raises(TripleFault) as caught:
        deliver(cpu, mem, 0x20, ext=True)
    first = caught.value.chain[1]
    assert (first.vector, first.error_code, first.cr2) == (Vector.PF, 0, 0x5_0000 + 0x200)
