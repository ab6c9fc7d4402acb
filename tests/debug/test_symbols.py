"""Symbols from ELF files and from System.map."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from dbgvmm.debug.symbols import Symbol, SymbolError, SymbolTable, load_symbols

MAP = """\
0000000000000000 A fixed_percpu_data
ffffffff81000000 T startup_64
ffffffff81000000 T _text
ffffffff81000040 t early_setup_idt
ffffffff82000000 D init_task
"""


def test_an_elf_file_gives_names_and_addresses_both_ways(guest: Callable[[str], Path]) -> None:
    symbols = load_symbols(guest("hello").with_suffix(".elf64"))
    kmain = symbols.find("kmain")
    assert kmain is not None
    assert kmain.kind == "code"
    assert symbols.at(kmain.address + 3) == (kmain, 3)
    assert symbols.describe(kmain.address) == "kmain"
    assert symbols.describe(kmain.address + 16) == "kmain+0x10"


def test_a_function_ends_where_its_size_says(guest: Callable[[str], Path]) -> None:
    symbols = load_symbols(guest("hello").with_suffix(".elf64"))
    kmain = symbols.find("kmain")
    assert kmain is not None
    after = symbols.at(kmain.end)
    assert after is None or after[0].name != "kmain"


def test_a_linker_scripts_label_covers_nothing_outside_its_section(guest: Callable[[str], Path]) -> None:
    """`user_start` is at 4 MiB; without anything there, the linker counts it to a section in the upper half."""
    symbols = load_symbols(guest("hello").with_suffix(".elf64"))
    assert symbols.describe(0x40_0000) in ("user_start", "user_end")
    assert symbols.describe(0x50_0000) == ""


def test_a_system_map_gives_names_and_addresses(tmp_path: Path) -> None:
    path = tmp_path / "System.map"
    path.write_text(MAP)
    symbols = load_symbols(path)
    assert symbols.describe(0xFFFF_FFFF_8100_0044) == "early_setup_idt+0x4"
    assert symbols.describe(0xFFFF_FFFF_8100_0010) == "startup_64+0x10"
    init_task = symbols.find("init_task")
    assert init_task is not None
    assert init_task.kind == "data"


def test_an_absolute_symbol_has_a_value_but_no_place(tmp_path: Path) -> None:
    path = tmp_path / "System.map"
    path.write_text(MAP)
    symbols = load_symbols(path)
    assert symbols.find("fixed_percpu_data") is not None
    assert symbols.at(0) is None


def test_a_functions_name_is_preferred_to_a_labels() -> None:
    symbols = SymbolTable([Symbol("label", 16, 32, "label"), Symbol("function", 16, 32, "code")])
    assert symbols.describe(16) == "function"


def test_an_empty_table_knows_nothing() -> None:
    symbols = SymbolTable()
    assert symbols.describe(5) == ""
    assert symbols.find("x") is None
    assert len(symbols) == 0


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"hello, this is text\n", "neither an ELF file nor a System.map"),
        (b"", "neither an ELF file nor a System.map"),
        (b"\x7fELF" + bytes(60), "damaged"),
        (b"\x7fELF\x02\x01\x01", "damaged"),
    ],
)
def test_a_file_that_is_neither_is_refused_in_one_line(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(SymbolError) as caught:
        load_symbols(path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_stripped_elf_file_is_refused(guest: Callable[[str], Path], tmp_path: Path) -> None:
    stripped = tmp_path / "stripped"
    subprocess.run(["objcopy", "--strip-all", guest("hello"), stripped], check=True)
    with pytest.raises(SymbolError, match="no symbol table"):
        load_symbols(stripped)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SymbolError, match="No such file"):
        load_symbols(tmp_path / "nothing")
