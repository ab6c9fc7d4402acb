"""The 64-bit view of a 32-bit ELF file."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import given, settings
from hypothesis import strategies as st

from dbgvmm.debug.elf_view import as_elf64


@pytest.fixture
def kernel(guest: Callable[[str], Path]) -> Path:
    return guest("hello")


def extended(address: int) -> int:
    return address | 0xFFFF_FFFF_0000_0000 if address >= 1 << 31 else address


@pytest.mark.parametrize(("program", "name"), [("hello", "kmain"), ("selftest", "kmain")])
def test_it_has_the_same_sections_symbols_and_code(guest: Callable[[str], Path], program: str, name: str) -> None:
    kernel = guest(program)
    before, after = ELFFile(BytesIO(kernel.read_bytes())), ELFFile(BytesIO(as_elf64(kernel.read_bytes())))
    assert (before.elfclass, after.elfclass, after["e_machine"]) == (32, 64, "EM_X86_64")
    assert after["e_entry"] == before["e_entry"]
    for old, new in zip(before.iter_sections(), after.iter_sections(), strict=True):
        assert (old.name, extended(old["sh_addr"])) == (new.name, new["sh_addr"])
        if old["sh_type"] != "SHT_SYMTAB":
            assert old.data() == new.data()
    for old, new in zip(before.iter_segments(), after.iter_segments(), strict=True):
        assert (extended(old["p_vaddr"]), old["p_flags"], old.data()) == (new["p_vaddr"], new["p_flags"], new.data())
        assert new["p_offset"] % 4096 == old["p_offset"] % 4096

    def symbols(elf: ELFFile) -> list[tuple[str, int, int]]:
        table = elf.get_section_by_name(".symtab")
        return [(symbol.name, symbol["st_value"], symbol["st_size"]) for symbol in table.iter_symbols()]

    assert [(name, extended(value), size) for name, value, size in symbols(before)] == symbols(after)
    assert name in {found for found, _, _ in symbols(after)}


def test_a_64_bit_file_and_what_is_none_stay_as_they_are(kernel: Path) -> None:
    for data in (kernel.with_suffix(".elf64").read_bytes(), b"", b"\x7fELF\x01\x01", b"no ELF file"):
        assert as_elf64(data) is data


@settings(derandomize=True, database=None, deadline=None, max_examples=200)
@given(st.data())
def test_damage_is_survived(data: st.DataObject) -> None:
    kernel = bytearray((Path(__file__).parents[2] / "guests" / "build" / "hello.elf").read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        kernel[data.draw(st.integers(6, 200))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(kernel)))
    assert isinstance(as_elf64(bytes(kernel[:cut])), bytes)
