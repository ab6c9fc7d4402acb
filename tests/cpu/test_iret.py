"""IRET in long mode."""

from __future__ import annotations

import pytest

from dbgvmm.cpu.bits import RFLAGS, SReg, Vector
from dbgvmm.cpu.exceptions import deliver
from dbgvmm.cpu.faults import GuestFault, UnsupportedState
from dbgvmm.cpu.iret import iret
from dbgvmm.cpu.state import Mode, VCpu

from .guest import (
    ABSENT_CODE,
    ABSENT_DATA,
    BAD_CODE,
    KCODE,
    KCODE32,
    KDATA,
    KERNEL_STACK,
    READ_ONLY,
    UCODE32,
    UCODE64,
    UDATA,
    UDATA16,
    FakeMemory,
    long_guest,
    mode,
    protected_guest,
    set_cs,
)

TARGET = 0x7FFF_0000_1000
FLAGS = RFLAGS.FIXED | RFLAGS.IF | RFLAGS.ZF


def push_frame(cpu: VCpu, mem: FakeMemory, frame: list[int], size: int = 8) -> None:
    cpu.gpr[4] -= size * len(frame)
    for i, value in enumerate(frame):
        write = {8: mem.write_u64, 4: mem.write_u32, 2: mem.write_u16}[size]
        write(cpu.gpr[4] + i * size, value, False)


def test_iretq_to_user_loads_everything_and_drops_kernel_data_segments() -> None:
    cpu, mem = long_guest()
    cpu.segs[SReg.GS].set(UDATA | 3, 0x5000, 0xFFFF, cpu.segs[SReg.DS].attributes | 0x60)
    cpu.segs[SReg.FS].base = 0x7777
    cpu.nmi_blocked = True
    push_frame(cpu, mem, [TARGET, UCODE64 | 3, FLAGS, 0x7FFF_FFFF_F000, UDATA | 3])
    iret(cpu, mem, 8)
    assert (cpu.rip, cpu.cpl, cpu.rflags, cpu.gpr[4]) == (TARGET, 3, FLAGS, 0x7FFF_FFFF_F000)
    assert mode(cpu) is Mode.LONG64 and not cpu.nmi_blocked
    assert cpu.segs[SReg.DS].selector == 0 and not cpu.segs[SReg.DS].present
    assert cpu.segs[SReg.FS].selector == 0 and cpu.segs[SReg.FS].base == 0x7777
    assert cpu.segs[SReg.GS].selector == UDATA | 3


def test_iretq_at_the_same_level_pops_rsp_and_ss() -> None:
    cpu, mem = long_guest()
    push_frame(cpu, mem, [0x1000, KCODE, FLAGS, 0xFFFF_8000_0000_1008, KDATA])
    iret(cpu, mem, 8)
    assert (cpu.gpr[4], cpu.segs[SReg.SS].selector, cpu.cpl) == (0xFFFF_8000_0000_1008, KDATA, 0)


def test_iretq_in_the_kernel_accepts_a_null_ss() -> None:
    cpu, mem = long_guest()
    push_frame(cpu, mem, [0x1000, KCODE, FLAGS, 0x2000, 0])
    iret(cpu, mem, 8)
    assert not cpu.segs[SReg.SS].present and cpu.segs[SReg.SS].dpl == 0


def test_delivery_then_iretq_is_the_identity() -> None:
    cpu, mem = long_guest(cpl=3)
    for segment in (SReg.DS, SReg.ES, SReg.FS, SReg.GS):
        cpu.segs[segment].set(0, 0, 0, 0)
    cpu.segs[SReg.CS].attributes |= 1
    cpu.segs[SReg.SS].attributes |= 1
    before = cpu.save()
    deliver(cpu, mem, 0x13, ext=True)
    iret(cpu, mem, 8)
    assert cpu.save() == before


def test_iretq_to_compatibility_mode_loads_32_bit_esp() -> None:
    cpu, mem = long_guest()
    push_frame(cpu, mem, [0x1000, UCODE32 | 3, FLAGS, 0x1_2345_6789, UDATA | 3])
    iret(cpu, mem, 8)
    assert mode(cpu) is Mode.COMPAT32 and cpu.gpr[4] == 0x2345_6789


def test_iretq_to_a_16_bit_stack_loads_sp_only() -> None:
    cpu, mem = long_guest()
    push_frame(cpu, mem, [0x1000, UCODE32 | 3, FLAGS, 0xAAAA_1234, UDATA16 | 3])
    kernel_esp = cpu.gpr[4]
    iret(cpu, mem, 8)
    assert cpu.gpr[4] == kernel_esp & 0xFFFF_0000 | 0x1234


def test_iretd_pops_five_dwords_in_64_bit_mode() -> None:
    cpu, mem = long_guest()
    push_frame(cpu, mem, [0x1000, UCODE32 | 3, FLAGS, 0x8888, UDATA | 3], size=4)
    iret(cpu, mem, 4)
    assert (cpu.rip, cpu.gpr[4], cpu.cpl) == (0x1000, 0x8888, 3)


def test_16_bit_iret_keeps_the_upper_flags() -> None:
    cpu, mem = long_guest()
    cpu.rflags |= RFLAGS.AC
    push_frame(cpu, mem, [0x1000, KCODE, 0, 0x8888, KDATA], size=2)
    iret(cpu, mem, 2)
    assert (cpu.rflags, cpu.rip, cpu.gpr[4]) == (RFLAGS.FIXED | RFLAGS.AC, 0x1000, 0x8888)


