from __future__ import annotations

import pytest
from boot_images import MIB, Part, Ram, elf, xen_note

from dbgvmm.boot.elf_image import ElfImage
from dbgvmm.boot.layout import Placement
from dbgvmm.boot.state import BootError


@pytest.mark.parametrize("bits", [32, 64])
def test_segments_go_to_their_physical_address_and_the_rest_is_cleared(bits: int) -> None:
    ram = Ram()
    image = elf([Part(0x200000, b"text", virtual=0xC0200000, memory_size=0x3000)], 0xC0200000, bits)
    ElfImage(image).load(Placement(ram))
    assert ram.read(0x200000, 0x3000) == b"text" + bytes(0x2FFC)
    assert ram.read(0x203000, 1) != b"\0"


def test_an_empty_segment_takes_no_room() -> None:
    image = elf([Part(0x100000, b"text"), Part(0xA0000, b"")], 0x100000)
    ElfImage(image).load(Placement(Ram()))


def test_a_segment_outside_of_ram_says_how_much_memory_it_takes() -> None:
    with pytest.raises(BootError, match="--memory 33M"):
        ElfImage(elf([Part(32 * MIB, b"text")], 32 * MIB)).load(Placement(Ram()))


def test_a_file_that_ends_within_a_segment_is_truncated() -> None:
    with pytest.raises(BootError, match="truncated"):
        ElfImage(elf([Part(0x100000, b"text")], 0x100000)[:-1])


@pytest.mark.parametrize("length", [5, 20, 63, 70])
def test_a_file_that_ends_within_its_headers_is_truncated(length: int) -> None:
    with pytest.raises(BootError, match="truncated"):
        ElfImage(elf([Part(0x100000, b"text")], 0x100000)[:length])


def test_other_machines_are_refused_by_name() -> None:
    with pytest.raises(BootError, match="EM_AARCH64"):
        ElfImage(elf([Part(0x100000, b"text")], 0x100000, machine=183))


def test_an_object_file_is_refused() -> None:
    with pytest.raises(BootError, match="not linked"):
        ElfImage(elf([Part(0x100000, b"text")], 0x100000, kind=1))


def test_a_file_with_nothing_to_load_is_refused() -> None:
    with pytest.raises(BootError, match="PT_LOAD"):
        ElfImage(elf([], 0x100000))


def test_linear_addresses_become_physical_by_their_segment() -> None:
    image = ElfImage(elf([Part(0x100000, b"text", virtual=0xC0100000)], 0xC0100002))
    assert image.physical_of(image.entry) == 0x100002
    assert image.physical_of(0x1234) == 0x1234


def test_notes_are_read_from_segments() -> None:
    note = xen_note(6, b"linux\0") + xen_note(18, b"\x10\0\x10\0")
    image = ElfImage(elf([Part(0x100000, b"text"), Part(0, note, type=4)], 0x100000))
    assert [(found.owner, found.type, found.content) for found in image.notes()] == [
        ("Xen", 6, b"linux\0"),
        ("Xen", 18, b"\x10\0\x10\0"),
    ]
