from __future__ import annotations

import struct

import pytest
from boot_images import Part, Ram, elf, request, translate

from dbgvmm.boot.elf64 import load_elf64
from dbgvmm.boot.state import BootError, CpuMode

HIGH = 0xFFFF_FFFF_8000_0000


def test_the_cpu_starts_in_64_bit_mode_at_the_elf_entry() -> None:
    state = load_elf64(request(elf([Part(0x100000, b"text")], 0x100002)), Ram())
    assert (state.mode, state.rip) == (CpuMode.LONG64, 0x100002)
    assert (state.cr0, state.cr4, state.efer) == (0x8000_0011, 0x20, 0x500)


def test_the_first_4_gib_are_mapped_to_themselves_and_no_more() -> None:
    ram = Ram()
    cr3 = load_elf64(request(elf([Part(0x100000, b"text")], 0x100000)), ram).cr3
    for linear in (0, 0x1FFFFF, 0x4000_0000, 0xBFE1_2345, 0xFFFF_FFFF):
        assert translate(ram, cr3, linear) == linear
    assert translate(ram, cr3, 1 << 32) is None


def test_the_top_2_gib_are_mapped_to_physical_0_and_up() -> None:
    ram = Ram()
    cr3 = load_elf64(request(elf([Part(0x100000, b"text")], 0x100000)), ram).cr3
    for offset in (0, 0x100000, 0x4000_0000, 0x7FFF_FFFF):
        assert translate(ram, cr3, HIGH + offset) == offset
    assert translate(ram, cr3, HIGH - 1) is None


def test_a_higher_half_kernel_is_entered_at_its_linear_address() -> None:
    ram = Ram()
    state = load_elf64(request(elf([Part(0x100000, b"text", virtual=HIGH + 0x100000)], HIGH + 0x100001)), ram)
    assert state.rip == HIGH + 0x100001
    assert translate(ram, state.cr3, state.rip) == 0x100001


def test_the_stack_is_as_at_a_functions_entry() -> None:
    ram = Ram()
    stack = load_elf64(request(elf([Part(0x100000, b"text")], 0x100000)), ram).gpr["rsp"]
    assert stack % 16 == 8
    assert ram.number(stack, 8) == 0
    assert ram.read(stack + 8 - (64 << 10), 64 << 10) == bytes(64 << 10)


def test_rdi_points_to_the_start_info() -> None:
    ram = Ram()
    info = load_elf64(request(elf([Part(0x100000, b"text")], 0x100000), "args"), ram).gpr["rdi"]
    magic, *_rest, cmdline = struct.unpack("<IIIIQQ", ram.read(info, 32))
    assert magic == 0x336EC578
    assert ram.string(cmdline) == b"args"


def test_nothing_is_put_into_page_zero() -> None:
    ram = Ram()
    before = ram.read(0, 4096)
    load_elf64(request(elf([Part(0x100000, b"text")], 0x100000), "args", b"disk"), ram)
    assert ram.read(0, 4096) == before


def test_an_entry_that_the_tables_do_not_map_to_its_bytes_is_refused() -> None:
    with pytest.raises(BootError, match="linked at 0xc0100000 and loaded at 0x100000"):
        load_elf64(request(elf([Part(0x100000, b"text", virtual=0xC0100000)], 0xC0100000)), Ram())
    with pytest.raises(BootError, match="0xffff800000100000"):
        load_elf64(request(elf([Part(0x100000, b"t", virtual=0xFFFF_8000_0010_0000)], 0xFFFF_8000_0010_0000)), Ram())


def test_an_entry_in_no_segment_is_refused() -> None:
    with pytest.raises(BootError, match="entry 0x0 "):
        load_elf64(request(elf([Part(0x100000, b"text")], 0)), Ram())


def test_a_32_bit_file_is_refused() -> None:
    with pytest.raises(BootError, match="32-bit"):
        load_elf64(request(elf([Part(0x100000, b"text")], 0x100000, bits=32)), Ram())
