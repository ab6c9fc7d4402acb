"""Lists of symbols in all the formats that nm prints, by the real nm."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from dbgvmm.debug.symbols import SymbolError, load_symbols

FORMATS = ((), ("-n",), ("-S",), ("-n", "-S"), ("-f", "posix"), ("-f", "sysv"), ("-C",), ("-l",), ("-g",))


def nm(path: Path, *options: str) -> str:
    return subprocess.run(["nm", *options, path], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("options", FORMATS, ids=" ".join)
def test_every_format_of_nm_gives_the_same_addresses(
    guest: Callable[[str], Path], tmp_path: Path, options: tuple[str, ...]
) -> None:
    kernel = guest("hello").with_suffix(".elf64")
    path = tmp_path / "list"
    path.write_text(nm(kernel, *options))
    own, listed = load_symbols(kernel), load_symbols(path)
    for name in ("kmain", "print", "console_init", "console_putc"):
        expected, found = own.find(name), listed.find(name)
        assert expected is not None
        assert found is not None, name
        assert (found.address, found.kind) == (expected.address, "code"), name
    assert listed.describe(listed.find("kmain").address + 2) == "kmain+0x2"  # type: ignore[union-attr]  # it was found


def test_sizes_end_a_symbol_where_there_are_some(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_text("0000000000001000 0000000000000010 T first\n0000000000002000 0000000000000010 T second\n")
    symbols = load_symbols(path)
    assert symbols.describe(0x100F) == "first+0xf"
    assert symbols.describe(0x1010) == ""


def test_undefined_symbols_have_no_address(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_text("                 U printf\n                 w __gmon_start__\n0000000000001000 T main\n")
    symbols = load_symbols(path)
    assert symbols.find("printf") is None
    assert symbols.find("__gmon_start__") is None
    assert symbols.describe(0x1000) == "main"


def test_a_list_with_undefined_symbols_only_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_text("                 U printf\n")
    with pytest.raises(SymbolError, match="no symbol in it has an address"):
        load_symbols(path)


def test_names_of_cpp_keep_their_blanks(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_text("0000000000001000 T operator new(unsigned long)\n0000000000001010 W std::vector<int, a<b> >::~vector()\n")
    symbols = load_symbols(path)
    assert symbols.describe(0x1004) == "operator new(unsigned long)+0x4"
    assert symbols.find("std::vector<int, a<b> >::~vector()") is not None


def test_the_module_behind_a_name_of_kallsyms_is_no_part_of_it(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_text("ffffffffc0000000 t init_module\t[ext4]\nffffffff81000000 T _text\n")
    assert load_symbols(path).describe(0xFFFF_FFFF_C000_0000) == "init_module"


def test_an_offset_moves_all_but_absolute_symbols(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_text("0000000000000028 A stack_canary\nffffffff81000000 T startup_64\nffffffff81000040 T next\n")
    symbols = load_symbols(path, 0x1C00_0000)
    assert symbols.describe(0xFFFF_FFFF_9D00_0004) == "startup_64+0x4"
    assert symbols.at(0xFFFF_FFFF_8100_0000) is None
    canary = symbols.find("stack_canary")
    assert canary is not None
    assert canary.address == 0x28
