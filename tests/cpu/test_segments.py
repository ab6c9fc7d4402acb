"""Loads of segment registers, table registers, and the selector queries."""

from __future__ import annotations

import pytest

from dbgvmm.cpu import segment_queries, tables
from dbgvmm.cpu.bits import SReg, Vector
from dbgvmm.cpu.boot_state import enter_real_mode
from dbgvmm.cpu.descriptors import attributes_of, base_of, limit_of, make_descriptor
from dbgvmm.cpu.faults import GuestFault
from dbgvmm.cpu.segments import load_segment, mov_to_sreg

from .guest import (
    ABSENT_DATA,
    CONFORMING,
    DATA,
    DPL3,
    EXEC_ONLY,
    GDT,
    KCODE,
    KDATA,
    LDT,
    LDT_SEL,
    READ_ONLY,
    TSS,
    TSS_SEL,
    UDATA,
    UDATA16,
    FakeMemory,
    G,
    P,
    S,
    long_guest,
    new_cpu,
    protected_guest,
    set_descriptor,
)


def test_descriptor_fields_survive_a_round_trip() -> None:
    raw = make_descriptor(0x1234_5678, 0xABCD_EFFF, DATA | S | P | G)
    assert (base_of(raw), limit_of(raw), attributes_of(raw)) == (0x1234_5678, 0xABCD_EFFF, DATA | S | P | G)


def test_a_limit_that_needs_granularity_is_refused_without_it() -> None:
    with pytest.raises(ValueError, match="granularity"):
        make_descriptor(0, 0x10_0000, DATA | S | P)


def test_data_segment_load_fills_the_hidden_part_and_marks_the_descriptor_accessed() -> None:
    cpu, mem = protected_guest()
    set_descriptor(mem, 0xA0, make_descriptor(0x10_0000, 0x7FFF, DATA | S | P | DPL3))
    load_segment(cpu, mem, SReg.FS, 0xA3)
    assert cpu.segs[SReg.FS].fields() == [0xA3, 0x10_0000, 0x7FFF, DATA | S | P | DPL3 | 1]
    assert mem.read_u64(GDT + 0xA0, False) >> 40 & 1


def test_an_accessed_descriptor_is_not_written_again() -> None:
    cpu, mem = protected_guest()
    load_segment(cpu, mem, SReg.DS, KDATA)
    mem.read_only.add(GDT >> 12)
    load_segment(cpu, mem, SReg.DS, KDATA)


def test_null_selector_clears_the_segment_and_its_base() -> None:
    cpu, mem = long_guest()
    cpu.segs[SReg.GS].base = 0x1234
    load_segment(cpu, mem, SReg.GS, 3)
    assert cpu.segs[SReg.GS].fields() == [3, 0, 0, 0]


@pytest.mark.parametrize(
    ("cpl", "index", "selector", "vector", "error"),
    [
        (0, SReg.DS, 0x7F8, Vector.GP, 0x7F8),
        (0, SReg.DS, 0x14, Vector.GP, 0x14),
        (0, SReg.DS, EXEC_ONLY, Vector.GP, EXEC_ONLY),
        (0, SReg.DS, TSS_SEL, Vector.GP, TSS_SEL),
        (0, SReg.DS, ABSENT_DATA, Vector.NP, ABSENT_DATA),
        (3, SReg.DS, KDATA, Vector.GP, KDATA),
        (0, SReg.DS, KDATA | 3, Vector.GP, KDATA),
        (3, SReg.ES, KCODE, Vector.GP, KCODE),
        (0, SReg.SS, UDATA, Vector.GP, UDATA),
        (0, SReg.SS, KDATA | 3, Vector.GP, KDATA),
        (0, SReg.SS, READ_ONLY, Vector.GP, READ_ONLY),
        (0, SReg.SS, KCODE, Vector.GP, KCODE),
        (0, SReg.SS, ABSENT_DATA, Vector.SS, ABSENT_DATA),
        (3, SReg.SS, 3, Vector.GP, 0),
        (0, SReg.SS, 1, Vector.GP, 0),
    ],
)
def test_a_bad_selector_faults_and_changes_nothing(
    cpl: int, index: int, selector: int, vector: int, error: int
) -> None:
    cpu, mem = long_guest(cpl)
    before = cpu.save()
    with pytest.raises(GuestFault) as caught:
        load_segment(cpu, mem, index, selector)
    assert (caught.value.vector, caught.value.error_code) == (vector, error)
    assert cpu.save() == before


