"""`sample ...` and `info samples`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dbgvmm.commands import CommandError, CommandTable, Session
from dbgvmm.commands.sampling import SamplerReport, SamplesReport, SavedProfile


def test_samples_are_taken_between_start_and_stop(hello: Session, table: CommandTable) -> None:
    started = table.execute(hello, "sample start --every 500")
    assert isinstance(started, SamplerReport) and started.running and started.period == 500
    hello.run()
    report = table.execute(hello, "info samples")
    assert isinstance(report, SamplesReport)
    assert report.sampler.instructions == hello.machine.count == sum(report.instructions_by_kind.values())
    assert "kmain" in {cost.name for cost in report.functions}
    stopped = table.execute(hello, "sample stop")
    assert isinstance(stopped, SamplerReport) and not stopped.running
    assert stopped.instructions == hello.machine.count


def test_a_frequency_is_of_guest_time(hello: Session, table: CommandTable) -> None:
    started = table.execute(hello, "sample start --hz 1000")
    assert isinstance(started, SamplerReport)
    assert started.period == 100_000, "an instruction takes 10 ns"


@pytest.mark.parametrize("name", ["a.svg", "a.folded", "a.json", "a.pb.gz"])
def test_a_profile_is_saved_as_the_files_name_says(hello: Session, table: CommandTable, tmp_path: Path, name: str) -> None:
    table.execute(hello, "sample start --every 500")
    hello.run()
    saved = table.execute(hello, f"sample save {tmp_path / name}")
    assert isinstance(saved, SavedProfile)
    assert saved.size == (tmp_path / name).stat().st_size > 50


def test_json_has_all_functions(hello: Session, table: CommandTable) -> None:
    table.execute(hello, "sample start --every 500")
    hello.run()
    data = json.loads(str(table.execute(hello, "info samples 1 --json")))
    assert data["shown"] == 1 and len(data["functions"]) > 1


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("info samples", "nothing was sampled: `sample start`"),
        ("sample save a.svg", "nothing was sampled: `sample start`"),
        ("sample start --every 3", "at least 200"),
        ("sample start --hz 1_000_000", "at least 200"),
        ("sample start --hz 5 --every 1000", "give one of them"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(hello: Session, table: CommandTable, line: str, says: str) -> None:
    with pytest.raises(CommandError, match=says):
        table.execute(hello, line)


def test_a_file_that_cannot_be_written_is_told(hello: Session, table: CommandTable) -> None:
    table.execute(hello, "sample start --every 500")
    hello.run()
    with pytest.raises(CommandError, match="No such file or directory: give another"):
        table.execute(hello, "sample save /nonexistent/a.svg")
    with pytest.raises(CommandError, match="the format is not clear"):
        table.execute(hello, "sample save /tmp/a.xyz")
