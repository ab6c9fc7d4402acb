from __future__ import annotations

import struct

import pytest
from boot_images import MIB, Part, Ram, elf, request, xen_note

from dbgvmm.boot.pvh import load_pvh
from dbgvmm.boot.state import BootError, CpuMode

ENTRY = 0x200010


def kernel(entry: bytes = ENTRY.to_bytes(4, "little"), bits: int = 64) -> bytes:
    note = xen_note(6, b"linux\0") + xen_note(18, entry)
    text = Part(0x200000, b"t" * 64, virtual=0xC0000000, memory_size=0x2345)
    return elf([text, Part(0, note, type=4)], 0xC0000000, bits)


def info_of(ram: Ram, address: int) -> dict[str, int]:
    names = ("magic", "version", "flags", "modules", "modlist", "cmdline", "rsdp", "memmap", "entries", "reserved")
    return dict(zip(names, struct.unpack("<IIIIQQQQII", ram.read(address, 56)), strict=True))


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("size", [4, 8])
def test_the_note_names_the_entry_in_32_bit_mode(bits: int, size: int) -> None:
    state = load_pvh(request(kernel(ENTRY.to_bytes(size, "little"), bits)), Ram())
    assert (state.mode, state.rip) == (CpuMode.PROTECTED_FLAT32, ENTRY)
    assert (state.cr0, state.cr3, state.cr4, state.efer) == (0x11, 0, 0, 0)


def test_tr_holds_a_busy_32_bit_tss_of_the_smallest_size() -> None:
    task = load_pvh(request(kernel()), Ram()).segments["tr"]
    assert (task.base, task.limit, task.attributes) == (0, 0x67, 0x8B)


def test_start_info_tells_the_memory_map_and_the_command_line() -> None:
    ram = Ram()
    info = info_of(ram, load_pvh(request(kernel(), "console=ttyS0"), ram).gpr["rbx"])
    assert (info["magic"], info["version"], info["rsdp"], info["reserved"]) == (0x336EC578, 1, 0, 0)
    assert ram.string(info["cmdline"]) == b"console=ttyS0"
    lines = list(struct.iter_unpack("<QQII", ram.read(info["memmap"], 24 * info["entries"])))
    assert lines == [(0, 0xA0000, 1, 0), (MIB, 15 * MIB, 1, 0)]
    assert info["modules"] == 0


def test_the_initrd_is_the_one_module() -> None:
    ram = Ram()
    info = info_of(ram, load_pvh(request(kernel(), initrd=b"disk"), ram).gpr["rbx"])
    assert info["modules"] == 1
    address, size, cmdline, reserved = struct.unpack("<4Q", ram.read(info["modlist"], 32))
    assert (address, size, cmdline, reserved) == (0x203000, 4, 0, 0)
    assert ram.read(address, size) == b"disk"


def test_a_file_without_the_note_is_refused() -> None:
    with pytest.raises(BootError, match="without a PVH note"):
        load_pvh(request(elf([Part(0x200000, b"text")], 0x200000)), Ram())


def test_a_note_of_another_owner_does_not_count() -> None:
    note = xen_note(18, bytes(4)).replace(b"Xen", b"GNU")
    with pytest.raises(BootError, match="without a PVH note"):
        load_pvh(request(elf([Part(0x200000, b"text"), Part(0, note, type=4)], 0x200000)), Ram())


def test_a_note_of_the_wrong_size_is_refused() -> None:
    with pytest.raises(BootError, match="3 bytes"):
        load_pvh(request(kernel(b"\0\0\0")), Ram())


def test_an_entry_that_is_not_physical_is_refused() -> None:
    with pytest.raises(BootError, match="physical address"):
        load_pvh(request(kernel((0xC0000010).to_bytes(4, "little"))), Ram())
