"""The real gdb in non-stop mode: the guest runs while gdb's prompt is there."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from gdb_console import GdbConsole

pytestmark = pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb is not installed")


@pytest.fixture
def console(guest: Callable[[str], Path], tmp_path: Path) -> Iterator[Callable[[str], GdbConsole]]:
    opened: list[GdbConsole] = []

    def connect(name: str) -> GdbConsole:
        opened.append(GdbConsole(guest(name), tmp_path / "gdb", "set non-stop on"))
        opened[-1].expect("boot_entry32")
        return opened[-1]

    yield connect
    for item in opened:
        item.__exit__(None, None, None)


def run_on_from_kmain(gdb: GdbConsole) -> None:
    """Have the guest run, past its boot code."""
    gdb.ask("tbreak kmain")
    gdb.tell("continue &")
    gdb.expect("breakpoint 1, kmain")
    gdb.ask("continue &")


def test_the_guest_runs_while_gdb_looks_at_its_memory(console: Callable[[str], GdbConsole]) -> None:
    gdb = console("cpubound")
    run_on_from_kmain(gdb)
    assert "(running)" in gdb.ask("info threads")
    assert "0x1badb002" in gdb.ask("x/xw 0x100000")
    assert "virtual time" in gdb.ask("monitor info time")
    assert "running" in gdb.ask("print $rip"), "it has no registers to show"


def test_a_breakpoint_set_at_the_prompt_stops_the_running_guest(console: Callable[[str], GdbConsole]) -> None:
    gdb = console("cpubound")
    run_on_from_kmain(gdb)
    assert "Breakpoint 2 at" in gdb.ask("break crc_by_table")
    gdb.expect("Breakpoint 2, crc_by_table")
    assert "in kmain" in gdb.ask("backtrace")
    gdb.ask("delete")
    gdb.ask("stepi")
    assert "<run_crc_table+" in gdb.ask("x/i $pc")


def test_interrupt_stops_it_and_it_goes_on(console: Callable[[str], GdbConsole]) -> None:
    gdb = console("cpubound")
    run_on_from_kmain(gdb)
    counts = []
    for _ in range(2):
        gdb.tell("interrupt")
        gdb.expect("stopped.")
        assert "in kmain" in gdb.ask("backtrace")
        found = re.search(r"instructions +([\d,]+)", gdb.ask("monitor info time"))
        assert found is not None
        counts.append(int(found[1].replace(",", "")))
        gdb.ask("continue &")
    assert counts[0] < counts[1]


def test_a_watchpoint_stops_it(console: Callable[[str], GdbConsole]) -> None:
    gdb = console("cpubound-small")
    assert "Hardware watchpoint 1" in gdb.ask("watch checks")
    gdb.tell("continue &")
    gdb.expect("New value = 1")
    assert "check_eq" in gdb.ask("backtrace")


def test_the_end_of_the_guest_is_seen(console: Callable[[str], GdbConsole]) -> None:
    gdb = console("cpubound-small")
    gdb.tell("continue &")
    gdb.expect("exited with code 01")
    assert gdb.leave() == 1


def test_a_guest_that_is_let_go_while_it_runs_goes_on_to_its_end(console: Callable[[str], GdbConsole]) -> None:
    gdb = console("selftest")
    run_on_from_kmain(gdb)
    gdb.ask("detach")
    assert gdb.leave() == 1
    assert gdb.dbgvmm.stdout is not None
    assert "PASS" in gdb.dbgvmm.stdout.read()


def test_a_running_guest_is_killed(console: Callable[[str], GdbConsole]) -> None:
    gdb = console("cpubound")
    run_on_from_kmain(gdb)
    gdb.ask("kill")
    assert gdb.leave() == 130
