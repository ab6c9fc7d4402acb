"""The scripts in examples/ that work on the machine itself say what is true of the guests."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
LINUX = Path(os.environ.get("DBGVMM_LINUX", REPOSITORY / "build" / "linux"))
Guest = Callable[[str], Path]
LINUX_OPTIONS = (
    "--initrd", LINUX / "initramfs.cpio", "--append",
    "cryptomgr.notests=1 console=ttyS0 nokaslr pci=off acpi=off noapic nolapic nopti mitigations=off reboot=k "
    "dbgvmm.script=boot",
)  # fmt: skip


def example(kernel: Path, name: str, *arguments: object, options: tuple[object, ...] = ()) -> subprocess.CompletedProcess[str]:
    words = ["run", kernel, *options, "--script", REPOSITORY / "examples" / name, "--", *arguments]
    line = [sys.executable, "-m", "dbgvmm", *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, timeout=280, check=False)


def test_find_writers_knows_each_place(guest: Guest) -> None:
    done = example(guest("selftest"), "find_writers.py", "tick_page")
    lines = re.findall(r"^ +(\d+) \S+ <(\w+)\+", done.stdout, re.MULTILINE)
    total = re.search(r"^ +(\d+) writes of tick_page until the guest left with code 1$", done.stdout, re.MULTILINE)
    assert {name for _, name in lines} == {"tick", "tick_without_eoi", "test_interrupts"}
    assert total is not None and int(total[1]) == sum(int(times) for times, _ in lines)
    done = example(guest("selftest"), "find_writers.py", "nothing")
    assert (done.returncode, done.stderr.splitlines()[0]) == (1, "dbgvmm: there is no symbol 'nothing'")


def test_count_page_faults_counts_what_is_delivered(guest: Guest, tmp_path: Path) -> None:
    done = example(guest("exceptions"), "count_page_faults.py")
    faults = re.search(r"^(\d+) page faults in \d+ address spaces or tasks$", done.stdout, re.MULTILINE)
    kinds = re.findall(r"^ {4} +(\d+) (?:user|kernel) (?:read|write|fetch), ", done.stdout, re.MULTILINE)
    listed = subprocess.run(
        [sys.executable, "-m", "dbgvmm", "run", str(guest("exceptions")), "--repl"], input="continue\ninfo exceptions\n",
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    known = re.search(r"([\d,]+) +#PF", listed.stdout)
    assert faults is not None and known is not None
    assert int(faults[1]) == sum(map(int, kinds)) == int(known[1]) > 20


def test_assert_interrupts_off_passes_a_handler_and_fails_what_runs_with_if(guest: Guest) -> None:
    assert example(guest("selftest"), "assert_interrupts_off.py", "tick").returncode == 1  # the guest's own verdict
    done = example(guest("selftest"), "assert_interrupts_off.py", "check_eq")
    assert done.returncode == 65
    assert re.search(
        r"assert_interrupts_off.py:\d+: AssertionError: check_eq entered with interrupts on, after [\d,]+ instructions, "
        r"called from test_\w+\+", done.stderr,
    )  # fmt: skip


def test_plot_events_draws_a_line_for_each_kind(guest: Guest, tmp_path: Path) -> None:
    path = tmp_path / "events.svg"
    done = example(guest("pagetables"), "plot_events.py", path)
    assert re.search(r"events.svg: 9\d page faults, 0 interrupts, 0 system calls, [\d,]+ port accesses", done.stdout)
    root = ElementTree.parse(path).getroot()
    names = {element.tag.rpartition("}")[2] for element in root}
    assert len(root) == 9 and names == {"polyline", "text"}
    faults = root[0].attrib["points"].split()
    heights = [float(point.partition(",")[2]) for point in faults]
    assert len(faults) > 10 and heights == sorted(heights, reverse=True)


def test_compare_machines_finds_both_the_same(guest: Guest) -> None:
    guest("pagetables")
    line = [sys.executable, str(REPOSITORY / "examples" / "compare_machines.py")]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0 and "the same, " in done.stdout and "lazy" in done.stdout


@pytest.mark.slow
@pytest.mark.skipif(not (LINUX / "vmlinuz").exists(), reason="no Linux guest: `make linux`")
def test_trace_syscalls_shows_a_booting_linux() -> None:
    done = example(LINUX / "vmlinuz", "trace_syscalls.py", "execve", "60", "exit_group", "wait4", options=LINUX_OPTIONS)
    lines = re.findall(r"^[\d,]+: (\S+) (\w+)\((.*)\)(?: = (-?\d+))?$", done.stdout, re.MULTILINE)
    calls = [line for line in lines if not line[3]]
    assert len(calls) > 3 and 0 < len(lines) - len(calls) < len(calls)  # neither exit nor a good execve returns
    assert {name for _, name, *_ in calls} <= {"execve", "exit", "exit_group", "wait4"}
    assert any("/init" in text or "busybox" in text or "/bin/" in text for _, _, text, _ in calls), calls
    assert any(who.startswith("init[1]") for who, *_ in calls), calls
    assert not any(who.startswith("0x") for who, *_ in calls), calls
    wrong = example(LINUX / "vmlinuz", "trace_syscalls.py", "frobnicate", options=LINUX_OPTIONS)
    assert "no such system call: frobnicate" in wrong.stderr


@pytest.mark.slow
@pytest.mark.skipif(not (LINUX / "vmlinuz").exists(), reason="no Linux guest: `make linux`")
def test_count_page_faults_names_the_tasks_of_a_linux() -> None:
    done = example(LINUX / "vmlinuz", "count_page_faults.py", options=LINUX_OPTIONS)
    total = re.search(r"^([\d,]+) page faults in ", done.stdout, re.MULTILINE)
    parts = re.findall(r"^(.*): ([\d,]+) page faults$", done.stdout, re.MULTILINE)
    assert total is not None
    assert sum(int(times.replace(",", "")) for _, times in parts) == int(total[1].replace(",", "")) > 100
    assert any(name == "init, process 1" for name, _ in parts), parts
