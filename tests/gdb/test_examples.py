"""The scripts in examples/ say what is true of the guests."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb is not installed")

REPOSITORY = Path(__file__).parents[2]
Guest = Callable[[str], Path]


def example(name: str, *arguments: object, cwd: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, str(REPOSITORY / "examples" / name), *map(str, arguments)]
    return subprocess.run(line, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


def test_who_writes_finds_the_interrupt_handlers_and_the_test(guest: Guest, tmp_path: Path) -> None:
    guest("selftest")
    done = example("who_writes.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    *writers, total = done.stdout.splitlines()
    by = {line.split()[1]: int(line.split()[0]) for line in writers}
    assert by.keys() == {"tick", "tick_without_eoi", "counting"}
    # Each tick that the guest counts: 10 and 3 at least, 5 each in ring 0 and ring 3, and the single ones.
    assert by["tick"] >= 23 and by["tick_without_eoi"] == 1
    assert "counting < test_interrupts < kmain" in done.stdout
    assert total.split() == [str(sum(by.values())), "writes", "of", "tick_page.count"]


def test_trace_calls_has_every_call_with_its_arguments(guest: Guest) -> None:
    guest("cpubound-small")
    done = example("trace_calls.py")
    calls = re.findall(r"check_eq: 0x\w+, (0x\w+), (0x\w+) from 0x\w+", done.stdout)
    assert len(calls) == 8 and all(got == want for got, want in calls)
    assert calls[1][0] == "0x8394139a"
    by_caller, total = done.stdout.splitlines()[-2:]
    assert by_caller.startswith("8 calls from 0x106") and total == "8 calls of check_eq"


def test_trace_calls_with_a_condition_has_those_that_meet_it(guest: Guest) -> None:
    done = example("trace_calls.py", guest("cpubound-small"), "check_eq", "(unsigned long) $rsi < 0x10000")
    assert re.findall(r"check_eq: 0x\w+, (0x\w+)", done.stdout) == ["0xa4cb", "0x1b71"]
    assert done.stdout.splitlines()[-1] == "2 calls of check_eq with (unsigned long) $rsi < 0x10000"


def test_check_kernel_passes_a_kernel_that_is_in_order(guest: Guest) -> None:
    guest("pagetables")
    done = example("check_kernel.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("ok  ") == 6 and "FAIL" not in done.stdout
    assert re.search(r"^PASS \d+ checks$", done.stdout, re.MULTILINE)


def test_check_kernel_fails_one_that_is_not(guest: Guest) -> None:
    """hello runs on the boot page tables, where everything is writable and executable."""
    done = example("check_kernel.py", guest("hello"), "kmain")
    assert done.returncode == 1
    assert "FAIL code cannot be written" in done.stdout
    assert "ok   the guest gets that far" in done.stdout
    done = example("check_kernel.py", guest("triplefault"))
    assert done.returncode == 1
    assert done.stderr.startswith('FAIL Function "test_mapping" not defined.')


@pytest.mark.parametrize("name", ["who_writes.py", "trace_calls.py", "check_kernel.py"])
def test_an_example_without_its_kernel_says_so_in_one_line(name: str, tmp_path: Path) -> None:
    done = example(name, tmp_path / "nothing")
    assert done.returncode != 0
    assert "No such file or directory" in done.stderr and len(done.stderr.splitlines()) == 1


def test_every_example_is_in_the_readme_and_short() -> None:
    scripts = sorted((REPOSITORY / "examples").glob("*.py"))
    readme = (REPOSITORY / "examples" / "README.md").read_text()
    assert len(scripts) == 9
    assert [path.name for path in scripts if f"`{path.name}`" not in readme] == []
    assert [path.name for path in scripts if len(path.read_text().splitlines()) > 64] == []
