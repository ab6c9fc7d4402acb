from __future__ import annotations

import lzma
import struct

import pytest
from bzimage import PayloadError, payload_of, vmlinux_of
from cpio import CpioArchive
from prepare import DATA_BYTES, INIT, SCRIPTS, build_initramfs, build_modules, expected_test_line

ELF = b"\x7fELF" + bytes(100)


def bzimage(payload: bytes, magic: bytes = b"HdrS") -> bytes:
    image = bytearray(1024) + b"code" + payload
    image[0x1F1] = 1
    image[0x202:0x206] = magic
    struct.pack_into("<H", image, 0x206, 0x020F)
    struct.pack_into("<II", image, 0x248, 4, len(payload))
    return bytes(image)


def entries(archive: bytes) -> dict[str, tuple[int, bytes]]:
    """Name to mode and content, as a reader of the format sees them."""
    found: dict[str, tuple[int, bytes]] = {}
    at = 0
    while True:
        assert archive[at : at + 6] == b"070701"
        fields = [int(archive[at + 6 + 8 * index : at + 14 + 8 * index], 16) for index in range(13)]
        name = archive[at + 110 : at + 110 + fields[11] - 1].decode()
        start = at + (110 + fields[11] + 3) // 4 * 4
        if name == "TRAILER!!!":
            return found
        found[name] = (fields[1], archive[start : start + fields[6]])
        at = start + (fields[6] + 3) // 4 * 4


def test_vmlinux_comes_back_out_of_an_xz_payload_with_its_size_behind_it() -> None:
    packed = lzma.compress(ELF, lzma.FORMAT_XZ, lzma.CHECK_CRC32) + struct.pack("<I", len(ELF))
    assert vmlinux_of(bzimage(packed)) == ELF


def test_a_payload_that_is_not_packed_is_taken_as_it_is() -> None:
    assert vmlinux_of(bzimage(ELF)) == ELF


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (bzimage(ELF, b"Hdr?"), "not a bzImage"),
        (bzimage(ELF)[:-1], "truncated"),
        (bzimage(b"plain text"), "unknown payload format"),
    ],
)
def test_what_is_no_kernel_image_is_refused(image: bytes, message: str) -> None:
    with pytest.raises(PayloadError, match=message):
        vmlinux_of(image)


def test_the_payload_is_exactly_what_the_header_names() -> None:
    assert payload_of(bzimage(ELF) + b"signature") == ELF


def test_the_archive_holds_what_was_put_into_it() -> None:
    archive = CpioArchive()
    archive.directory("bin")
    archive.file("bin/tool", b"12345", 0o755)
    archive.symlink("bin/link", "tool")
    archive.character_device("console", 5, 1)
    assert entries(archive.finish()) == {
        "bin": (0o040755, b""),
        "bin/tool": (0o100755, b"12345"),
        "bin/link": (0o120777, b"tool"),
        "console": (0o020600, b""),
    }


def test_the_initramfs_is_the_same_every_time_and_has_init_and_the_scripts() -> None:
    built = build_initramfs(b"busybox", ["sh", "true"])
    assert built == build_initramfs(b"busybox", ["sh", "true"])
    found = entries(built)
    assert found["init"] == (0o100755, INIT.encode())
    assert {name for name in found if name.startswith("scripts/")} == {f"scripts/{name}" for name in SCRIPTS}


def test_modules_are_in_an_archive_of_their_own() -> None:
    assert entries(build_modules({"b": b"2", "a": b"1"})) == {
        "modules": (0o040755, b""),
        "modules/a.ko": (0o100644, b"1"),
        "modules/b.ko": (0o100644, b"2"),
    }


def test_the_expected_line_is_about_the_data_that_the_script_makes() -> None:
    assert f"head -c {DATA_BYTES}" in SCRIPTS["test"]
    assert expected_test_line().startswith("dbgvmm: forks=200 sum=")
