"""`counters ...`, `hot ...`, `mix`, `coverage`, `info calls`: what people and scripts get."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dbgvmm.commands import CommandError, CommandTable, Session
from dbgvmm.commands.counting import counters_start, coverage, info_counters, mix
from dbgvmm.commands.hot import hot_functions, hot_instructions, hot_pages, hot_units, info_calls
from dbgvmm.commands.parameters import Address, Count

TOTAL = 3569
"""Instructions of the guest `hello`, of which 6 times 512 are a loop in its 32-bit boot code."""


@pytest.fixture
def counted(hello: Session) -> Session:
    counters_start(hello)
    hello.machine.run()
    return hello


def address(session: Session, name: str) -> Address:
    symbol = session.symbols.find(name)
    assert symbol is not None
    return Address(symbol.address)


def test_counters_tell_what_they_count_and_what_it_cost(counted: Session, table: CommandTable) -> None:
    report = info_counters(counted)
    assert (report.running, report.instructions, report.kernel, report.user) == (True, TOTAL, TOTAL, 0)
    assert 0 < sum(report.monitor_seconds.values()) < report.seconds
    assert "counters are running" in str(report) and "3,569 kernel, 0 user" in str(report)
    assert "counters are off" in str(table.execute(counted, "counters stop"))
    assert info_counters(counted).instructions == TOTAL
    assert str(table.execute(counted, "counters clear")).startswith("counters are off\ninstructions  0: ")


def test_functions_are_ranked_by_their_instructions(counted: Session) -> None:
    report = hot_functions(counted, Count(2))
    assert [(row.name, row.count) for row in report.rows] == [("boot_entry32", 1), ("print", 1)]
    assert report.rows[0].instructions == 3109 and report.known == 8 and report.total == TOTAL
    kmain = next(row for row in hot_functions(counted).rows if row.name == "kmain")
    print_, init, flush = (
        next(row for row in hot_functions(counted).rows if row.name == name)
        for name in ("print", "console_init", "console_flush")
    )
    assert kmain.inclusive == kmain.instructions + print_.instructions + init.instructions + flush.instructions
    assert "kernel  0x10000c <boot_entry32>" in str(report)


def test_units_instructions_and_pages_are_ranked_too(counted: Session, table: CommandTable) -> None:
    assert [row.count for row in hot_instructions(counted, Count(7)).rows][:6] == [512] * 6
    assert hot_units(counted).total == TOTAL
    assert sum(row.instructions for row in hot_pages(counted).rows) == TOTAL
    text = str(table.execute(counted, "hotblocks 1"))
    assert "entries" in text and f"1 of {hot_units(counted).known} units" in text
    assert "jne 0x100046" in str(hot_instructions(counted, Count(6)))


def test_calls_say_who_and_whom(counted: Session, table: CommandTable) -> None:
    report = info_calls(counted, address(counted, "kmain"))
    assert [(row.caller, row.times) for row in report.callers] == [("kernel_entry", 1)]
    assert {(row.callee, row.times, row.tail) for row in report.callees} == {
        ("console_init", 1, False), ("print", 1, False), ("console_flush", 1, True)
    }  # fmt: skip
    assert (report.arrivals, report.otherwise) == (1, 0)
    assert "1  call  kernel_entry" in str(report)
    with pytest.raises(CommandError, match="nothing at .* was executed at CPL 3"):
        table.execute(counted, "info calls kmain --user")


def test_the_mix_and_its_json_are_complete(counted: Session, table: CommandTable) -> None:
    report = mix(counted)
    assert report.mix.total == TOTAL == sum(row.times for row in report.mix.classes)
    data = json.loads(str(table.execute(counted, "mix 1 --json")))
    assert sum(row["times"] for row in data["mix"]["mnemonics"]) == TOTAL
    assert str(table.execute(counted, "howvec 1")).count("\n") == len(report.mix.classes) + 5


def test_coverage_says_which_lines_have_not_run(counted: Session) -> None:
    (hello,) = coverage(counted, "hello.c").files
    assert (hello.lines, hello.lines_hit, hello.functions_hit, hello.missed) == (5, 5, 1, ())
    (console,) = coverage(counted, "console.c").files
    assert 0 < console.lines_hit < console.lines and len(console.missed) == console.lines - console.lines_hit
    assert "lines that did not run: " in str(coverage(counted, "console.c"))
    assert len(coverage(counted).files) > 2


def test_saving_writes_the_files_that_were_asked_for(counted: Session, table: CommandTable, tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("callgrind", "lcov", "drcov")}
    line = " ".join(f"--{name} {path}" for name, path in files.items())
    report = table.execute(counted, f"counters save {line}")
    assert str(report).splitlines() == [f"{name}: {path}" for name, path in files.items()]
    assert all(path.stat().st_size > 300 for path in files.values())


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("hot functions", "nothing was counted: `counters start`"),
        ("mix", "nothing was counted"),
        ("counters save", "say what to save: --callgrind FILE"),
        ("counters save --lcov x", "nothing was counted"),
        ("hot units 0", "is no count"),
    ],
)
def test_what_cannot_be_done_is_one_line_that_says_what_to_do(
    hello: Session, table: CommandTable, line: str, words: str
) -> None:
    with pytest.raises(CommandError, match=words):
        table.execute(hello, line)


def test_a_file_that_cannot_be_written_and_one_that_is_not_known_are_named(counted: Session, table: CommandTable) -> None:
    with pytest.raises(CommandError, match="/nonexistent/x: No such file or directory: give another file"):
        table.execute(counted, "counters save --drcov /nonexistent/x")
    with pytest.raises(CommandError, match="no source file is called 'nobody.c'"):
        table.execute(counted, "coverage nobody.c")


def test_without_line_numbers_coverage_says_what_is_missing(counted: Session, table: CommandTable) -> None:
    for source in counted.symbols.sources:
        counted.symbols.remove(source)
    with pytest.raises(CommandError, match="no symbol file is known"):
        table.execute(counted, "coverage")
    assert "page" not in str(table.execute(counted, "hot functions 1"))
