"""Lines of source: compared with addr2line and gdb, for DWARF 4 and 5, with and without an index of units."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from dbgvmm.commands import CommandError, CommandTable, Session
from dbgvmm.debug.symbols import SymbolFile, load_symbols

PROGRAM = """\
static inline int twice(int x) {
    return x +
           x;
}

int other(int x);

int first(int x) {
    int sum = 0;
    for (int i = 0; i < x; i++)
        sum += twice(i) * other(i);

    return sum;
}

int main(void) { return first(3); }
"""
OTHER = "int other(int x) {\n    return x * 5;\n}\n"


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`compiled("-gdwarf-4")` is a program of two files."""

    def compile_(*options: str) -> Path:
        directory = tmp_path_factory.mktemp("program")
        (directory / "one.c").write_text(PROGRAM)
        (directory / "two.c").write_text(OTHER)
        subprocess.run(["gcc", "-o", "program", *options, "one.c", "two.c"], cwd=directory, check=True)
        return directory / "program"

    return compile_


def addr2line(path: Path, addresses: list[int]) -> list[str]:
    text = subprocess.run(
        ["addr2line", "-e", path], input="\n".join(map(hex, addresses)), capture_output=True, text=True, check=True
    ).stdout
    return [line.split(" (")[0] for line in text.splitlines()]


def code_addresses(symbols: SymbolFile) -> list[int]:
    return [address for symbol in symbols if symbol.kind == "code" for address in range(symbol.address, symbol.end)]


def assert_as_addr2line(path: Path, symbols: SymbolFile, addresses: list[int]) -> int:
    assert symbols.lines is not None
    known = 0
    for address, expected in zip(addresses, addr2line(path, addresses), strict=True):
        line = symbols.lines.at(address)
        if line is None:
            assert expected.startswith("??") or expected.endswith(":?"), hex(address)
        else:
            assert f"{line.path}:{line.line}" == expected, hex(address)
            known += 1
    assert not symbols.problems
    return known


@pytest.mark.parametrize("options", [("-gdwarf-4",), ("-gdwarf-5",), ("-gdwarf-5", "-gz=zlib")], ids=" ".join)
@pytest.mark.parametrize("optimised", ["-O0", "-O2"])
def test_each_byte_of_code_has_the_line_that_addr2line_says(
    compiled: Callable[..., Path], options: tuple[str, ...], optimised: str
) -> None:
    path = compiled(*options, optimised, "-no-pie")
    symbols = load_symbols(path)
    assert assert_as_addr2line(path, symbols, code_addresses(symbols)) > 60


def test_a_guests_lines_are_those_of_addr2line(guest: Callable[[str], Path]) -> None:
    path = guest("selftest").with_suffix(".elf64")
    symbols = load_symbols(path)
    assert assert_as_addr2line(path, symbols, code_addresses(symbols)) > 20_000


def test_without_an_index_of_units_all_are_searched(compiled: Callable[..., Path], tmp_path: Path) -> None:
    path = compiled("-g", "-no-pie")
    bare = tmp_path / "bare"
    subprocess.run(["objcopy", "--remove-section", ".debug_aranges", path, bare], check=True)
    symbols, bare_symbols = load_symbols(path), load_symbols(bare)
    assert symbols.lines is not None
    assert bare_symbols.lines is not None
    for address in code_addresses(symbols):
        assert bare_symbols.lines.at(address) == symbols.lines.at(address)


def test_an_offset_moves_the_lines(compiled: Callable[..., Path]) -> None:
    path = compiled("-g", "-pie")
    plain, moved = load_symbols(path), load_symbols(path, 0x5555_0000_0000)
    main, moved_main = plain.find("main"), moved.find("main")
    assert main is not None
    assert moved_main is not None
    assert moved_main.address == main.address + 0x5555_0000_0000
    assert plain.lines is not None
    assert moved.lines is not None
    line, moved_line = plain.lines.at(main.address), moved.lines.at(moved_main.address)
    assert line is not None
    assert moved_line is not None
    assert (moved_line.line, moved_line.start) == (line.line, line.start + 0x5555_0000_0000)
    assert moved.lines.places("one.c", 9)[0].start == plain.lines.places("one.c", 9)[0].start + 0x5555_0000_0000


def test_lines_start_where_gdb_says(guest: Callable[[str], Path]) -> None:
    path = guest("selftest").with_suffix(".elf64")
    symbols = load_symbols(path)
    assert symbols.lines is not None
    wanted = [("traps.c", line) for line in range(55, 70)] + [("selftest/main.c", line) for line in range(8, 20)]
    commands = [part for file, line in wanted for part in ("-ex", f"info line {file}:{line}")]
    output = subprocess.run(
        ["gdb", "-nx", "-batch", "-q", "-ex", "set width 0", *commands, path], capture_output=True, text=True, check=True
    ).stdout
    compared = 0
    for file, line in wanted:
        said = [text for text in output.splitlines() if text.startswith(f"Line {line} of ") and Path(file).name in text]
        if said and "starts at address" in said[0]:
            address = int(said[0].partition("starts at address ")[2].split()[0], 16)
            places = symbols.lines.places(file, line)
            assert places[0].line == line
            assert address in [place.start for place in places], said[0]
            compared += 1
    assert compared > 12


def test_a_line_without_code_stands_for_the_next_one_that_has_some(guest: Callable[[str], Path]) -> None:
    symbols = load_symbols(guest("hello").with_suffix(".elf64"))
    kmain = symbols.find("kmain")
    assert kmain is not None
    assert symbols.lines is not None
    first = symbols.lines.at(kmain.address)
    assert first is not None
    places = symbols.lines.places("hello.c", first.line - 1)
    assert [(place.line, place.start) for place in places] == [(first.line, kmain.address)]
    assert symbols.lines.places("hello.c", 10_000) == ()
    assert symbols.lines.places("o.c", first.line) == (), "a name is not the end of another one"


def test_a_line_is_an_address_wherever_one_is_wanted(hello: Session, table: CommandTable) -> None:
    kmain = hello.symbols.find("kmain")
    line = hello.symbols.source_line(kmain.address) if kmain is not None else None
    assert kmain is not None
    assert line is not None
    table.execute(hello, f"break hello/hello.c:{line.line}")
    table.execute(hello, "continue")
    assert hello.machine.cpu.rip == kmain.address
    assert str(table.execute(hello, f"print hello.c:{line.line}+1")).endswith("<kmain+0x1>")
    with pytest.raises(CommandError, match="no code is known of nothing.c:1"):
        table.execute(hello, "break nothing.c:1")
