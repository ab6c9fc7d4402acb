from __future__ import annotations

import struct

import pytest
from boot_images import MIB, Part, Ram, elf, multiboot_header, request

from dbgvmm.boot.multiboot import find_header, load_multiboot
from dbgvmm.boot.state import BootError, CpuMode
from dbgvmm.cpu.bits import CR0

TEXT = multiboot_header() + b"\xfa\xf4"
KERNEL = elf([Part(0x100000, TEXT, memory_size=0x1234)], 0x10000C, bits=32)


def test_the_header_is_found_on_any_multiple_of_four_in_the_first_8_kib() -> None:
    for offset in (0, 4, 8192 - 12):
        header = find_header(bytes(offset) + multiboot_header())
        assert header is not None and header.offset == offset


@pytest.mark.parametrize("image", [bytes(2) + multiboot_header(), bytes(8192) + multiboot_header(), b""])
def test_a_header_elsewhere_is_none(image: bytes) -> None:
    assert find_header(image) is None


def test_a_wrong_checksum_makes_it_no_header() -> None:
    assert find_header(struct.pack("<III", 0x1BADB002, 3, 0)) is None


def test_the_first_state_is_that_of_the_specification() -> None:
    state = load_multiboot(request(KERNEL), Ram())
    assert state.mode is CpuMode.PROTECTED_FLAT32
    assert state.rip == 0x10000C
    assert state.gpr["rax"] == 0x2BADB002
    assert state.cr0 & CR0.PE and not state.cr0 & CR0.PG
    assert not state.rflags & (1 << 9 | 1 << 17), "interrupts and virtual-8086 mode are off"
    assert all((segment.base, segment.limit) == (0, 0xFFFF_FFFF) for segment in state.segments.values())


def test_the_segments_can_be_reloaded_from_the_gdt() -> None:
    ram = Ram()
    state = load_multiboot(request(KERNEL), ram)
    for segment in state.segments.values():
        assert ram.number(state.gdt_base + segment.selector, 8) == segment.descriptor
        assert segment.selector + 7 <= state.gdt_limit


def test_memory_is_told_in_kib_and_as_a_map() -> None:
    ram = Ram(64 * MIB)
    info = load_multiboot(request(KERNEL), ram).gpr["rbx"]
    assert ram.number(info) & 0x41 == 0x41
    assert (ram.number(info + 4), ram.number(info + 8)) == (640, 63 * 1024)
    length, address = ram.number(info + 44), ram.number(info + 48)
    lines = list(struct.iter_unpack("<IQQI", ram.read(address, length)))
    assert lines == [(20, 0, 0xA0000, 1), (20, 0x100000, 63 * MIB, 1)]


def test_the_command_line_and_the_loaders_name_are_strings() -> None:
    ram = Ram()
    info = load_multiboot(request(KERNEL, "debug=1 quiet"), ram).gpr["rbx"]
    assert ram.number(info) & 0x204 == 0x204
    assert ram.string(ram.number(info + 16)) == b"debug=1 quiet"
    assert ram.string(ram.number(info + 64)) == b"dbgvmm"


def test_without_an_initrd_there_are_no_modules() -> None:
    ram = Ram()
    info = load_multiboot(request(KERNEL), ram).gpr["rbx"]
    assert ram.number(info) & 8 and ram.number(info + 20) == 0


def test_the_initrd_is_a_module_on_a_page_behind_the_kernels_bss() -> None:
    ram = Ram()
    info = load_multiboot(request(KERNEL, initrd=b"disk content"), ram).gpr["rbx"]
    assert ram.number(info + 20) == 1
    start, end, string, reserved = struct.unpack("<4I", ram.read(ram.number(info + 24), 16))
    assert (start, end, reserved) == (0x102000, 0x102000 + 12, 0)
    assert ram.read(start, 12) == b"disk content"
    assert ram.string(string) == b"disk.img"


def test_an_initrd_that_does_not_fit_says_how_much_memory_it_takes() -> None:
    with pytest.raises(BootError, match="initrd .* --memory 5M"):
        load_multiboot(request(KERNEL, initrd=bytes(3 * MIB)), Ram(4 * MIB))


