"""The state object: reset, modes, saving, words for people."""

from __future__ import annotations

import array
import json

import pytest

from dbgvmm.cpu.bits import CR0, MSR, RFLAGS, PageFaultError, SegmentAttributes, SReg, Vector, is_canonical
from dbgvmm.cpu.boot_state import enter_flat_long, enter_flat_protected, enter_real_mode
from dbgvmm.cpu.cpuid import CpuidTable
from dbgvmm.cpu.faults import GuestFault, makes_double_fault
from dbgvmm.cpu.state import Mode, VCpu

from .guest import UCODE32, long_guest, mode, new_cpu, set_cs


def test_reset_starts_at_the_reset_vector_in_real_mode() -> None:
    cpu = new_cpu()
    assert (cpu.segs[SReg.CS].base + cpu.rip, cpu.mode, cpu.rflags) == (0xFFFF_FFF0, Mode.REAL, 2)
    assert cpu.gpr[2] == 0x606A6 and cpu.cr0 == 0x6000_0010


def test_general_registers_can_live_in_a_memoryview() -> None:
    store = array.array("Q", [7] * 16)
    cpu = VCpu(memoryview(store), CpuidTable().limits())
    cpu.gpr[15] = (1 << 64) - 1
    assert store[15] == (1 << 64) - 1 and store[0] == 0


def test_a_wrong_number_of_registers_is_refused() -> None:
    with pytest.raises(ValueError, match="16 general registers"):
        VCpu([0] * 8, CpuidTable().limits())


def test_mode_follows_cr0_efer_and_cs() -> None:
    cpu = new_cpu()
    enter_real_mode(cpu, 0, 0x7C00)
    assert mode(cpu) is Mode.REAL
    cpu.cr0 |= CR0.PE
    assert mode(cpu) is Mode.PROTECTED16
    enter_flat_protected(cpu, 0x10_0000)
    assert mode(cpu) is Mode.PROTECTED32
    enter_flat_long(cpu, 0x10_0000, 0x1000)
    assert mode(cpu) is Mode.LONG64 and cpu.in_64bit_code
    cpu.segs[SReg.CS].attributes &= ~SegmentAttributes.L
    assert mode(cpu) is Mode.COMPAT16


def test_boot_states_announce_themselves() -> None:
    cpu = new_cpu()
    seen: list[str] = []
    cpu.on_paging_mode_changed = lambda cpu: seen.append("paging")
    cpu.on_cr3 = lambda cpu, old, new: seen.append(f"cr3={new:x}")
    cpu.on_segments_changed = lambda cpu: seen.append("segments")
    enter_flat_long(cpu, 0, 0x1000)
    assert seen == ["paging", "cr3=1000", "segments"]


def test_saved_state_comes_back_through_json() -> None:
    cpu, mem = long_guest(cpl=3)
    set_cs(cpu, mem, UCODE32 | 3)
    cpu.msrs[MSR.MTRR_DEF_TYPE] = 0xC06
    cpu.interrupt_shadow = cpu.halted = True
    cpu.dr[0] = 0x1234
    state = cpu.save()
    other = new_cpu()
    other.load(json.loads(json.dumps(state)))
    assert other.save() == state
    assert other.mode is Mode.COMPAT32


def test_a_saved_state_is_a_copy() -> None:
    cpu, _ = long_guest()
    state = cpu.save()
    cpu.gpr[0] = 99
    cpu.segs[SReg.DS].base = 99
    cpu.dr[0] = 99
    cpu.load(state)
    assert (cpu.gpr[0], cpu.segs[SReg.DS].base, cpu.dr[0]) == (0, 0, 0)


def test_loading_something_else_changes_nothing_and_says_what_is_missing() -> None:
    cpu, _ = long_guest()
    before = cpu.save()
    with pytest.raises(ValueError, match="gpr"):
        cpu.load({"rip": 5})
    assert cpu.save() == before


def test_registers_describe_themselves() -> None:
    assert CR0.describe(CR0.PE | CR0.PG) == "PE PG"
    assert RFLAGS.describe(RFLAGS.IOPL | RFLAGS.FIXED) == "FIXED IOPL=3"
    assert PageFaultError.describe(7) == "P W U"
    assert CR0.describe(1 << 40) == hex(1 << 40) and CR0.describe(0) == "0"
    assert (Vector.name_of(14), Vector.name_of(2), Vector.name_of(0x80)) == ("#PF", "NMI", "vector 80h")
    assert (MSR.name_of(0xC000_0082), MSR.name_of(0x611)) == ("LSTAR", "611h")
    assert "mode=long64" in long_guest()[0].describe()


def test_a_fault_reads_as_the_manual_writes_it() -> None:
    assert str(GuestFault(Vector.PF, 6, 0x1000)) == "#PF(6h) at 0x1000"
    assert str(GuestFault(Vector.UD, reason="why")) == "#UD: why"


@pytest.mark.parametrize(
    ("address", "canonical"),
    [(0, True), (0x7FFF_FFFF_FFFF, True), (1 << 47, False), (0xFFFF_7FFF_FFFF_FFFF, False), (0xFFFF_8000 << 32, True)],
)
def test_canonical_addresses(address: int, canonical: bool) -> None:
    assert is_canonical(address) is canonical


@pytest.mark.parametrize(
    ("first", "second", "double"),
    [
        (Vector.UD, Vector.GP, False),
        (Vector.GP, Vector.NP, True),
        (Vector.DE, Vector.TS, True),
        (Vector.GP, Vector.PF, False),
        (Vector.PF, Vector.PF, True),
        (Vector.PF, Vector.SS, True),
        (Vector.DB, Vector.PF, False),
        (Vector.AC, Vector.GP, False),
    ],
)
def test_double_fault_table(first: int, second: int, double: bool) -> None:
    assert makes_double_fault(first, second) is double