def test_conforming_code_can_be_read_from_any_level() -> None:
    cpu, mem = long_guest(cpl=3)
    load_segment(cpu, mem, SReg.DS, CONFORMING | 3)
    assert cpu.segs[SReg.DS].selector == CONFORMING | 3


def test_null_ss_is_for_64_bit_kernels_only() -> None:
    cpu, mem = long_guest()
    load_segment(cpu, mem, SReg.SS, 0)
    assert cpu.segs[SReg.SS].selector == 0
    cpu, mem = protected_guest()
    with pytest.raises(GuestFault, match=r"#GP\(0h\)"):
        load_segment(cpu, mem, SReg.SS, 0)


def test_cs_cannot_be_loaded_by_mov() -> None:
    cpu, mem = long_guest()
    with pytest.raises(GuestFault, match="#UD"):
        mov_to_sreg(cpu, mem, SReg.CS, KCODE)


def test_only_mov_to_ss_holds_off_interrupts() -> None:
    cpu, mem = long_guest()
    mov_to_sreg(cpu, mem, SReg.DS, KDATA)
    assert not cpu.interrupt_shadow
    mov_to_sreg(cpu, mem, SReg.SS, KDATA)
    assert cpu.interrupt_shadow


def test_real_mode_load_keeps_a_big_limit() -> None:
    cpu, mem = new_cpu(), FakeMemory()
    enter_real_mode(cpu, 0, 0)
    cpu.segs[SReg.DS].limit = 0xFFFF_FFFF
    load_segment(cpu, mem, SReg.DS, 0xB800)
    assert (cpu.segs[SReg.DS].base, cpu.segs[SReg.DS].limit) == (0xB_8000, 0xFFFF_FFFF)


def test_ldt_selectors_work_once_lldt_has_run() -> None:
    cpu, mem = long_guest()
    set_descriptor(mem, 8, make_descriptor(0x77_0000, 0xFFF, DATA | S | P), table=LDT)
    tables.lldt(cpu, mem, LDT_SEL)
    assert (cpu.ldtr.base, cpu.ldtr.limit, tables.sldt(cpu)) == (LDT, 0xFF, LDT_SEL)
    load_segment(cpu, mem, SReg.DS, 8 | 4)
    assert cpu.segs[SReg.DS].base == 0x77_0000


def test_ltr_reads_16_bytes_and_marks_the_tss_busy() -> None:
    cpu, mem = long_guest()
    mem.write_u64(GDT + TSS_SEL + 8, 0xFFFF_8000, False)
    tables.ltr(cpu, mem, TSS_SEL)
    assert (cpu.tr.base, cpu.tr.limit, cpu.tr.attributes) == (0xFFFF_8000_0000_4000, 0x67, 11 | P)
    assert mem.read_u64(GDT + TSS_SEL, False) >> 40 & 0xF == 11
    with pytest.raises(GuestFault, match=r"#GP\(30h\)"):
        tables.ltr(cpu, mem, TSS_SEL)


def test_ltr_in_protected_mode_reads_8_bytes() -> None:
    cpu, mem = protected_guest()
    cpu.gdtr.limit = TSS_SEL + 7
    tables.ltr(cpu, mem, TSS_SEL)
    assert cpu.tr.base == TSS and tables.store_tr(cpu) == TSS_SEL


@pytest.mark.parametrize(
    ("selector", "text"), [(0, r"#GP\(0h\)"), (TSS_SEL | 4, r"#GP\(34h\)"), (LDT_SEL, r"#GP\(60h\)")]
)
def test_bad_ltr(selector: int, text: str) -> None:
    cpu, mem = long_guest()
    with pytest.raises(GuestFault, match=text):
        tables.ltr(cpu, mem, selector)


