"""The command line's grammar."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbgvmm.options import parse_arguments


@pytest.mark.parametrize(
    ("words", "address", "kernel"),
    [
        (["--gdb", "k"], "1234", "k"),
        (["k", "--gdb"], "1234", "k"),
        (["--gdb", "5555", "k"], "5555", "k"),
        (["k", "--gdb", ":5555"], ":5555", "k"),
        (["--gdb", "localhost:1", "k"], "localhost:1", "k"),
        (["--gdb", "[::1]:1", "k"], "[::1]:1", "k"),
        (["--gdb", "unix:/tmp/s", "k"], "unix:/tmp/s", "k"),
        (["--gdb=7", "k"], "7", "k"),
        (["--gdb", "--wait", "k"], "1234", "k"),
        (["--gdb", "dir/k:1"], "1234", "dir/k:1"),
        (["k"], None, "k"),
    ],
)
def test_gdb_takes_the_next_word_only_if_it_is_an_address(words: list[str], address: str | None, kernel: str) -> None:
    options = parse_arguments(["run", *words])
    assert (options.gdb, options.kernel) == (address, Path(kernel))


@pytest.mark.parametrize(("text", "size"), [("64M", 64 << 20), ("1G", 1 << 30), ("8192k", 8 << 20), ("1GiB", 1 << 30)])
def test_memory_has_a_unit(text: str, size: int) -> None:
    assert parse_arguments(["run", "k", "--memory", text]).memory == size


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "{run,report,demo}"),
        (["fly"], "fly"),
        (["run"], "KERNEL"),
        (["run", "k", "--memory", "256"], "K, M or G"),
        (["run", "k", "--memory", "lots"], "K, M or G"),
        (["run", "k", "--memory", "1M"], "out of range"),
        (["run", "k", "--memory", "1000G"], "out of range"),
        (["run", "k", "--memory", "8193K"], "page size"),
        (["run", "k", "--max-insns", "0"], "above 0"),
        (["run", "k", "--max-insns", "many"], "above 0"),
        (["run", "k", "--wait"], "add --gdb"),
        (["run", "k", "--user", "fast"], "fast"),
        (["run", "k", "--frob"], "--frob"),
    ],
)
def test_bad_usage_is_one_line_and_status_64(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        parse_arguments(words)
    said = capsys.readouterr().err
    assert left.value.code == 64
    assert message in said
    assert said.count("\n") == 1


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        parse_arguments(["--version"])
    assert left.value.code == 0
    assert capsys.readouterr().out.startswith("dbgvmm ")
