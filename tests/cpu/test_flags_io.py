"""CLI, STI, POPF, PUSHF, HLT; port permissions; FSGSBASE."""

from __future__ import annotations

import pytest

from dbgvmm.cpu import flags
from dbgvmm.cpu.bits import CR4, RFLAGS, SReg
from dbgvmm.cpu.faults import GuestFault
from dbgvmm.cpu.fsgsbase import read_segment_base, write_segment_base
from dbgvmm.cpu.io_permission import check_port

from .guest import TSS, long_guest, new_cpu

GP0 = r"#GP\(0h\)"


def test_sti_has_a_shadow_only_if_if_was_clear() -> None:
    cpu, _ = long_guest()
    flags.sti(cpu)
    assert not cpu.interrupt_shadow
    flags.cli(cpu)
    flags.sti(cpu)
    assert cpu.interrupt_shadow and cpu.rflags & RFLAGS.IF


def test_cli_and_sti_need_iopl() -> None:
    cpu, _ = long_guest(cpl=3)
    for instruction in (flags.cli, flags.sti):
        with pytest.raises(GuestFault, match=GP0):
            instruction(cpu)
    cpu.rflags |= RFLAGS.IOPL
    flags.cli(cpu)
    assert not cpu.rflags & RFLAGS.IF


def test_user_popf_leaves_if_and_iopl_silently() -> None:
    cpu, _ = long_guest(cpl=3)
    flags.popf(cpu, RFLAGS.IOPL | RFLAGS.CF | RFLAGS.AC | RFLAGS.RF | RFLAGS.VM, 8)
    assert cpu.rflags == RFLAGS.FIXED | RFLAGS.IF | RFLAGS.CF | RFLAGS.AC


def test_kernel_popf_changes_if_and_iopl_and_a_16_bit_one_not_ac() -> None:
    cpu, _ = long_guest()
    flags.popf(cpu, RFLAGS.IOPL | RFLAGS.AC, 2)
    assert cpu.rflags == RFLAGS.FIXED | RFLAGS.IOPL


def test_pushf_hides_rf_and_vm() -> None:
    cpu, _ = long_guest()
    cpu.rflags |= RFLAGS.RF | RFLAGS.AC
    assert flags.pushf(cpu, 8) == RFLAGS.FIXED | RFLAGS.IF | RFLAGS.AC
    assert flags.pushf(cpu, 2) == RFLAGS.FIXED | RFLAGS.IF


def test_hlt_is_privileged() -> None:
    cpu, _ = long_guest()
    flags.hlt(cpu)
    assert cpu.halted
    with pytest.raises(GuestFault, match=GP0):
        flags.hlt(long_guest(cpl=3)[0])


def test_ports_are_free_up_to_iopl_and_in_real_mode() -> None:
    cpu, mem = long_guest()
    check_port(cpu, mem, 0x60, 1)
    cpu, mem = long_guest(cpl=3)
    cpu.rflags |= RFLAGS.IOPL
    check_port(cpu, mem, 0x60, 1)
    check_port(new_cpu(), mem, 0x60, 1)


def test_the_bitmap_decides_for_user_code_bit_by_bit() -> None:
    cpu, mem = long_guest(cpl=3)
    cpu.tr.limit = 0x67 + 0x80
    mem.write_u16(TSS + 0x66, 0x68, False)
    mem.write_u16(TSS + 0x68 + 0x60 // 8, 0xFF00 | 0b1110_1111, False)
    check_port(cpu, mem, 0x64, 1)
    for port, size in ((0x60, 1), (0x64, 2), (0x67, 4)):
        with pytest.raises(GuestFault, match=GP0):
            check_port(cpu, mem, port, size)


def test_ports_beyond_the_bitmap_are_denied() -> None:
    cpu, mem = long_guest(cpl=3)
    mem.write_u16(TSS + 0x66, 0x68, False)
    for limit in (0x66, 0x67, 0x68):  # no bitmap base, no bitmap, one byte of the two that are read
        cpu.tr.limit = limit
        with pytest.raises(GuestFault, match=GP0):
            check_port(cpu, mem, 0, 1)


def test_fsgsbase_reads_and_writes_where_it_is_enabled() -> None:
    cpu, _ = long_guest(cpl=3)
    write_segment_base(cpu, SReg.FS, 0x7FFF_1234_5678, 8)
    assert read_segment_base(cpu, SReg.FS, 4) == 0x1234_5678
    write_segment_base(cpu, SReg.FS, 0x7FFF_1234_5678, 4)
    assert cpu.segs[SReg.FS].base == 0x1234_5678
    with pytest.raises(GuestFault, match=GP0):
        write_segment_base(cpu, SReg.GS, 1 << 47, 8)
    cpu.cr4 &= ~CR4.FSGSBASE
    with pytest.raises(GuestFault, match="#UD"):
        read_segment_base(cpu, SReg.FS, 8)
