"""Far JMP, CALL, RET and call gates."""

from __future__ import annotations

import pytest

from dbgvmm.cpu import far
from dbgvmm.cpu.bits import CR0, SReg, Vector
from dbgvmm.cpu.boot_state import enter_real_mode
from dbgvmm.cpu.control import write_cr0
from dbgvmm.cpu.faults import GuestFault
from dbgvmm.cpu.segments import load_segment
from dbgvmm.cpu.state import Mode

from .guest import (
    ABSENT_CODE,
    BAD_CODE,
    CONFORMING,
    GATE,
    GDT,
    GDT_SIZE,
    KCODE,
    KCODE32,
    KDATA,
    KERNEL_STACK,
    RSP0,
    TSS_SEL,
    UCODE32,
    UCODE64,
    UDATA,
    USER_STACK,
    FakeMemory,
    long_guest,
    mode,
    new_cpu,
    protected_guest,
    set_descriptor,
)

HIGH = 0xFFFF_8000_0000_1000


def call_gate(offset: int, selector: int, dpl: int, params: int = 0) -> int:
    low = offset & 0xFFFF | selector << 16 | params << 32
    return low | (12 | dpl << 5 | 0x80) << 40 | (offset >> 16 & 0xFFFF) << 48


def set_long_gate(mem: FakeMemory, offset: int, selector: int, dpl: int) -> None:
    set_descriptor(mem, GATE, call_gate(offset, selector, dpl))
    set_descriptor(mem, GATE + 8, offset >> 32)


def test_boot_code_goes_from_real_to_protected_mode() -> None:
    cpu, mem = new_cpu(), FakeMemory()
    set_up, source = protected_guest()[0], protected_guest()[1]
    mem.pages = source.pages
    enter_real_mode(cpu, 0, 0x7C00)
    cpu.gdtr.base, cpu.gdtr.limit = GDT, GDT_SIZE - 1
    write_cr0(cpu, cpu.cr0 | CR0.PE)
    assert mode(cpu) is Mode.PROTECTED16
    far.far_jmp(cpu, mem, KCODE, 0x10_0000, 4)
    load_segment(cpu, mem, SReg.SS, KDATA)
    assert mode(cpu) is Mode.PROTECTED32 and cpu.rip == 0x10_0000
    assert cpu.segs[SReg.SS].limit == set_up.segs[SReg.SS].limit


def test_far_jmp_between_compatibility_and_64_bit_mode() -> None:
    cpu, mem = long_guest()
    far.far_jmp(cpu, mem, KCODE32, 0x5000, 4)
    assert mode(cpu) is Mode.COMPAT32
    far.far_jmp(cpu, mem, KCODE, 0x6000, 4)
    assert mode(cpu) is Mode.LONG64 and cpu.rip == 0x6000


def test_offset_is_cut_to_the_operand_size() -> None:
    cpu, mem = long_guest()
    far.far_jmp(cpu, mem, KCODE, 0x1234_5678, 2)
    assert cpu.rip == 0x5678


def test_conforming_code_keeps_the_level() -> None:
    cpu, mem = long_guest(cpl=3)
    far.far_jmp(cpu, mem, CONFORMING, 0x1000, 8)
    assert cpu.cpl == 3 and cpu.segs[SReg.CS].selector == CONFORMING | 3


@pytest.mark.parametrize(
    ("cpl", "selector", "offset", "vector", "error"),
    [
        (0, 0, 0, Vector.GP, 0),
        (0, 0x7F8, 0, Vector.GP, 0x7F8),
        (0, KDATA, 0, Vector.GP, KDATA),
        (0, KCODE | 3, 0, Vector.GP, KCODE),
        (3, KCODE, 0, Vector.GP, KCODE),
        (0, UCODE64, 0, Vector.GP, UCODE64),
        (0, ABSENT_CODE, 0, Vector.NP, ABSENT_CODE),
        (0, BAD_CODE, 0, Vector.GP, BAD_CODE),
        (0, KCODE, 1 << 47, Vector.GP, 0),
        (0, KCODE32, 1 << 32, Vector.GP, 0),
        (0, TSS_SEL, 0, Vector.GP, TSS_SEL),
    ],
)
def test_a_bad_target_faults_and_changes_nothing(
    cpl: int, selector: int, offset: int, vector: int, error: int
) -> None:
    cpu, mem = long_guest(cpl)
    before = cpu.save()
    with pytest.raises(GuestFault) as caught:
        far.far_jmp(cpu, mem, selector, offset, 8)
    assert (caught.value.vector, caught.value.error_code) == (vector, error)
    assert cpu.save() == before