def test_iret_in_compatibility_mode_at_the_same_level_leaves_the_stack_segment() -> None:
    cpu, mem = long_guest(cpl=3)
    set_cs(cpu, mem, UCODE32 | 3)
    top = cpu.gpr[4]
    push_frame(cpu, mem, [0x1000, UCODE32 | 3, FLAGS], size=4)
    iret(cpu, mem, 4)
    assert (cpu.gpr[4], cpu.rip) == (top, 0x1000)


def test_user_iret_cannot_change_if_or_iopl() -> None:
    cpu, mem = long_guest(cpl=3)
    push_frame(cpu, mem, [TARGET, UCODE64 | 3, RFLAGS.IOPL | RFLAGS.CF, 0x8000, UDATA | 3])
    iret(cpu, mem, 8)
    assert cpu.rflags == RFLAGS.FIXED | RFLAGS.IF | RFLAGS.CF


def test_iret_restores_rf_and_tf() -> None:
    cpu, mem = long_guest()
    push_frame(cpu, mem, [TARGET, KCODE, FLAGS | RFLAGS.RF | RFLAGS.TF, 0x8000, KDATA])
    iret(cpu, mem, 8)
    assert cpu.rflags == FLAGS | RFLAGS.RF | RFLAGS.TF


@pytest.mark.parametrize(
    ("cs", "ss", "rip", "vector", "error"),
    [
        (0, UDATA | 3, TARGET, Vector.GP, 0),
        (0x7F8 | 3, UDATA | 3, TARGET, Vector.GP, 0x7F8),
        (0x1C, UDATA | 3, TARGET, Vector.GP, 0x1C),
        (UDATA | 3, UDATA | 3, TARGET, Vector.GP, UDATA),
        (UCODE64, UDATA | 3, TARGET, Vector.GP, UCODE64),
        (ABSENT_CODE, KDATA, TARGET, Vector.NP, ABSENT_CODE),
        (BAD_CODE, KDATA, TARGET, Vector.GP, BAD_CODE),
        (UCODE64 | 3, UDATA | 3, 0x8000_0000_0000, Vector.GP, 0),
        (KCODE32, KDATA, TARGET, Vector.GP, 0),
        (UCODE64 | 3, 0, TARGET, Vector.GP, 0),
        (UCODE64 | 3, 3, TARGET, Vector.GP, 0),
        (KCODE32, 0, 0x1000, Vector.GP, 0),
        (UCODE64 | 3, KDATA, TARGET, Vector.GP, KDATA),
        (UCODE64 | 3, KDATA | 3, TARGET, Vector.GP, KDATA),
        (KCODE, READ_ONLY, TARGET, Vector.GP, READ_ONLY),
        (KCODE, ABSENT_DATA, TARGET, Vector.SS, ABSENT_DATA),
    ],
)
def test_a_bad_frame_faults_and_changes_nothing(cs: int, ss: int, rip: int, vector: int, error: int) -> None:
    cpu, mem = long_guest()
    push_frame(cpu, mem, [rip, cs, FLAGS, 0x8000, ss])
    before = cpu.save()
    with pytest.raises(GuestFault) as caught:
        iret(cpu, mem, 8)
    assert (caught.value.vector, caught.value.error_code) == (vector, error)
    assert cpu.save() == before


def test_iret_to_a_more_privileged_level_is_refused() -> None:
    cpu, mem = long_guest(cpl=3)
    push_frame(cpu, mem, [TARGET, KCODE, FLAGS, 0x8000, KDATA])
    with pytest.raises(GuestFault, match=r"#GP\(8h\)"):
        iret(cpu, mem, 8)


def test_iret_with_nt_is_gp_in_long_mode() -> None:
    cpu, mem = long_guest()
    cpu.rflags |= RFLAGS.NT
    with pytest.raises(GuestFault, match=r"#GP\(0h\)"):
        iret(cpu, mem, 8)


def test_iret_from_an_absent_stack_is_a_page_fault_with_nothing_changed() -> None:
    cpu, mem = long_guest()
    cpu.gpr[4] = 0x5_0000 - 16
    mem.absent.add(0x50)
    before = cpu.save()
    with pytest.raises(GuestFault) as caught:
        iret(cpu, mem, 8)
    assert (caught.value.vector, caught.value.cr2, caught.value.error_code) == (Vector.PF, 0x5_0000, 0)
    assert cpu.save() == before


def test_stack_that_is_not_canonical_is_ss() -> None:
    cpu, mem = long_guest()
    cpu.gpr[4] = 0x8000_0000_0000 - 8
    with pytest.raises(GuestFault, match=r"#SS\(0h\)"):
        iret(cpu, mem, 8)


def test_return_to_virtual_8086_mode_is_refused_in_words() -> None:
    cpu, mem = protected_guest()
    push_frame(cpu, mem, [0x1000, 0x100, FLAGS | RFLAGS.VM], size=4)
    with pytest.raises(UnsupportedState, match="virtual-8086"):
        iret(cpu, mem, 4)


def test_iret_tells_the_segment_hook() -> None:
    cpu, mem = long_guest()
    told: list[VCpu] = []
    cpu.on_segments_changed = told.append
    push_frame(cpu, mem, [0x1000, KCODE, FLAGS, KERNEL_STACK, KDATA])
    iret(cpu, mem, 8)
    assert told == [cpu]
