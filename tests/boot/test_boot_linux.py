from __future__ import annotations

import struct

import pytest
from boot_images import MIB, Ram, bzimage, request, translate

from dbgvmm.boot.linux import load_linux
from dbgvmm.boot.setup_header import Field
from dbgvmm.boot.state import BootError, CpuMode

BASE = 0x20_0000


def params_of(ram: Ram, gpr_rsi: int) -> bytes:
    return ram.read(gpr_rsi, 4096)


def test_the_protected_mode_part_is_at_the_preferred_address_and_entered_at_0x200() -> None:
    ram = Ram()
    kernel = bytes(range(256)) * 16
    state = load_linux(request(bzimage(kernel)), ram)
    assert ram.read(BASE, len(kernel)) == kernel
    assert (state.mode, state.rip) == (CpuMode.LONG64, BASE + 0x200)


def test_the_segments_are_boot_cs_and_boot_ds_and_are_in_the_gdt() -> None:
    ram = Ram()
    state = load_linux(request(bzimage()), ram)
    assert state.segments["cs"].selector == 0x10
    assert {state.segments[name].selector for name in ("ds", "es", "ss")} == {0x18}
    assert ram.number(state.gdt_base + 0x10, 8) == 0x00AF_9B00_0000_FFFF
    assert ram.number(state.gdt_base + 0x18, 8) == 0x00CF_9300_0000_FFFF
    assert state.gdt_limit == 0x1F


def test_kernel_zero_page_and_command_line_are_mapped_to_themselves() -> None:
    ram = Ram()
    state = load_linux(request(bzimage()), ram)
    for linear in (state.rip, BASE + 0x10000, state.gpr["rsi"], 0xFFFF_FFFF):
        assert translate(ram, state.cr3, linear) == linear


def test_boot_params_carry_the_setup_header_and_zeros() -> None:
    ram = Ram()
    image = bzimage()
    params = params_of(ram, load_linux(request(image), ram).gpr["rsi"])
    assert params[0x202:0x20F] == image[0x202:0x20F]
    assert Field.INIT_SIZE.read(params) == 0x10000
    assert params[0x1EF] == 0, "the sentinel, which tells a clean zero page from a copied sector"
    assert params[0x268:0x2D0] == bytes(0x68), "what follows the header in the file is no part of it"
    assert params[0x210] == 0xFF


def test_e820_tells_ram_with_a_hole() -> None:
    ram = Ram()
    params = params_of(ram, load_linux(request(bzimage()), ram).gpr["rsi"])
    lines = [struct.unpack_from("<QQI", params, 0x2D0 + 20 * index) for index in range(params[0x1E8])]
    assert lines == [(0, 0xA0000, 1), (MIB, 15 * MIB, 1)]


def test_the_command_line_ends_in_a_zero() -> None:
    ram = Ram()
    params = params_of(ram, load_linux(request(bzimage(), "console=ttyS0 nokaslr"), ram).gpr["rsi"])
    assert ram.string(Field.CMD_LINE_PTR.read(params)) == b"console=ttyS0 nokaslr"


def test_a_command_line_longer_than_the_kernel_takes_is_refused() -> None:
    load_linux(request(bzimage(), "x" * 0x7FF), Ram())
    with pytest.raises(BootError, match="2048 bytes, this kernel takes 2047"):
        load_linux(request(bzimage(), "x" * 0x800), Ram())


def test_the_initrd_is_as_high_as_ram_allows() -> None:
    ram = Ram()
    params = params_of(ram, load_linux(request(bzimage(), initrd=b"d" * 5000), ram).gpr["rsi"])
    address, size = Field.RAMDISK_IMAGE.read(params), Field.RAMDISK_SIZE.read(params)
    assert (address, size) == (16 * MIB - 0x2000, 5000)
    assert ram.read(address, size) == b"d" * 5000


def test_the_initrd_ends_at_the_kernels_limit() -> None:
    ram = Ram()
    image = bzimage(initrd_addr_max=0x7F_FFFF)
    params = params_of(ram, load_linux(request(image, initrd=b"d" * 4096), ram).gpr["rsi"])
    assert Field.RAMDISK_IMAGE.read(params) == 0x7F_F000


def test_the_initrd_stays_clear_of_the_room_the_kernel_unpacks_into() -> None:
    image = bzimage(init_size=8 * MIB)
    load_linux(request(image, initrd=bytes(6 * MIB)), Ram())
    with pytest.raises(BootError, match="initrd .* --memory 17M"):
        load_linux(request(image, initrd=bytes(6 * MIB + 1)), Ram())


def test_too_little_ram_for_unpacking_says_how_much_it_takes() -> None:
    with pytest.raises(BootError, match="outside the 16 MiB of RAM: use --memory 22M"):
        load_linux(request(bzimage(init_size=20 * MIB)), Ram())


def test_a_text_screen_is_told_only_when_there_is_one() -> None:
    ram = Ram()
    assert params_of(ram, load_linux(request(bzimage()), ram).gpr["rsi"])[:0x40] == b"\0\0" + (15360).to_bytes(
        2, "little"
    ) + bytes(0x3C)
    params = params_of(ram, load_linux(request(bzimage(), vga_text=True), ram).gpr["rsi"])
    assert (params[6], params[7], params[0xE], params[0xF]) == (3, 80, 25, 1)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (bzimage(version=0x020B), r"2\.11 is too old"),
        (bzimage(xloadflags=0), "no 64-bit entry"),
        (bzimage()[:-17], "truncated"),
        (bzimage()[:0x210], "truncated"),
        (b"MZ" + bytes(4096), "no setup header"),
    ],
)
def test_what_cannot_be_booted_is_refused(image: bytes, message: str) -> None:
    with pytest.raises(BootError, match=message):
        load_linux(request(image), Ram())
