"""INT n and relatives, SYSCALL, SYSENTER, SWAPGS."""

from __future__ import annotations

import pytest

from dbgvmm.cpu import transfer
from dbgvmm.cpu.bits import GPR, RFLAGS, SReg, Vector
from dbgvmm.cpu.faults import GuestFault
from dbgvmm.cpu.state import Mode, VCpu

from .guest import (
    HANDLER,
    KCODE,
    KDATA,
    UCODE32,
    UCODE64,
    UDATA,
    FakeMemory,
    long_guest,
    mode,
    new_cpu,
    protected_guest,
    set_cs,
    set_gate64,
)

ENTRY = 0xFFFF_FFFF_8100_0000


def syscall_guest(cpl: int = 3) -> tuple[VCpu, FakeMemory]:
    cpu, mem = long_guest(cpl)
    cpu.star = KCODE << 32 | (UCODE32 | 3) << 48
    cpu.lstar = ENTRY
    cpu.sfmask = RFLAGS.IF | RFLAGS.TF | RFLAGS.DF
    return cpu, mem


def test_int_n_saves_the_next_instruction() -> None:
    cpu, mem = long_guest(cpl=3)
    set_gate64(mem, 0x80, dpl=3)
    assert transfer.int_n(cpu, mem, 0x80, 0x40_0002) == 0x80
    assert mem.read_u64(cpu.gpr[4], False) == 0x40_0002 and cpu.rip == HANDLER


def test_refused_int_n_delivers_gp_at_the_instruction_itself() -> None:
    cpu, mem = long_guest(cpl=3)
    set_gate64(mem, 0x80, dpl=0)
    assert transfer.int_n(cpu, mem, 0x80, 0x40_0002) == Vector.GP
    assert mem.qwords(cpu.gpr[4], 2) == [0x80 << 3 | 2, 0x40_0000]


def test_int_14_pushes_no_error_code_and_is_benign() -> None:
    cpu, mem = long_guest()
    transfer.int_n(cpu, mem, 14, 0x40_0002)
    assert mem.read_u64(cpu.gpr[4], False) == 0x40_0002


def test_int3_uses_vector_3_and_icebp_ignores_the_gates_dpl() -> None:
    cpu, mem = long_guest(cpl=3)
    set_gate64(mem, 3, dpl=3)
    assert transfer.int3(cpu, mem, 0x40_0001) == Vector.BP
    cpu, mem = long_guest(cpl=3)
    assert transfer.icebp(cpu, mem, 0x40_0001) == Vector.DB
    assert mem.read_u64(cpu.gpr[4], False) == 0x40_0001


def test_into_is_ud_in_64_bit_mode() -> None:
    cpu, mem = long_guest()
    with pytest.raises(GuestFault, match="#UD"):
        transfer.into(cpu, mem, 0x40_0001)


def test_into_interrupts_on_overflow_only() -> None:
    cpu, mem = protected_guest()
    assert transfer.into(cpu, mem, 0x40_0001) is None
    assert cpu.rip == 0x40_0001
    cpu.rflags |= RFLAGS.OF
    assert transfer.into(cpu, mem, 0x40_0002) == Vector.OF


def test_syscall_enters_the_kernel_with_flat_segments() -> None:
    cpu, _ = syscall_guest()
    cpu.rflags |= RFLAGS.DF | RFLAGS.CF
    before = cpu.rflags
    rsp = cpu.gpr[GPR.RSP]
    transfer.syscall(cpu, 0x40_0002)
    assert (cpu.gpr[GPR.RCX], cpu.gpr[GPR.R11], cpu.rip) == (0x40_0002, before, ENTRY)
    assert cpu.rflags == RFLAGS.FIXED | RFLAGS.CF
    assert (cpu.segs[SReg.CS].selector, cpu.segs[SReg.SS].selector, cpu.cpl) == (KCODE, KCODE + 8, 0)
    assert cpu.segs[SReg.CS].fields() == [KCODE, 0, 0xFFFF_FFFF, 0xA09B]
    assert cpu.segs[SReg.SS].fields() == [KDATA, 0, 0xFFFF_FFFF, 0xC093]
    assert cpu.gpr[GPR.RSP] == rsp


def test_sysret_returns_to_64_bit_user_code() -> None:
    cpu, _ = syscall_guest(cpl=0)
    cpu.gpr[GPR.RCX], cpu.gpr[GPR.R11] = 0x7FFF_0000_0000, 0xFFFF_FFFF
    transfer.sysret(cpu, 8)
    assert (cpu.rip, cpu.cpl, cpu.rflags) == (0x7FFF_0000_0000, 3, 0x3C_7FD7)
    assert cpu.segs[SReg.CS].fields() == [UCODE64 | 3, 0, 0xFFFF_FFFF, 0xA0FB]
    assert cpu.segs[SReg.SS].fields() == [UDATA | 3, 0, 0xFFFF_FFFF, 0xC0F3]


