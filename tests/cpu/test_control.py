"""Control and debug registers."""

from __future__ import annotations

import pytest

from dbgvmm.cpu import control
from dbgvmm.cpu.bits import CR0, CR4, DR6, DR7, EFER, SReg
from dbgvmm.cpu.debug_registers import mov_from_dr, mov_to_dr
from dbgvmm.cpu.far import far_jmp
from dbgvmm.cpu.faults import GuestFault, general_protection
from dbgvmm.cpu.state import Mode, VCpu

from .guest import KCODE, KCODE32, UCODE32, L, long_guest, mode, new_cpu, protected_guest, set_cs, set_descriptor

GP0 = r"#GP\(0h\)"


def test_boot_code_enters_and_leaves_long_mode() -> None:
    cpu, mem = protected_guest()
    seen: list[str] = []
    cpu.on_paging_mode_changed = lambda cpu: seen.append("paging")
    control.mov_to_cr(cpu, 4, CR4.PAE)
    control.mov_to_cr(cpu, 3, 0x7000)
    cpu.efer |= EFER.LME
    control.mov_to_cr(cpu, 0, cpu.cr0 | CR0.PG | CR0.WP)
    assert cpu.long_mode_active and mode(cpu) is Mode.COMPAT32
    set_descriptor(mem, KCODE, mem.read_u64(0x1000 + KCODE, False) ^ (1 << 53 | 1 << 54))
    far_jmp(cpu, mem, KCODE, 0x1000, 4)
    assert mode(cpu) is Mode.LONG64
    with pytest.raises(GuestFault, match=GP0):
        control.mov_to_cr(cpu, 0, cpu.cr0 & ~CR0.PG)
    far_jmp(cpu, mem, KCODE32, 0x1000, 4)
    control.mov_to_cr(cpu, 0, cpu.cr0 & ~CR0.PG)
    assert not cpu.long_mode_active and cpu.efer & EFER.LME and mode(cpu) is Mode.PROTECTED32
    assert seen == ["paging"] * 3


def test_long_mode_needs_pae_and_a_32_bit_code_segment() -> None:
    cpu, _ = protected_guest()
    cpu.efer |= EFER.LME
    with pytest.raises(GuestFault, match=GP0):
        control.write_cr0(cpu, cpu.cr0 | CR0.PG)
    cpu.cr4 |= CR4.PAE
    cpu.segs[SReg.CS].attributes |= L
    with pytest.raises(GuestFault, match=GP0):
        control.write_cr0(cpu, cpu.cr0 | CR0.PG)


@pytest.mark.parametrize("value", [CR0.PG, CR0.PE | CR0.NW, CR0.PE | 1 << 32])
def test_inconsistent_cr0_is_gp(value: int) -> None:
    cpu, _ = protected_guest()
    with pytest.raises(GuestFault, match=GP0):
        control.write_cr0(cpu, value)


def test_cr0_keeps_et_and_drops_undefined_bits() -> None:
    cpu, _ = protected_guest()
    control.write_cr0(cpu, CR0.PE | 1 << 6 | 1 << 17)
    assert cpu.cr0 == CR0.PE | CR0.ET


def test_moves_need_cpl_0_and_an_existing_register() -> None:
    cpu, _ = long_guest(cpl=3)
    for access in (lambda: control.mov_from_cr(cpu, 0), lambda: control.mov_to_cr(cpu, 3, 0)):
        with pytest.raises(GuestFault, match=GP0):
            access()
    for number in (1, 5, 7, 9, 15):
        with pytest.raises(GuestFault, match="#UD"):
            control.mov_from_cr(cpu, number)
        with pytest.raises(GuestFault, match="#UD"):
            control.mov_to_cr(cpu, number, 0)


def test_cr3_write_is_always_announced_and_the_noflush_bit_not_kept() -> None:
    cpu, _ = long_guest()
    seen: list[tuple[int, int]] = []
    cpu.on_cr3 = lambda cpu, old, new: seen.append((old, new))
    control.mov_to_cr(cpu, 3, 0x7000)
    with pytest.raises(GuestFault, match=GP0):
        control.mov_to_cr(cpu, 3, 1 << 63 | 0x7000)
    control.mov_to_cr(cpu, 4, cpu.cr4 | CR4.PCIDE)
    control.mov_to_cr(cpu, 3, 1 << 63 | 0x8001)
    assert seen == [(0x7000, 0x7000), (0x7000, 0x8001)] and cpu.cr3 == 0x8001


def test_cr3_beyond_the_physical_width_is_gp() -> None:
    cpu, _ = long_guest()
    with pytest.raises(GuestFault, match=GP0):
        control.mov_to_cr(cpu, 3, 1 << 40)


def test_a_fault_from_the_cr3_hook_undoes_the_write() -> None:
    cpu, _ = protected_guest()

    def refuse(cpu: VCpu, old: int, new: int) -> None:
        raise general_protection(0, "PDPTE with reserved bits")

    cpu.on_cr3 = refuse
    with pytest.raises(GuestFault, match="PDPTE"):
        control.mov_to_cr(cpu, 3, 0x9000)
    assert cpu.cr3 == 0