def test_absent_tss_and_ldt_are_np() -> None:
    cpu, mem = long_guest()
    set_descriptor(mem, TSS_SEL, make_descriptor(TSS, 0x67, 9))
    set_descriptor(mem, LDT_SEL, make_descriptor(LDT, 0x67, 2))
    with pytest.raises(GuestFault, match=r"#NP\(30h\)"):
        tables.ltr(cpu, mem, TSS_SEL)
    with pytest.raises(GuestFault, match=r"#NP\(60h\)"):
        tables.lldt(cpu, mem, LDT_SEL)


def test_lgdt_and_sgdt_are_ten_bytes_in_64_bit_mode() -> None:
    cpu, mem = long_guest()
    mem.write_u16(0x3000, 0x7F, False)
    mem.write_u64(0x3002, 0xFFFF_8000_0000_1000, False)
    tables.lgdt(cpu, mem, 0x3000, 8)
    tables.sgdt(cpu, mem, 0x3100)
    assert mem.read(0x3100, 10, False) == mem.read(0x3000, 10, False)
    assert (cpu.gdtr.base, cpu.gdtr.limit) == (0xFFFF_8000_0000_1000, 0x7F)


def test_16_bit_lidt_loads_24_bits_of_base() -> None:
    cpu, mem = protected_guest()
    mem.write_u16(0x3000, 0x3FF, False)
    mem.write_u32(0x3002, 0xAB12_3456, False)
    tables.lidt(cpu, mem, 0x3000, 2)
    assert (cpu.idtr.base, cpu.idtr.limit) == (0x12_3456, 0x3FF)


def test_lidt_needs_cpl_0_and_a_canonical_base() -> None:
    cpu, mem = long_guest(cpl=3)
    with pytest.raises(GuestFault, match=r"#GP\(0h\)"):
        tables.lidt(cpu, mem, 0x3000, 8)
    cpu, mem = long_guest()
    mem.write_u64(0x3002, 1 << 63, False)
    with pytest.raises(GuestFault, match=r"#GP\(0h\)"):
        tables.lidt(cpu, mem, 0x3000, 8)


def test_lar_and_lsl_answer_for_what_is_visible() -> None:
    cpu, mem = long_guest(cpl=3)
    assert segment_queries.lar(cpu, mem, UDATA | 3) == 0x00C0_F200
    assert segment_queries.lsl(cpu, mem, UDATA16 | 3) == 0xFFFF
    for selector in (0, 0x7F8, KDATA, 0xA0):
        assert segment_queries.lar(cpu, mem, selector) is None
        assert segment_queries.lsl(cpu, mem, selector) is None


def test_lsl_knows_a_tss_but_not_a_gate() -> None:
    cpu, mem = long_guest()
    set_descriptor(mem, 0x80, make_descriptor(0, 0, 12 | P))
    assert segment_queries.lsl(cpu, mem, TSS_SEL) == 0x67
    assert segment_queries.lsl(cpu, mem, 0x80) is None
    assert segment_queries.lar(cpu, mem, 0x80) == 0x8C00


def test_verr_and_verw() -> None:
    cpu, mem = long_guest()
    ask_read, ask_write = segment_queries.verr, segment_queries.verw
    assert ask_read(cpu, mem, KDATA) and ask_write(cpu, mem, KDATA)
    assert ask_read(cpu, mem, READ_ONLY) and not ask_write(cpu, mem, READ_ONLY)
    assert ask_read(cpu, mem, KCODE) and not ask_write(cpu, mem, KCODE)
    assert not ask_read(cpu, mem, EXEC_ONLY)
    assert not ask_read(cpu, mem, TSS_SEL)


def test_queries_are_ud_in_real_mode() -> None:
    with pytest.raises(GuestFault, match="#UD"):
        segment_queries.lar(new_cpu(), FakeMemory(), 8)
