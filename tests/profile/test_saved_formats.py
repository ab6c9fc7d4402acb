"""What is saved for other tools is what was counted, and they can read it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from readers import read_callgrind, read_drcov, read_lcov

from dbgvmm import Machine
from dbgvmm.profile.callgrind import USER
from dbgvmm.profile.counts import ExecutionCounts
from dbgvmm.profile.drcov import Block, Module, executed_blocks, modules_of
from dbgvmm.profile.functions import function_profile
from dbgvmm.profile.lines import DwarfLines, LineError
from dbgvmm.profile.saving import known_lines, save_by_suffix, save_callgrind, save_drcov, save_lcov


def counts_of(machine: Machine) -> ExecutionCounts:
    return machine.counters.counts()


# -- Callgrind


def test_a_callgrind_file_has_every_instruction_once_and_the_right_total(counted: Machine, tmp_path: Path) -> None:
    path = tmp_path / "callgrind.out"
    save_callgrind(counted, path)
    found = read_callgrind(path.read_text())
    counts = counts_of(counted)
    assert found.totals == int(found.header["summary"]) == sum(found.cost.values()) == counts.total
    assert found.header["events"] == "Ir" and found.header["positions"] == "instr line"
    kernel = str(counted.kernel)
    expected = {(USER if user else kernel, address): times for (user, address), times in counts.by_address.items()}
    assert found.by_address == expected


def test_a_callgrind_file_has_the_functions_and_calls_of_the_profile(counted: Machine, tmp_path: Path) -> None:
    path = tmp_path / "callgrind.out"
    save_callgrind(counted, path)
    found = read_callgrind(path.read_text())
    profile = function_profile(counts_of(counted), counted.symbols)
    by_name: dict[tuple[str, str], int] = {}
    for arc in profile.arcs:
        pair = profile.functions[arc.caller].name, profile.functions[arc.callee].name
        by_name[pair] = by_name.get(pair, 0) + arc.times
    assert {pair: times for pair, (times, _) in found.calls.items()} == by_name
    files = {name: file for _, file, name in found.cost}
    assert files["print"].endswith("guests/lib/console.c") and files["spin_in_ring_3"].endswith("interrupts.S")


def test_inclusive_costs_in_a_callgrind_file_stay_below_the_total(counted: Machine, tmp_path: Path) -> None:
    path = tmp_path / "callgrind.out"
    save_callgrind(counted, path)
    found = read_callgrind(path.read_text())
    for _, cost in found.calls.values():
        assert 0 <= cost <= found.totals


@pytest.mark.skipif(shutil.which("callgrind_annotate") is None, reason="Debian package valgrind")
def test_callgrind_annotate_reads_it(counted: Machine, tmp_path: Path) -> None:
    path = tmp_path / "callgrind.out"
    save_callgrind(counted, path)
    done = subprocess.run(
        ["callgrind_annotate", "--auto=no", "--threshold=100", "--tree=both", str(path)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert f"{counts_of(counted).total:,} (100.0%)  PROGRAM TOTALS" in done.stdout
    assert "spin_in_ring_3 [user mode]" in done.stdout
    assert done.stderr == ""


# -- lcov


def test_a_tracefile_has_the_lines_that_ran_and_those_that_did_not(counted: Machine, tmp_path: Path) -> None:
    path = tmp_path / "guest.info"
    save_lcov(counted, path)
    found = read_lcov(path.read_text())
    boot = next(item for name, item in found.items() if name.endswith("lib/boot.S"))
    assert sorted(boot.lines.values()).count(512) == 6, "the loop that fills a page table"
    console = next(item for name, item in found.items() if name.endswith("lib/console.c"))
    counts, symbols = counts_of(counted), counted.symbols
    entry = symbols.find("print")
    assert entry is not None
    assert console.functions["print"] == counts.at(entry.address) > 0
    assert console.lines[console.starts["print"]] >= console.functions["print"]
    assert any(times == 0 for item in found.values() for times in item.lines.values())


@pytest.mark.skipif(shutil.which("lcov") is None, reason="Debian package lcov")
def test_lcov_reads_it_and_finds_the_same_sums(counted: Machine, tmp_path: Path) -> None:
    path = tmp_path / "guest.info"
    save_lcov(counted, path)
    found = read_lcov(path.read_text()).values()
    lines = sum(len(item.lines) for item in found)
    hit = sum(times > 0 for item in found for times in item.lines.values())
    done = subprocess.run(["lcov", "--summary", str(path)], capture_output=True, text=True, check=True)
    assert f"({hit} of {lines} lines)" in done.stdout + done.stderr


def test_lines_of_a_file_without_debug_information_are_refused_with_what_to_do(tmp_path: Path, counted: Machine) -> None:
    stripped = tmp_path / "stripped.elf"
    assert counted.kernel is not None
    subprocess.run(["strip", "-o", stripped, counted.kernel.with_suffix(".elf64")], check=True)
    with pytest.raises(LineError, match="build it with -g"):
        DwarfLines(stripped)
    with pytest.raises(LineError, match="No such file"):
        DwarfLines(tmp_path / "nothing")


def test_damaged_line_tables_are_refused_or_read_but_never_a_traceback(tmp_path: Path, guest: Callable[[str], Path]) -> None:
    path = guest("hello").with_suffix(".elf64")
    good = path.read_bytes()
    with path.open("rb") as file:
        elf = ELFFile(file)
        places = [
            (section["sh_offset"], section["sh_size"])
            for section in map(elf.get_section_by_name, (".debug_line", ".debug_info", ".debug_abbrev", ".debug_line_str"))
        ]  # fmt: skip
    refused = 0
    for number in range(48):
        start, size = places[number % len(places)]
        bad = bytearray(good)
        for step in range(3):
            bad[start + (number * 37 + step * 11) % size] ^= 0x81 + number
        (tmp_path / "bad.elf").write_bytes(bad)
        try:
            assert list(DwarfLines(tmp_path / "bad.elf").rows())
        except LineError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 3


# -- drcov


def test_a_drcov_log_covers_exactly_the_instructions_that_ran(counted: Machine, tmp_path: Path) -> None:
    path = tmp_path / "guest.drcov"
    save_drcov(counted, path)
    found = read_drcov(path.read_bytes())
    covered: set[int] = set()
    for address, size, _ in found.blocks:
        covered.update(range(address, address + size))
    expected: set[int] = set()
    for item in counts_of(counted).instructions:
        expected.update(range(item.address, item.address + len(item.data)))
    assert covered == expected
    assert any(name.endswith("selftest.elf64") for _, _, name in found.modules)


def test_blocks_of_a_drcov_log_end_at_branches(counted: Machine) -> None:
    counts = counts_of(counted)
    ends = {block.address + block.size for block in executed_blocks(counts)}
    for item in counts.instructions:
        if item.decode().is_jcc_short_or_near:
            assert item.address + len(item.data) in ends


def test_code_outside_of_known_files_gets_modules_of_less_than_four_gigabytes() -> None:
    blocks = [Block(0x1000, 16), Block(0x400000, 4), Block(0x7FFF_F000_0000, 4), Block(0x7FFF_F000_1000, 4)]
    found = modules_of(blocks, [Module(0x1000, 0x2000, "kernel")])
    assert [(item.base, item.end) for item in found] == [
        (0x1000, 0x2000), (0x400000, 0x400004), (0x7FFF_F000_0000, 0x7FFF_F000_1004)
    ]  # fmt: skip


# -- which


def test_a_file_is_saved_as_its_name_says(counted: Machine, tmp_path: Path) -> None:
    names = [save_by_suffix(counted, tmp_path / name) for name in ("a.info", "a.lcov", "a.drcov", "callgrind.out.a")]
    assert names == ["lcov", "lcov", "drcov", "callgrind"]
    assert read_lcov((tmp_path / "a.info").read_text()) == read_lcov((tmp_path / "a.lcov").read_text())


def test_lines_are_those_of_the_symbol_file(counted: Machine) -> None:
    symbol = counted.symbols.find("print")
    assert symbol is not None
    found = known_lines(counted).line(symbol.address)
    assert found is not None and found[0].endswith("guests/lib/console.c") and found[1] > 1
    assert known_lines(counted).line(0x10) is None