def test_32_bit_sysret_returns_to_compatibility_mode() -> None:
    cpu, _ = syscall_guest(cpl=0)
    cpu.gpr[GPR.RCX] = 0x1_0000_2000
    transfer.sysret(cpu, 4)
    assert mode(cpu) is Mode.COMPAT32
    assert (cpu.rip, cpu.segs[SReg.CS].selector, cpu.segs[SReg.SS].selector) == (0x2000, UCODE32 | 3, UDATA | 3)


def test_syscall_needs_sce_and_64_bit_mode() -> None:
    cpu, mem = syscall_guest()
    cpu.efer &= ~1
    with pytest.raises(GuestFault, match="#UD"):
        transfer.syscall(cpu, 0)
    cpu.efer |= 1
    set_cs(cpu, mem, UCODE32 | 3)
    with pytest.raises(GuestFault, match="#UD"):
        transfer.syscall(cpu, 0)


def test_sysret_refuses_user_code_and_targets_that_are_not_canonical() -> None:
    cpu, _ = syscall_guest(cpl=3)
    with pytest.raises(GuestFault, match=r"#GP\(0h\)"):
        transfer.sysret(cpu, 8)
    cpu, _ = syscall_guest(cpl=0)
    cpu.gpr[GPR.RCX] = 1 << 47
    with pytest.raises(GuestFault, match=r"#GP\(0h\)"):
        transfer.sysret(cpu, 8)
    assert cpu.cpl == 0


def test_sysenter_and_sysexit_in_protected_mode() -> None:
    cpu, _ = protected_guest(cpl=3)
    cpu.sysenter_cs, cpu.sysenter_esp, cpu.sysenter_eip = KCODE, 0x8000, 0xC000_0000
    transfer.sysenter(cpu)
    assert (cpu.rip, cpu.gpr[4], cpu.cpl, cpu.mode) == (0xC000_0000, 0x8000, 0, Mode.PROTECTED32)
    assert not cpu.rflags & RFLAGS.IF
    cpu.gpr[GPR.RDX], cpu.gpr[GPR.RCX] = 0x1000, 0x2000
    transfer.sysexit(cpu, 4)
    assert (cpu.rip, cpu.gpr[4], cpu.cpl) == (0x1000, 0x2000, 3)
    assert (cpu.segs[SReg.CS].selector, cpu.segs[SReg.SS].selector) == (KCODE + 16 | 3, KCODE + 24 | 3)


def test_sysenter_in_long_mode_enters_64_bit_code_and_sysexit_leaves_to_either() -> None:
    cpu, mem = long_guest(cpl=3)
    set_cs(cpu, mem, UCODE32 | 3)
    cpu.sysenter_cs, cpu.sysenter_esp, cpu.sysenter_eip = KCODE, ENTRY, ENTRY
    transfer.sysenter(cpu)
    assert mode(cpu) is Mode.LONG64 and cpu.rip == ENTRY
    cpu.gpr[GPR.RDX], cpu.gpr[GPR.RCX] = 0x1000, 0x2000
    transfer.sysexit(cpu, 8)
    assert mode(cpu) is Mode.LONG64 and cpu.segs[SReg.CS].selector == KCODE + 32 | 3


def test_sysenter_with_a_null_cs_and_sysexit_from_user_are_gp() -> None:
    cpu, _ = long_guest(cpl=3)
    with pytest.raises(GuestFault, match=r"#GP\(0h\)"):
        transfer.sysenter(cpu)
    cpu.sysenter_cs = KCODE
    with pytest.raises(GuestFault, match=r"#GP\(0h\)"):
        transfer.sysexit(cpu, 8)


def test_swapgs_exchanges_the_bases() -> None:
    cpu, _ = long_guest()
    cpu.kernel_gs_base, cpu.segs[SReg.GS].base = ENTRY, 0x1000
    transfer.swapgs(cpu)
    assert (cpu.segs[SReg.GS].base, cpu.kernel_gs_base) == (ENTRY, 0x1000)


def test_swapgs_is_gp_for_user_code_and_ud_outside_64_bit_mode() -> None:
    cpu, _ = long_guest(cpl=3)
    with pytest.raises(GuestFault, match=r"#GP\(0h\)"):
        transfer.swapgs(cpu)
    with pytest.raises(GuestFault, match="#UD"):
        transfer.swapgs(new_cpu())
