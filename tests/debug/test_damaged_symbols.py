"""Files whose debug information is damaged: what is not damaged is used, what is damaged is said, nothing trips or hangs."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dbgvmm.debug.symbols import SymbolError, SymbolFile, compare_with_guest, load_symbols
from dbgvmm.debug.symbols.call_frames import CallFrames
from dbgvmm.debug.symbols.line_header import check_line_header

SLOW_TO_MAKE = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
DEBUG = (".debug_line", ".debug_info", ".debug_abbrev", ".debug_aranges", ".debug_frame", ".debug_line_str", ".debug_str")
Edit = tuple[int, bytes]


@pytest.fixture(scope="session")
def whole(guest: Callable[[str], Path]) -> bytes:
    return guest("hello").with_suffix(".elf64").read_bytes()


@pytest.fixture(scope="session")
def sections(guest: Callable[[str], Path]) -> dict[str, tuple[int, int]]:
    """(offset, size) of the debug sections in the file."""
    with ELFFile.load_from_path(str(guest("hello").with_suffix(".elf64"))) as elf:
        found = ((name, elf.get_section_by_name(name)) for name in DEBUG)
        return {name: (section["sh_offset"], section["sh_size"]) for name, section in found}


def use_all(symbols: SymbolFile) -> None:
    """Ask for everything that a file may know."""
    lines = symbols.lines
    if lines is not None:
        for symbol in symbols:
            lines.at(symbol.address)
            lines.at(symbol.end - 1)
        lines.places("console.c", 20)
        lines.files()
    frames = symbols.call_frames
    if frames is not None:
        for symbol in symbols:
            ask(frames, symbol.address)
            ask(frames, symbol.end - 1)
    assert all("\n" not in problem and "damaged" in problem for problem in symbols.problems)


def ask(frames: CallFrames, address: int) -> None:
    try:
        frames.row(address)
    except SymbolError as error:
        assert "damaged" in str(error)


@settings(max_examples=120, suppress_health_check=SLOW_TO_MAKE)
@given(
    name=st.sampled_from(DEBUG),
    edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=8)), min_size=1, max_size=4),
)
def test_damaged_debug_information_leaves_the_symbols_usable(
    whole: bytes, sections: dict[str, tuple[int, int]], tmp_path: Path, name: str, edits: list[tuple[float, bytes]]
) -> None:
    start, size = sections[name]
    data = bytearray(whole)
    for where, content in edits:
        at = start + int(where * size)
        part = content[: start + size - at]
        data[at : at + len(part)] = part
    path = tmp_path / "damaged"
    path.write_bytes(data)
    symbols = load_symbols(path)
    assert symbols.find("kmain") is not None
    use_all(symbols)


@settings(max_examples=80, suppress_health_check=SLOW_TO_MAKE)
@given(edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=8)), min_size=1, max_size=6))
def test_a_file_that_is_damaged_anywhere_is_used_or_refused_in_one_line(
    whole: bytes, tmp_path: Path, edits: list[tuple[float, bytes]]
) -> None:
    data = bytearray(whole)
    for index, (where, content) in enumerate(edits):
        # Every other one in the headers, of the file or of its sections.
        span = (0, 64 + 56 * 5) if index % 3 == 0 else (len(data) - 64 * 20, len(data)) if index % 3 == 1 else (0, len(data))
        at = span[0] + int(where * (span[1] - span[0]))
        part = content[: len(data) - at]
        data[at : at + len(part)] = part
    path = tmp_path / "damaged"
    path.write_bytes(data)
    try:
        symbols = load_symbols(path)
    except SymbolError as error:
        assert "\n" not in str(error)
        return
    use_all(symbols)


@settings(max_examples=40, suppress_health_check=SLOW_TO_MAKE)
@given(where=st.floats(0, 1, exclude_max=True))
def test_a_file_that_is_cut_off_is_used_or_refused_in_one_line(whole: bytes, tmp_path: Path, where: float) -> None:
    path = tmp_path / "cut"
    path.write_bytes(whole[: int(where * len(whole))])
    try:
        symbols = load_symbols(path)
    except SymbolError as error:
        assert "\n" not in str(error)
        return
    use_all(symbols)


def test_a_table_of_2_to_the_60_empty_names_is_not_read() -> None:
    header = bytes((5, 0, 8, 0)) + (40).to_bytes(4, "little") + bytes((1, 1, 1, 0xFB, 14, 1))
    endless = bytes((0,)) + b"\x80\x80\x80\x80\x80\x80\x80\x80\x10"
    table = header + endless + bytes(30)
    with pytest.raises(ValueError, match="cannot have 1152921504606846976 names"):
        check_line_header(len(table).to_bytes(4, "little") + table, 0)


def test_a_damaged_unit_is_said_once_and_the_others_have_lines(
    whole: bytes, sections: dict[str, tuple[int, int]], tmp_path: Path
) -> None:
    start, _ = sections[".debug_line"]
    data = bytearray(whole)
    data[start + 4 : start + 6] = (99).to_bytes(2, "little")
    path = tmp_path / "damaged"
    path.write_bytes(data)
    symbols = load_symbols(path)
    use_all(symbols)
    use_all(symbols)
    (problem,) = symbols.problems
    assert "version 99" in problem
    assert "no lines are known there" in problem
    assert symbols.lines is not None
    known = [symbol for symbol in symbols if symbol.kind == "code" and symbols.lines.at(symbol.address) is not None]
    assert len(known) > 3


def test_a_stripped_program_has_its_dynamic_symbols(tmp_path: Path) -> None:
    (tmp_path / "library.c").write_text("int exported(int x) { return x + 1; }\nint variable = 3;\n")
    library = tmp_path / "library.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-s", "-o", library, tmp_path / "library.c"], check=True)
    symbols = load_symbols(library)
    exported, variable = symbols.find("exported"), symbols.find("variable")
    assert exported is not None
    assert variable is not None
    assert (exported.kind, variable.kind) == ("code", "data")


def test_a_file_that_goes_away_later_is_a_problem_and_no_traceback(whole: bytes, tmp_path: Path, booted: Callable) -> None:  # type: ignore[type-arg]  # the fixture's options vary
    path = tmp_path / "kernel"
    path.write_bytes(whole)
    symbols = load_symbols(path)
    path.unlink()
    assert symbols.lines is None
    assert symbols.call_frames is None
    assert all("No such file" in problem for problem in symbols.problems)
    assert "not compared" in str(compare_with_guest(symbols, booted("hello")))