@pytest.mark.parametrize("bit", [CR4.VMXE, CR4.LA57, CR4.OSXSAVE, CR4.PKE, CR4.UMIP, CR4.VME, 1 << 31])
def test_cr4_bits_that_cpuid_does_not_offer_are_gp(bit: int) -> None:
    cpu, _ = long_guest()
    with pytest.raises(GuestFault, match=GP0):
        control.mov_to_cr(cpu, 4, cpu.cr4 | bit)


def test_cr4_bits_follow_the_feature_set() -> None:
    cpu = new_cpu("-smap")
    with pytest.raises(GuestFault, match=GP0):
        control.write_cr4(cpu, CR4.SMAP)
    control.write_cr4(cpu, CR4.SMEP)


def test_pae_stays_in_long_mode_and_pcide_needs_it_and_a_clean_cr3() -> None:
    cpu, _ = long_guest()
    with pytest.raises(GuestFault, match=GP0):
        control.mov_to_cr(cpu, 4, cpu.cr4 & ~CR4.PAE)
    cpu.cr3 = 0x7001
    with pytest.raises(GuestFault, match=GP0):
        control.mov_to_cr(cpu, 4, cpu.cr4 | CR4.PCIDE)
    cpu, _ = protected_guest()
    with pytest.raises(GuestFault, match=GP0):
        control.mov_to_cr(cpu, 4, CR4.PCIDE)


def test_paging_hook_is_called_for_paging_bits_only() -> None:
    cpu, _ = long_guest()
    told: list[VCpu] = []
    cpu.on_paging_mode_changed = told.append
    control.mov_to_cr(cpu, 4, cpu.cr4 | CR4.OSFXSR | CR4.OSXMMEXCPT)
    control.mov_to_cr(cpu, 0, cpu.cr0 | CR0.TS)
    assert told == []
    control.mov_to_cr(cpu, 4, cpu.cr4 | CR4.PGE)
    control.mov_to_cr(cpu, 0, cpu.cr0 & ~CR0.WP)
    assert told == [cpu, cpu]


def test_cr8_holds_four_bits() -> None:
    cpu, _ = long_guest()
    control.mov_to_cr(cpu, 8, 15)
    assert control.mov_from_cr(cpu, 8) == 15
    with pytest.raises(GuestFault, match=GP0):
        control.mov_to_cr(cpu, 8, 16)


def test_lmsw_cannot_clear_pe_and_changes_the_low_bits_only() -> None:
    cpu, _ = protected_guest()
    cpu.cr0 |= CR0.TS
    control.lmsw(cpu, CR0.MP | 0xFFF0)
    assert cpu.cr0 == CR0.PE | CR0.MP | CR0.ET
    assert control.smsw(cpu) == cpu.cr0


def test_clts_is_privileged() -> None:
    cpu, _ = long_guest()
    cpu.cr0 |= CR0.TS
    control.clts(cpu)
    assert not cpu.cr0 & CR0.TS
    with pytest.raises(GuestFault, match=GP0):
        control.clts(long_guest(cpl=3)[0])


def test_there_is_no_xsave() -> None:
    for instruction in (control.xgetbv, control.xsetbv):
        with pytest.raises(GuestFault, match="#UD"):
            instruction(long_guest()[0])


def test_compatibility_mode_writes_32_bits() -> None:
    cpu, mem = long_guest()
    set_cs(cpu, mem, KCODE32)
    control.mov_to_cr(cpu, 2, 0x1_2345_6789)
    assert cpu.cr2 == 0x2345_6789


def test_debug_registers_have_fixed_bits_and_reserved_upper_halves() -> None:
    cpu, _ = long_guest()
    mov_to_dr(cpu, 7, 0xFFFF_FFFF & ~DR7.GD)
    mov_to_dr(cpu, 6, 0)
    mov_to_dr(cpu, 3, 1 << 63)
    assert (cpu.dr[7], cpu.dr[6], mov_from_dr(cpu, 3)) == (0xFFFF_07FF, 0xFFFF_0FF0, 1 << 63)
    with pytest.raises(GuestFault, match=GP0):
        mov_to_dr(cpu, 7, 1 << 32)


def test_dr4_and_dr5_are_aliases_unless_cr4_de_is_set() -> None:
    cpu, _ = long_guest()
    assert mov_from_dr(cpu, 4) == cpu.dr[6]
    cpu.cr4 |= CR4.DE
    with pytest.raises(GuestFault, match="#UD"):
        mov_from_dr(cpu, 5)


def test_general_detect_is_db_with_bd() -> None:
    cpu, _ = long_guest()
    cpu.dr[7] |= DR7.GD
    with pytest.raises(GuestFault, match="#DB"):
        mov_to_dr(cpu, 0, 1)
    assert cpu.dr[6] & DR6.BD and cpu.dr[0] == 0


def test_debug_registers_are_privileged() -> None:
    cpu, mem = long_guest(cpl=3)
    set_cs(cpu, mem, UCODE32 | 3)
    with pytest.raises(GuestFault, match=GP0):
        mov_from_dr(cpu, 0)
