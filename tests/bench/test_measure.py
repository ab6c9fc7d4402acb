"""What the benchmarks time, and that a wrong run has no time. `measure` and `linux` are the files of bench/."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from dbgvmm import Machine, MachineConfig

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch) -> Any:
    return bench_module("measure", monkeypatch)


def bench_module(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module(name)


def python(code: str) -> list[str]:
    return [sys.executable, "-u", "-c", code]


def test_a_mark_is_timed_before_the_end(measure: Any) -> None:
    code = "import time; print('ready'); time.sleep(0.3); print('done')"
    times = measure.run_once(measure.Contestant("it", python(code), "done", ("ready",)))
    assert times[measure.EXIT] - times["ready"] > 0.25


def test_a_mark_in_two_pieces_is_found(measure: Any) -> None:
    code = "import sys, time; sys.stdout.write('rea'); sys.stdout.flush(); time.sleep(0.1); print('dy')"
    assert "ready" in measure.run_once(measure.Contestant("it", python(code), "ready", ("ready",)))


@pytest.mark.parametrize("code", ["print('FAIL 1 of 8 checks')", "print('PASS 8 checks')"])
def test_a_run_without_what_it_was_to_print_is_an_error(measure: Any, code: str) -> None:
    with pytest.raises(measure.BenchError, match="its output"):
        measure.run_once(measure.Contestant("it", python(code), "PASS 8 checks", ("ready",)))


def test_a_run_that_does_not_end_is_an_error(measure: Any) -> None:
    stuck = measure.Contestant("it", python("import time; time.sleep(60)"), "done", timeout=0.5)
    with pytest.raises(measure.BenchError):
        measure.run_once(stuck)


def test_contestants_take_turns(measure: Any, tmp_path: Path) -> None:
    log = tmp_path / "log"
    both = [
        measure.Contestant(name, python(f"print(end={name!r}, file=open({str(log)!r}, 'a')); print('done')"), "done")
        for name in "AB"
    ]
    measure.interleave(both, 3)
    assert log.read_text() == "ABABAB"


def test_the_medians_are_those_of_the_runs(measure: Any) -> None:
    times = measure.Times()
    for seconds in (3.0, 1.0, 10.0):
        times.add({measure.EXIT: seconds})
    assert times.show() == "3.00 s (1.00..10.00)"


def test_the_counters_that_the_linux_benchmark_reads_exist(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    linux: Any = bench_module("linux", monkeypatch)
    counters = set(Machine(MachineConfig(memory=16 << 20)).stats())
    assert {*linux.COUNTS, *linux.PARTS.values(), "seconds_total"} <= counters


def test_the_breakdown_adds_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    linux: Any = bench_module("linux", monkeypatch)
    stats = linux.StatsFile(tmp_path / "stats.json")
    parts = dict.fromkeys(linux.PARTS.values(), 1.0)
    stats.path.write_text(json.dumps({**parts, "seconds_total": 10.0, "seconds_wall": 11.0}))
    stats.collect()
    rest = 10.0 - len(parts) + 1.0  # the devices' second is one of the callouts'
    assert f"| {rest:.2f} s | {rest / 10:.0%} |" in linux.breakdown(stats)
