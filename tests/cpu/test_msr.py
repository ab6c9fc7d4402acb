"""RDMSR, WRMSR, RDTSC."""

from __future__ import annotations

import pytest

from dbgvmm.cpu.bits import CR0, CR4, EFER, GPR, MSR, SReg
from dbgvmm.cpu.cpuid import CpuidTable
from dbgvmm.cpu.faults import GuestFault
from dbgvmm.cpu.msr import MsrTable, set_firmware_mtrrs
from dbgvmm.cpu.state import VCpu

from .guest import long_guest, protected_guest

GP0 = r"#GP\(0h\)"
KERNEL = 0xFFFF_8000_0000_0000


def table(*overrides: str, now: int = 1000) -> MsrTable:
    return MsrTable(CpuidTable(overrides=overrides, tsc_hz=2_000_000_000), lambda: now)


def test_rdmsr_and_wrmsr_use_edx_eax_and_clear_the_upper_halves() -> None:
    cpu, _ = long_guest()
    cpu.gpr[GPR.RCX], cpu.gpr[GPR.RAX], cpu.gpr[GPR.RDX] = MSR.LSTAR | 5 << 32, 0xF_8100_0000, 0xFFFF_FFFF
    table().wrmsr(cpu)
    assert cpu.lstar == 0xFFFF_FFFF_8100_0000
    cpu.gpr[GPR.RAX] = cpu.gpr[GPR.RDX] = 1 << 63
    table().rdmsr(cpu)
    assert (cpu.gpr[GPR.RAX], cpu.gpr[GPR.RDX]) == (0x8100_0000, 0xFFFF_FFFF)


def test_msr_access_is_privileged() -> None:
    cpu, _ = long_guest(cpl=3)
    with pytest.raises(GuestFault, match=GP0):
        table().rdmsr(cpu)


def test_an_unknown_msr_is_gp_and_counted() -> None:
    cpu, _ = long_guest()
    msrs = table()
    for _ in range(2):
        with pytest.raises(GuestFault, match="MSR 611h does not exist"):
            msrs.read(cpu, 0x611)
    with pytest.raises(GuestFault, match=GP0):
        msrs.write(cpu, 0xC001_0015, 0)
    assert msrs.unknown_msrs == {0x611: 2, 0xC001_0015: 1}


@pytest.mark.parametrize(
    "index", [MSR.LSTAR, MSR.CSTAR, MSR.FS_BASE, MSR.GS_BASE, MSR.KERNEL_GS_BASE, MSR.SYSENTER_ESP, MSR.SYSENTER_EIP]
)
def test_addresses_must_be_canonical(index: int) -> None:
    cpu, _ = long_guest()
    msrs = table()
    msrs.write(cpu, index, KERNEL)
    assert msrs.read(cpu, index) == KERNEL
    with pytest.raises(GuestFault, match=GP0):
        msrs.write(cpu, index, 1 << 47)
    assert msrs.read(cpu, index) == KERNEL


@pytest.mark.parametrize(
    ("index", "good", "bad"),
    [
        (MSR.SFMASK, 0x4_7700, 1 << 32),
        (MSR.SYSENTER_CS, 0x10, 1 << 32),
        (MSR.TSC_AUX, 0x1003, 1 << 32),
        (MSR.PAT, 0x0407_0506_0007_0106, 0x0002_0406_0007_0406),
        (MSR.MTRR_DEF_TYPE, 0xC06, 0xC02),
        (MSR.MTRR_DEF_TYPE, 0x800, 0x1800),
        (0x250, 0x0606_0606_0606_0606, 0x0706_0606_0606_0606),
        (0x26F, 0x0505_0505_0505_0505, 0x0505_0505_0505_0503),
        (0x200, 0x1_0000_0006, 1 << 40),
        (0x20E, 0, 0x100),
        (0x201, 0xFF_8000_0800, 0x400),
        (MSR.SPEC_CTRL, 1, 1 << 10),
        (MSR.MISC_ENABLE, 0x1801, 0x1801 | 1 << 34),
        (MSR.APIC_BASE, 0xFEE0_0100, 0xFEE0_0900),
        (MSR.MCG_STATUS, 0, 4),
    ],
)
def test_reserved_bits_are_gp_and_change_nothing(index: int, good: int, bad: int) -> None:
    cpu, _ = long_guest()
    msrs = table()
    msrs.write(cpu, index, good)
    assert msrs.read(cpu, index) == good
    with pytest.raises(GuestFault, match=GP0):
        msrs.write(cpu, index, bad)
    assert msrs.read(cpu, index) == good
    assert msrs.unknown_msrs == {}