def test_far_call_and_far_ret_are_inverse() -> None:
    cpu, mem = long_guest()
    far.far_call(cpu, mem, KCODE32, 0x5000, 8, 0x40_0007)
    assert mem.qwords(KERNEL_STACK - 16, 2) == [0x40_0007, KCODE]
    assert mode(cpu) is Mode.COMPAT32
    far.far_jmp(cpu, mem, KCODE, 0x6000, 4)
    far.far_ret(cpu, mem, 8)
    assert (cpu.rip, cpu.gpr[4], cpu.segs[SReg.CS].selector) == (0x40_0007, KERNEL_STACK, KCODE)


def test_far_ret_pops_its_immediate() -> None:
    cpu, mem = long_guest()
    far.far_call(cpu, mem, KCODE, 0x5000, 4, 0x1234)
    far.far_ret(cpu, mem, 4, pop_bytes=24)
    assert (cpu.rip, cpu.gpr[4]) == (0x1234, KERNEL_STACK + 24)


def test_far_ret_to_user_pops_the_stack_and_drops_kernel_segments() -> None:
    cpu, mem = long_guest()
    for i, value in enumerate((0x7000, UCODE64 | 3, 0xC000, UDATA | 3)):
        mem.write_u64(KERNEL_STACK + 8 * i, value, False)
    far.far_ret(cpu, mem, 8)
    assert (cpu.rip, cpu.cpl, cpu.gpr[4]) == (0x7000, 3, 0xC000)
    assert cpu.segs[SReg.DS].selector == 0


def test_64_bit_call_gate_switches_to_rsp0_with_a_null_ss() -> None:
    cpu, mem = long_guest(cpl=3)
    set_long_gate(mem, HIGH, KCODE, dpl=3)
    far.far_call(cpu, mem, GATE | 3, 0, 8, 0x40_0007)
    assert (cpu.rip, cpu.cpl, cpu.gpr[4], cpu.segs[SReg.SS].selector) == (HIGH, 0, RSP0 - 32, 0)
    assert mem.qwords(RSP0 - 32, 4) == [0x40_0007, UCODE64 | 3, USER_STACK, UDATA | 3]
    far.far_ret(cpu, mem, 8)
    assert (cpu.rip, cpu.cpl, cpu.gpr[4]) == (0x40_0007, 3, USER_STACK)


def test_call_gate_checks_its_dpl_and_its_target() -> None:
    cpu, mem = long_guest(cpl=3)
    set_long_gate(mem, HIGH, KCODE, dpl=0)
    with pytest.raises(GuestFault, match=r"#GP\(80h\)"):
        far.far_call(cpu, mem, GATE | 3, 0, 8, 0)
    set_long_gate(mem, HIGH, KCODE32, dpl=3)
    with pytest.raises(GuestFault, match=r"#GP\(40h\)"):
        far.far_call(cpu, mem, GATE | 3, 0, 8, 0)


def test_jmp_through_a_call_gate_cannot_change_level() -> None:
    cpu, mem = long_guest(cpl=3)
    set_long_gate(mem, HIGH, KCODE, dpl=3)
    with pytest.raises(GuestFault, match=r"#GP\(8h\)"):
        far.far_jmp(cpu, mem, GATE | 3, 0, 8)


def test_32_bit_call_gate_copies_parameters() -> None:
    cpu, mem = protected_guest(cpl=3)
    set_descriptor(mem, GATE, call_gate(0xC000_1000, KCODE, dpl=3, params=2))
    mem.write_u32(USER_STACK, 0x11, False)
    mem.write_u32(USER_STACK + 4, 0x22, False)
    far.far_call(cpu, mem, GATE | 3, 0, 4, 0x40_0007)
    assert (cpu.rip, cpu.cpl, cpu.segs[SReg.SS].selector) == (0xC000_1000, 0, KDATA)
    assert mem.dwords(cpu.gpr[4], 6) == [0x40_0007, UCODE32 | 3, 0x11, 0x22, USER_STACK, UDATA | 3]
    far.far_ret(cpu, mem, 4, pop_bytes=8)
    assert (cpu.cpl, cpu.gpr[4]) == (3, USER_STACK + 8)


def test_real_mode_far_call_and_ret() -> None:
    cpu, mem = new_cpu(), FakeMemory()
    enter_real_mode(cpu, 0x07C0, 0)
    cpu.gpr[4] = 0x1000
    far.far_call(cpu, mem, 0xF000, 0x123, 2, 5)
    assert (cpu.segs[SReg.CS].base, cpu.rip, cpu.gpr[4]) == (0xF_0000, 0x123, 0xFFC)
    far.far_ret(cpu, mem, 2)
    assert (cpu.segs[SReg.CS].base, cpu.rip, cpu.gpr[4]) == (0x7C00, 5, 0x1000)
