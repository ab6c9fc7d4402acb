from __future__ import annotations

import pytest
from mmu_machine import RW, USER_RW, MmuMachine, Registers

from dbgvmm.cpu.bits import CR0, CR4, PageFaultError
from dbgvmm.cpu.faults import GuestFault
from dbgvmm.cpu.memory import LinearMemory
from dbgvmm.hardware.paging import PTE
from dbgvmm.mmu.linear import GuestMemory, NotMapped

VA = 0x40_0000_1000
AD = PTE.A | PTE.D
P, W, U = PageFaultError.P, PageFaultError.W, PageFaultError.U


@pytest.fixture
def memory(machine: MmuMachine) -> GuestMemory:
    machine.map(VA, 0x5000 | USER_RW)
    machine.map(VA + 0x1000, 0x9000 | RW)
    return GuestMemory(machine.mmu)


def code_of(caught: pytest.ExceptionInfo[GuestFault]) -> tuple[int, int | None, int | None]:
    return caught.value.vector, caught.value.error_code, caught.value.cr2


def test_it_is_the_memory_that_the_cpu_wants(memory: GuestMemory) -> None:
    wanted: LinearMemory = memory
    assert wanted.read_u8(VA, False) == 0


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_what_is_written_is_read_back_in_every_width(memory: GuestMemory, size: int) -> None:
    value = 0x8877_6655_4433_2211 & (1 << 8 * size) - 1
    getattr(memory, f"write_u{8 * size}")(VA + 3, value, True)
    assert getattr(memory, f"read_u{8 * size}")(VA + 3, True) == value
    assert memory.read(VA + 3, size, False) == value.to_bytes(size, "little")


def test_accesses_cross_pages_to_wherever_the_next_is_mapped(machine: MmuMachine, memory: GuestMemory) -> None:
    memory.write_u64(VA + 0xFFC, 0x8877_6655_4433_2211, False)
    assert machine.ram.read(0x5FFC, 4) + machine.ram.read(0x9000, 4) == bytes.fromhex("1122334455667788")
    assert memory.read_u64(VA + 0xFFC, False) == 0x8877_6655_4433_2211


def test_a_crossing_write_that_faults_on_its_second_page_writes_nothing(machine: MmuMachine, memory: GuestMemory) -> None:
    with pytest.raises(GuestFault) as caught:
        memory.write_u64(VA + 0xFFC, (1 << 64) - 1, True)
    assert code_of(caught) == (14, P | W | U, VA + 0x1000)
    assert machine.ram.read(0x5FFC, 4) == bytes(4)


def test_faults_are_exact(memory: GuestMemory) -> None:
    with pytest.raises(GuestFault) as caught:
        memory.read_u16(VA + 0x2010, True)
    assert code_of(caught) == (14, U, VA + 0x2010)


def test_reads_and_writes_set_a_and_d(machine: MmuMachine, memory: GuestMemory) -> None:
    memory.read_u8(VA, False)
    assert machine.entry(VA) & AD == PTE.A
    memory.write_u16(VA, 1, False)
    assert machine.entry(VA) & AD == AD


def test_a_non_canonical_address_is_a_general_protection_fault(memory: GuestMemory) -> None:
    with pytest.raises(GuestFault) as caught:
        memory.read_u64(0x8000_0000_0000, False)
    assert code_of(caught) == (13, 0, None)


def test_writes_to_page_tables_change_the_shadow(machine: MmuMachine, memory: GuestMemory) -> None:
    machine.map(VA + 0x3000, machine.entry_gpa(VA, 1) & -4096 | RW)
    machine.touch(VA)
    memory.write_u64(VA + 0x3000 + 8 * (VA >> 12 & 511), 0x7000 | RW | AD, False)
    machine.touch(VA)
    found = machine.shadow(VA)
    assert found is not None and found.physical == 0x7000


def test_translations_are_kept_until_the_guest_flushes(machine: MmuMachine, memory: GuestMemory) -> None:
    memory.write_u16(VA, 0x1111, False)
    machine.ram.u64[machine.entry_gpa(VA, 1) >> 3] = 0x7000 | RW | AD
    machine.ram.u16[0x7000 >> 1] = 0x2222
    assert memory.read_u16(VA, False) == 0x2222
    memory.write_u16(VA, 0x3333, False)
    assert machine.ram.u16[0x5000 >> 1] == 0x3333
    machine.mmu.invlpg(VA)
    memory.write_u16(VA, 0x4444, False)
    assert machine.ram.u16[0x7000 >> 1] == 0x4444


def test_smap_is_asked_at_every_access(build: type[MmuMachine]) -> None:
    machine = build(Registers(cr4=CR4.PAE | CR4.SMAP))
    machine.map(VA, 0x5000 | USER_RW)
    memory = GuestMemory(machine.mmu)
    machine.ac = True
    assert memory.read_u8(VA, False) == 0
    machine.ac = False
    with pytest.raises(GuestFault):
        memory.read_u8(VA, False)
    machine.ac = True
    machine.cpu.cpl = 3
    with pytest.raises(GuestFault):
        memory.read_u8(VA, False)
    assert memory.read_u8(VA, True) == 0


def test_device_memory_is_accessed_in_bus_sized_pieces(machine: MmuMachine, memory: GuestMemory) -> None:
    machine.mmu.mmio_read = machine.devices.read
    machine.mmu.mmio_write = machine.devices.write
    machine.map(VA + 0x3000, 0xFEE0_0000 | RW)
    assert memory.read_u32(VA + 0x3010, False) == 0x5A
    memory.write_u32(VA + 0x3020, 7, False)
    memory.write(VA + 0x3036, b"abc", False)
    assert machine.devices.reads == [(0xFEE0_0010, 4)]
    assert machine.devices.writes == [(0xFEE0_0020, 4, 7), (0xFEE0_0036, 2, 0x6261), (0xFEE0_0038, 1, 0x63)]


def test_a_debugger_sees_all_and_leaves_no_trace(machine: MmuMachine, memory: GuestMemory) -> None:
    machine.map(VA + 0x3000, 0x7000 | PTE.P)
    memory.poke(VA + 0x3FFE - 0x2000, b"\x01\x02")
    memory.poke(VA + 0x3000, b"hello")
    assert memory.peek(VA + 0x3000, 5) == b"hello"
    assert not machine.entry(VA + 0x3000) & AD


def test_a_poke_honours_traces(machine: MmuMachine, memory: GuestMemory) -> None:
    seen: list[tuple[int, int]] = []
    machine.mmu.on_code_write = lambda gpa, size: seen.append((gpa, size))
    machine.mmu.protect_code(5)
    memory.poke(VA + 4, b"\xcc")
    assert seen == [(0x5004, 1)]


@pytest.mark.parametrize(("va", "why"), [
    (VA + 0x2000, "PTE not present"), (0x8000_0000_0000, "not a canonical"), (VA + 0x3000, "not RAM"),
])  # fmt: skip
def test_what_a_debugger_cannot_reach_says_why(machine: MmuMachine, memory: GuestMemory, va: int, why: str) -> None:
    machine.map(VA + 0x3000, 0xFEE0_0000 | RW)
    with pytest.raises(NotMapped, match=why):
        memory.peek(va, 1)


def test_with_paging_off_addresses_are_physical(build: type[MmuMachine]) -> None:
    memory = GuestMemory(build(Registers(cr0=CR0.PE, efer=0, cr4=0)).mmu)
    memory.write_u32(0x1234, 0xDEAD_BEEF, False)
    assert memory.read_u32(0x1234, True) == 0xDEAD_BEEF
