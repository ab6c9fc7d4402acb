"""`dbgvmm run --sample` and `dbgvmm report`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dbgvmm.cli import main

GuestPath = Callable[[str], Path]


def test_a_run_is_sampled_into_a_file(guest: GuestPath, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a.folded"
    main(["run", str(guest("hello")), "--serial", "null", "--sample", str(file), "--sample-every", "500"])
    assert "kernel_entry_[k];kmain_[k]" in file.read_text()
    assert f"samples are in {file}" in capsys.readouterr().err


def test_a_report_is_written_at_the_end(guest: GuestPath, tmp_path: Path) -> None:
    file = tmp_path / "a.html"
    main(["report", str(guest("hello")), "--serial", "null", "-o", str(file)])
    assert b"Flame graph" in file.read_bytes()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["run", "--sample", "a.xyz"], "--sample a.xyz: the format is not clear"),
        (["run", "--sample", "/nonexistent/a.svg"], "--sample /nonexistent/a.svg: No such file"),
        (["run", "--sample", "{}/a.svg", "--sample-every", "5"], "--sample-every: 5 instructions"),
        (["report", "-o", "/nonexistent/a.html"], "--output /nonexistent/a.html: No such file"),
    ],
)
def test_what_cannot_be_is_told_before_the_run(
    guest: GuestPath, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], says: str
) -> None:
    words = [word.format(tmp_path) for word in options]
    assert main([words[0], str(guest("hello")), *words[1:], "--serial", "null"]) not in (0, 1)
    said = capsys.readouterr().err
    assert says in said and "instructions and" not in said