@pytest.mark.parametrize(
    ("index", "value"),
    [
        (MSR.MTRRCAP, 0x508),
        (MSR.MCG_CAP, 0),
        (MSR.PLATFORM_INFO, 20 << 8),
        (MSR.FEATURE_CONTROL, 1),
        (MSR.ARCH_CAPABILITIES, 0x0D00_E17B),
    ],
)
def test_read_only_msrs(index: int, value: int) -> None:
    cpu, _ = long_guest()
    assert table().read(cpu, index) == value
    with pytest.raises(GuestFault, match=GP0):
        table().write(cpu, index, value)


def test_fs_and_gs_base_are_the_segments_bases() -> None:
    cpu, _ = long_guest()
    told: list[VCpu] = []
    cpu.on_segments_changed = told.append
    table().write(cpu, MSR.GS_BASE, KERNEL)
    assert cpu.segs[SReg.GS].base == KERNEL and told == [cpu]


def test_efer_write_keeps_lma_and_announces_nxe() -> None:
    cpu, _ = long_guest()
    told: list[VCpu] = []
    cpu.on_paging_mode_changed = told.append
    table().write(cpu, MSR.EFER, EFER.LME | EFER.SCE)
    assert cpu.efer == EFER.LME | EFER.SCE | EFER.LMA and told == [cpu]


def test_efer_refuses_reserved_bits_and_lme_changes_while_paging() -> None:
    cpu, _ = long_guest()
    for value in (cpu.efer | 1 << 12, cpu.efer & ~EFER.LME):
        with pytest.raises(GuestFault, match=GP0):
            table().write(cpu, MSR.EFER, value)
    cpu, _ = protected_guest()
    assert not cpu.cr0 & CR0.PG
    table().write(cpu, MSR.EFER, EFER.LME)
    assert cpu.efer == EFER.LME


def test_msrs_follow_the_feature_set() -> None:
    cpu, _ = long_guest()
    for override, index in (
        ("-arch_capabilities", MSR.ARCH_CAPABILITIES),
        ("-mtrr", MSR.MTRRCAP),
        ("-rdtscp", MSR.TSC_AUX),
        ("-pat", MSR.PAT),
        ("-tsc_adjust", MSR.TSC_ADJUST),
    ):
        with pytest.raises(GuestFault, match="does not exist"):
            table(override).read(cpu, index)


def test_tsc_is_the_clock_plus_what_was_written() -> None:
    cpu, _ = long_guest()
    msrs = table(now=1000)
    assert msrs.read(cpu, MSR.TSC) == 1000
    msrs.write(cpu, MSR.TSC, 10)
    assert msrs.tsc(cpu) == 10
    assert msrs.read(cpu, MSR.TSC_ADJUST) == (10 - 1000) % (1 << 64)


def test_rdtsc_obeys_tsd_and_rdtscp_adds_tsc_aux() -> None:
    cpu, _ = long_guest(cpl=3)
    msrs = table(now=5 << 32 | 7)
    cpu.tsc_aux = 3
    msrs.rdtscp(cpu)
    assert (cpu.gpr[GPR.RAX], cpu.gpr[GPR.RDX], cpu.gpr[GPR.RCX]) == (7, 5, 3)
    cpu.cr4 |= CR4.TSD
    with pytest.raises(GuestFault, match=GP0):
        msrs.rdtsc(cpu)
    with pytest.raises(GuestFault, match=GP0):
        msrs.rdpmc(cpu)


def test_pred_cmd_is_write_only() -> None:
    cpu, _ = long_guest()
    msrs = table()
    msrs.write(cpu, MSR.PRED_CMD, 1)
    with pytest.raises(GuestFault, match="does not allow"):
        msrs.read(cpu, MSR.PRED_CMD)


def test_microcode_revision_survives_a_write_of_zero() -> None:
    cpu, _ = long_guest()
    msrs = table()
    msrs.write(cpu, MSR.BIOS_SIGN_ID, 0)
    assert msrs.read(cpu, MSR.BIOS_SIGN_ID) >> 32 == 1


def test_firmware_leaves_memory_write_back() -> None:
    cpu, _ = long_guest()
    set_firmware_mtrrs(cpu)
    msrs = table()
    assert msrs.read(cpu, MSR.MTRR_DEF_TYPE) == 0xC06
    assert msrs.read(cpu, 0x259) == 0 and msrs.read(cpu, 0x268) == 0x0606_0606_0606_0606