def test_the_text_screen_is_told_only_when_there_is_one() -> None:
    ram = Ram()
    plain = load_multiboot(request(KERNEL), ram).gpr["rbx"]
    assert not ram.number(plain) & 1 << 12
    info = load_multiboot(request(KERNEL, vga_text=True), ram).gpr["rbx"]
    assert ram.number(info) & 1 << 12
    assert struct.unpack("<QIIIBB", ram.read(info + 88, 22)) == (0xB8000, 160, 80, 25, 16, 2)


def test_a_higher_half_kernel_is_entered_at_its_physical_address() -> None:
    image = elf([Part(0x100000, TEXT, virtual=0xC0100000)], 0xC010000C, bits=32)
    assert load_multiboot(request(image), Ram()).rip == 0x10000C


def test_elf64_is_entered_in_32_bit_mode() -> None:
    image = elf([Part(0x100000, TEXT, virtual=0xFFFF_FFFF_8010_0000)], 0xFFFF_FFFF_8010_000C)
    state = load_multiboot(request(image), Ram())
    assert (state.mode, state.rip) == (CpuMode.PROTECTED_FLAT32, 0x10000C)


def test_an_entry_outside_of_the_segments_is_refused() -> None:
    with pytest.raises(BootError, match="entry 0x500000"):
        load_multiboot(request(elf([Part(0x100000, TEXT)], 0x500000, bits=32)), Ram())


def test_unknown_requirements_are_refused() -> None:
    with pytest.raises(BootError, match="flags 0x8"):
        load_multiboot(request(elf([Part(0x100000, multiboot_header(0x8))], 0x100000, bits=32)), Ram())


def test_a_flat_file_is_loaded_by_the_addresses_in_its_header() -> None:
    header = multiboot_header(0x10000, (0x100010, 0x100008, 0x100030, 0x100050, 0x100020))
    image = b"cut " * 4 + header + bytes(range(32))
    ram = Ram()
    state = load_multiboot(request(image), ram)
    assert state.rip == 0x100020
    assert ram.read(0x100008, 0x28) == image[8:0x30]
    assert ram.read(0x100030, 0x20) == bytes(0x20)
    assert ram.read(0x100050, 1) != b"\0"


def test_without_a_load_end_the_whole_file_is_loaded() -> None:
    image = multiboot_header(0x10000, (0x100000, 0x100000, 0, 0, 0x100020)) + b"end"
    ram = Ram()
    load_multiboot(request(image), ram)
    assert ram.read(0x100000, len(image)) == image


@pytest.mark.parametrize(
    ("addresses", "message"),
    [
        ((0x100000, 0x100004, 0, 0, 0x100004), "does not fit header_addr"),
        ((0x100010, 0x100000, 0, 0, 0x100000), "does not fit header_addr"),
        ((0x100000, 0x100000, 0xFF000, 0, 0x100000), "not in order"),
        ((0x100000, 0x100000, 0x100020, 0x100010, 0x100000), "not in order"),
        ((0x100000, 0x100000, 0x200000, 0, 0x100000), "truncated"),
    ],
)
def test_addresses_that_contradict_the_file_are_refused(addresses: tuple[int, ...], message: str) -> None:
    with pytest.raises(BootError, match=message):
        load_multiboot(request(multiboot_header(0x10000, addresses) + b"text"), Ram())


def test_a_header_cut_short_is_refused() -> None:
    with pytest.raises(BootError, match="truncated Multiboot header"):
        find_header(multiboot_header(0x10000, (0x100000, 0x100000)))


def test_a_flat_file_without_addresses_is_refused() -> None:
    with pytest.raises(BootError, match="bit 16"):
        load_multiboot(request(multiboot_header()), Ram())


def test_boot_data_stays_clear_of_a_kernel_in_low_memory() -> None:
    ram = Ram()
    text = TEXT + bytes(0x8000)
    state = load_multiboot(request(elf([Part(0x1000, text)], 0x100C, bits=32), "x"), ram)
    assert ram.read(0x1000, len(text)) == text
    assert state.gpr["rbx"] >= 0x1000 + len(text)
