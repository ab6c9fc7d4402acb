"""`symbols`, `backtrace`, `list`, `info line|symbol|address|functions|variables`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dbgvmm import Machine, MachineConfig
from dbgvmm.commands import CommandError, CommandTable, Session
from dbgvmm.commands.backtrace import backtrace, info_line, list_source
from dbgvmm.commands.parameters import Count
from dbgvmm.commands.symbols import SourceList, info_address, info_functions, info_symbol, info_variables, symbols_command
from dbgvmm.debug.symbols import load_symbols

Guest = Callable[[str], Path]


def test_backtrace_names_functions_files_and_lines(deepest: Session) -> None:
    report = backtrace(deepest)
    names = [row.symbol.partition("+")[0] for row in report.frames]
    assert names == [
        "deepest", "omitted", "omitted_with_locals", "omitted_of_varying_size", "omitted_and_aligned", "kmain",
        "kernel_entry",
    ]  # fmt: skip
    assert report.complete
    assert [row.file for row in report.frames[:2]] == ["frames/main.c", "frames/omitted.c"]
    source = Path("guests/frames/main.c").read_text().splitlines()
    assert "omitted_and_aligned(4)" in source[report.frames[5].line - 1], "the call, not the line behind it"


def test_backtrace_is_short_when_a_count_is_given_and_says_so(deepest: Session, table: CommandTable) -> None:
    text = str(table.execute(deepest, "bt 2 --how"))
    assert len(text.splitlines()) == 3
    assert "by cfi" in text
    assert "there may be more" in text
    assert len(backtrace(deepest, Count(2)).frames) == 2


def test_info_line_goes_both_ways(deepest: Session, table: CommandTable) -> None:
    inner = deepest.symbols.find("deepest")
    assert inner is not None
    (line,) = info_line(deepest).lines
    assert (line.file, line.start) == ("frames/main.c", inner.address)
    assert inner.address in [place.start for place in info_line(deepest, f"main.c:{line.line}").lines]
    assert f"line {line.line} of frames/main.c is at {inner.address:#x} <deepest>" in str(
        table.execute(deepest, "info line deepest")
    )
    for bad, words in (("0x10", "no line is known of 0x10"), ("main.c:9999", "no code is known"), ("nothing", "no number")):
        with pytest.raises(CommandError, match=words):
            table.execute(deepest, f"info line {bad}")


def test_list_shows_the_source_around(deepest: Session, table: CommandTable) -> None:
    shown = list_source(deepest, "deepest", lines=Count(5))
    text = Path("guests/frames/main.c").read_text().splitlines()
    assert shown.text == tuple(text[shown.first - 1 : shown.first + 4])
    assert "deepest(u64 n) {" in "".join(shown.text)
    assert text[shown.current - 1].strip() == "visits++;"
    assert f"=> {shown.current}" in str(table.execute(deepest, "list"))


def test_list_says_which_file_is_not_there(booted: Callable[..., Machine], table: CommandTable, tmp_path: Path) -> None:
    (tmp_path / "gone.c").write_text("int main(void) { return 0; }\n")
    subprocess.run(["gcc", "-g", "-no-pie", "-o", "program", "gone.c"], cwd=tmp_path, check=True)
    (tmp_path / "gone.c").unlink()
    session = Session(booted("hello"), load_symbols(tmp_path / "program"))
    with pytest.raises(CommandError, match=r"gone.c:1 is known, but there is no file .*gone\.c to show"):
        table.execute(session, "list main")


def test_info_symbol_and_address_say_which_file_knows(deepest: Session, table: CommandTable) -> None:
    inner = info_address(deepest, "deepest")
    place = info_symbol(deepest, inner.address + 1)  # type: ignore[arg-type]  # an address is an int
    assert (place.name, place.offset, place.kind) == ("deepest", 1, "code")
    assert place.source.endswith("frames.elf64")
    assert f"{inner.address + 1:#x} is deepest+0x1" in str(place)
    for line, words in (("info symbol 0x10", "no symbol covers 0x10"), ("info address nobody", "no symbol 'nobody'")):
        with pytest.raises(CommandError, match=words):
            table.execute(deepest, line)


def test_info_functions_and_variables_take_a_regular_expression(deepest: Session, table: CommandTable) -> None:
    assert [row.name for row in info_functions(deepest, "^omitted").symbols] == [
        "omitted", "omitted_with_locals", "omitted_of_varying_size", "omitted_and_aligned", "omitted_and_trapping",
    ]  # fmt: skip
    assert [row.name for row in info_variables(deepest, "^visits$").symbols] == ["visits"]
    some = info_functions(deepest, limit=Count(3))
    assert len(some.symbols) == 3
    assert some.left_out > 20
    assert "more: --limit N" in str(some)
    with pytest.raises(CommandError, match="no regular expression"):
        table.execute(deepest, "info functions (")


def test_symbols_come_and_go(deepest: Session, table: CommandTable, guest: Guest) -> None:
    hello = guest("hello").with_suffix(".elf64")
    table.execute(deepest, f"symbols add {hello} --offset 0x70000000")
    listed = symbols_command(deepest).sources
    assert [row.number for row in listed] == [1, 2]
    assert listed[0].state == "matches"
    assert listed[1].offset == 0x7000_0000
    kmain = load_symbols(hello).find("kmain")
    assert kmain is not None
    assert deepest.symbols.describe(kmain.address + 0x7000_0000) == "kmain"
    table.execute(deepest, "symbols remove 2")
    assert deepest.symbols.describe(kmain.address + 0x7000_0000) == ""
    for line, words in (
        ("symbols remove 2", "no source 2"), ("symbols add", "FILE is missing"), ("symbols add /dev/null", "neither"),
        ("symbols add x --directory y", "not both"), ("symbols add --directory /nowhere", "no directory"),
        ("symbols find", "no ELF image is mapped"),
    ):  # fmt: skip
        with pytest.raises(CommandError, match=words):
            table.execute(deepest, line)


def test_symbols_of_one_address_space_are_unknown_in_others(deepest: Session, table: CommandTable, guest: Guest) -> None:
    user = guest("hello").with_suffix(".elf64")
    table.execute(deepest, f"symbols add {user} --cr3 0x7000000")
    known = load_symbols(user).find("console_init")
    assert known is not None
    assert deepest.symbols.describe(known.address) == ""
    assert deepest.symbols.describe(known.address, 0x700_0018) == "console_init"
    assert deepest.symbols.describe(deepest.machine.cpu.rip, 0x700_0018) == "deepest", "the kernel's are everybody's"


def test_another_programs_file_is_said_to_be_one(deepest: Session, table: CommandTable, guest: Guest) -> None:
    other = guest("pagetables").with_suffix(".elf64")
    text = str(table.execute(deepest, f"symbols add {other}"))
    assert "does not match what is in memory" in text
    assert "sampled functions' bytes differ" in text


def test_a_kernel_is_compared_before_its_first_instruction(booted: Callable[..., Machine], guest: Guest) -> None:
    session = Session(booted("selftest"), load_symbols(guest("selftest").with_suffix(".elf64")))
    (row,) = symbols_command(session).sources
    assert (row.state, row.match.startswith("matches: 0 of ")) == ("matches", True)


def test_a_kernel_that_patches_itself_still_matches(deepest: Session) -> None:
    """As Linux does for ftrace: the first bytes of every function are something else."""
    functions = [symbol for symbol in deepest.symbols if symbol.kind == "code"]
    for symbol in functions:
        deepest.machine.memory.poke(symbol.address, b"\x0f\x1f\x44\x00\x00"[: symbol.end - symbol.address])
    (row,) = symbols_command(deepest).sources
    assert row.state == "matches"


@pytest.fixture
def with_build_id(tmp_path: Path, guest: Guest) -> Callable[[str], Path]:
    """`with_build_id("0x1234")` is the kernel `hello` with that build id in a note behind its data."""

    def make(build_id: str) -> Path:
        note = tmp_path / "note.s"
        note.write_text(
            ".section .note.gnu.build-id, \"a\", @note\n.long 4, 4, 3\n.asciz \"GNU\"\n.long " + build_id + "\n"
        )
        out = tmp_path / f"with-{build_id}"
        subprocess.run(["gcc", "-c", "-o", tmp_path / "note.o", note], check=True)
        only = ("-O", "binary", "-j", ".note.gnu.build-id")
        subprocess.run(["objcopy", *only, tmp_path / "note.o", tmp_path / "note"], check=True)
        subprocess.run(
            ["objcopy", "--add-section", f".note.gnu.build-id={tmp_path / 'note'}", "--set-section-flags",
             ".note.gnu.build-id=alloc,readonly", "--change-section-address", ".note.gnu.build-id=0x10a800",
             guest("hello").with_suffix(".elf64"), out],
            check=True, capture_output=True,
        )  # fmt: skip
        return out

    return make


def test_build_ids_decide_where_there_are_some(
    booted: Callable[..., Machine], with_build_id: Callable[[str], Path], tmp_path: Path
) -> None:
    file = load_symbols(with_build_id("0x12345678"))
    assert file.build_id is not None
    assert file.build_id.text == "78563412"
    machine = booted("hello")
    machine.run()
    session = Session(machine, file)
    machine.memory.poke(file.build_id.address, (tmp_path / "note").read_bytes())
    assert symbols_command(session).sources[0].match == "matches: build id 78563412"
    machine.memory.poke(file.build_id.address + 16, b"\xaa\xbb\xcc\xdd")
    row = symbols_command(session).sources[0]
    assert row.state == "differs"
    assert "build id 78563412, there aabbccdd" in row.match


def test_a_kernel_without_symbols_adds_no_source(guest: Guest, tmp_path: Path) -> None:
    stripped = tmp_path / "kernel.elf"
    subprocess.run(["objcopy", "--strip-all", guest("hello"), stripped], check=True)
    machine = Machine(MachineConfig(memory=32 << 20))
    machine.boot(stripped)
    machine.load_symbols()
    assert symbols_command(Session(machine)).sources == ()
    line = [sys.executable, "-m", "dbgvmm", "run", str(stripped), "--memory", "32M", "-e", "symbols", "--batch"]
    shown = subprocess.run(line, capture_output=True, text=True, check=True).stdout
    assert shown.strip() == str(SourceList(()))
