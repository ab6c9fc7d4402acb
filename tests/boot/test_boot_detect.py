from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from boot_images import Part, Ram, bzimage, elf, multiboot_header, xen_note

from dbgvmm.boot import BootError, CpuMode, load_kernel

NOTE = Part(0, xen_note(18, (0x100000).to_bytes(4, "little")), type=4)
ELF64 = elf([Part(0x100000, b"text")], 0x100000)
PVH = elf([Part(0x100000, b"text"), NOTE], 0x100000)
MULTIBOOT = elf([Part(0x100000, multiboot_header()), NOTE], 0x100000)


def boot(tmp_path: Path, image: bytes) -> str:
    path = tmp_path / "kernel"
    path.write_bytes(image)
    return load_kernel(path, Ram()).protocol


@pytest.mark.parametrize(
    ("image", "protocol"), [(bzimage(), "linux"), (MULTIBOOT, "multiboot"), (PVH, "pvh"), (ELF64, "elf64")]
)
def test_the_content_decides_the_protocol(tmp_path: Path, image: bytes, protocol: str) -> None:
    assert boot(tmp_path, image) == protocol


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (b"", "empty"),
        (b"#!/bin/sh\n", "no Linux bzImage, no Multiboot header, no ELF file"),
        (b"\x1f\x8b\x08" + bytes(100), "packed with gzip"),
        (elf([Part(0x100000, b"text")], 0x100000, bits=32), "32-bit ELF file needs a Multiboot header"),
        (elf([Part(0x100000, b"\xd6\x50\x52\xe8")], 0x100000, bits=32), "Multiboot 2 header, which is not supported"),
    ],
)
def test_what_is_no_kernel_is_told_in_one_line_with_the_files_name(tmp_path: Path, image: bytes, message: str) -> None:
    with pytest.raises(BootError, match=message) as caught:
        boot(tmp_path, image)
    assert str(caught.value).startswith(str(tmp_path / "kernel"))
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_told_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(BootError, match=r"kernel .*/absent: No such file"):
        load_kernel(tmp_path / "absent", Ram())
    kernel = tmp_path / "kernel"
    kernel.write_bytes(ELF64)
    with pytest.raises(BootError, match=r"initrd .*/absent: No such file"):
        load_kernel(kernel, Ram(), initrd=tmp_path / "absent")


def test_a_zero_byte_in_the_command_line_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BootError, match="zero byte"):
        load_kernel(tmp_path / "kernel", Ram(), "a\0b")


def test_loading_twice_gives_the_same_memory(tmp_path: Path) -> None:
    kernel, disk, ram = tmp_path / "kernel", tmp_path / "disk", Ram()
    kernel.write_bytes(MULTIBOOT)
    disk.write_bytes(b"disk")
    first = load_kernel(kernel, ram, "args", disk)
    before = ram.read(0, ram.size)
    assert load_kernel(kernel, ram, "args", disk) == first
    assert ram.read(0, ram.size) == before


SOURCE = """
.text
.long 0x1BADB002, 3, -(0x1BADB002 + 3)
.globl begin
begin: cli
       hlt
.bss
.skip 4096
"""


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
@pytest.mark.parametrize("bits", [32, 64])
def test_a_kernel_from_the_real_toolchain_boots_with_its_symbols(tmp_path: Path, bits: int) -> None:
    source, kernel = tmp_path / "kernel.S", tmp_path / "kernel.elf"
    source.write_text(SOURCE)
    linking = ["-nostdlib", "-static", "-no-pie", "-Wl,-n,-Ttext=0x100000,-e,begin,--build-id=none"]
    subprocess.run(["gcc", f"-m{bits}", *linking, "-o", str(kernel), str(source)], check=True, capture_output=True)
    ram = Ram()
    state = load_kernel(kernel, ram)
    assert (state.protocol, state.mode) == ("multiboot", CpuMode.PROTECTED_FLAT32)
    assert (state.entry_name, state.symbols_file) == ("begin", kernel)
    assert ram.read(state.rip, 2) == b"\xfa\xf4"
