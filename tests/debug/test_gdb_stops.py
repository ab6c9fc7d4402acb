"""Real gdb: stops that gdb has no word for say why, and stepping goes into interrupt handlers only if it is to."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from gdb_runs import GDB, under_dbgvmm

pytestmark = pytest.mark.skipif(GDB is None, reason="gdb is not installed")

Run = Callable[..., str]
FLUSH = "maintenance flush register-cache"


@pytest.fixture
def gdb(guest: Callable[[str], Path], tmp_path: Path) -> Run:
    def run(name: str, *commands: str) -> str:
        return under_dbgvmm(guest(name), tmp_path / "gdb", *commands)

    return run


# -- breakpoints of monitor commands


def test_a_monitor_commands_breakpoint_stops_gdb(gdb: Run) -> None:
    text = gdb("hello", "monitor break kmain", "continue", "print $rip")
    assert "dbgvmm: breakpoint at 0x106000" in text
    assert "<kmain>" in text.partition("$1 = ")[2]


def test_a_monitor_commands_watchpoint_stops_gdb(gdb: Run) -> None:
    text = gdb("hello", "hbreak kmain", "continue", "delete", "monitor watch rsp-8 8", "continue", "print $rip")
    assert "dbgvmm: 0x10bff0 was written" in text
    assert "<kmain+1>" in text.partition("$1 = ")[2]


def test_a_breakpoint_of_one_address_space_is_passed_in_others(gdb: Run) -> None:
    text = gdb("hello", "monitor break kmain --cr3 0x102000", "continue", "print $rip")
    assert "<kmain>" in text.partition("$1 = ")[2]
    text = gdb("hello", "monitor break kmain --cr3 0x103000", "continue", "print $rip")
    assert "dbgvmm: breakpoint" not in text and "<halt_forever+2>" in text.partition("$1 = ")[2]


def test_a_physical_breakpoint_stops_at_the_linear_address_that_is_executed(gdb: Run) -> None:
    text = gdb("selftest", "print (long) &kmain - 0xffffffff80000000")
    physical = re.search(r"\$1 = (\d+)", text)
    assert physical is not None
    text = gdb("selftest", f"monitor break --phys {physical[1]}", "continue", "print $rip")
    assert "<kmain>" in text.partition("$1 = ")[2]


def test_physical_watchpoints_see_every_linear_address(gdb: Run) -> None:
    text = gdb("hello", "hbreak kmain", "continue", "delete", "monitor watch --phys 0x10bff0 8", "continue", "print $rip")
    assert "<kmain+1>" in text.partition("$1 = ")[2]


def test_memory_is_physical_when_qemus_packet_says_so(gdb: Run) -> None:
    text = gdb(
        "selftest", "hbreak verdict", "continue", "maintenance packet Qqemu.PhyMemMode:1", "x/xw 0x100000",
        "maintenance packet qqemu.PhyMemMode", "maintenance packet Qqemu.PhyMemMode:0", "x/xw 0x100000",
    )  # fmt: skip
    assert "0x1badb002" in text
    assert 'received: "1"' in text
    assert "Cannot access memory at address 0x100000" in text


# -- catching


@pytest.mark.parametrize(
    ("name", "catch", "why"),
    [
        ("exceptions", "exception #DE", "dbgvmm: caught #DE at 0x"),
        ("selftest", "interrupt", "dbgvmm: caught interrupt 20h"),
        ("hello", "cr3", "dbgvmm: caught CR3 0x0 -> 0x102000"),
        ("hello", "port 0x3f8 write", "dbgvmm: caught port 0x3f8 written, 1 byte, value 0x"),
        ("hello", "msr 0xc0000080 write", "dbgvmm: caught MSR 0xc0000080 written, value 0x1"),
        ("hello", "mode", "dbgvmm: caught the change of mode from protected32 to compat32"),
        ("triplefault", "triple-fault", "dbgvmm: caught a triple fault: #UD, then #GP"),
    ],
)
def test_a_caught_event_says_why(gdb: Run, name: str, catch: str, why: str) -> None:
    text = gdb(name, f"monitor catch {catch}", "continue", "print $_siginfo", "print $rip")
    assert why in text
    assert "SIGTRAP" in text.partition(why)[2]


def test_after_a_caught_triple_fault_gdb_can_mend_and_go_on(gdb: Run) -> None:
    text = gdb("triplefault", "monitor catch triple-fault", "continue", "x/i $rip", "set $rip = $rip + 2", "continue")
    assert "ud2" in text.partition("caught a triple fault")[2]
    assert "halted with interrupts off" in text
    assert "SIGSEGV" not in text


# -- the map of memory


def test_the_memory_map_hides_nothing_and_leaves_breakpoints_as_they_are(gdb: Run) -> None:
    text = gdb(
        "selftest", "hbreak kmain", "continue", "info mem", "break *0xffffffff80107e90", "delete 2", "info mem", "break print",
        "continue", "info breakpoints", "x/xw 0x100000", "x/xb 0xffffffff80100000", "x/xg 0xfffffffffffffff8",
        "set var *(char *) 0xffffffff8011f000 = 7", "x/xb 0xffffffff8011f000", "x/xb 0x900000000000",
    )  # fmt: skip
    assert text.count("0x0000000000000000 0x8000000000000000 rw nocache") == 2, text
    assert "Breakpoint 3, print" in text
    assert "breakpoint     keep y   0xffffffff8010" in text.partition("Breakpoint 3, print")[2]
    assert "0x100000:\t0x1badb002" in text
    assert "0xffffffff8011f000:\t0x07" in text
    assert "Cannot access memory at address 0xfffffffffffffff8" in text
    assert "Cannot access memory at address 0x900000000000" in text


# -- stepping with the timer on


@pytest.fixture
def first_interrupt(gdb: Run) -> int:
    """After how many instructions the first interrupt comes."""
    text = gdb("selftest", "hbreak spin_in_ring_0", "continue", "monitor catch interrupt", "continue", "monitor info time")
    assert "dbgvmm: caught interrupt 20h" in text
    found = re.search(r"instructions +([\d,]+)", text.partition("caught interrupt")[2])
    assert found is not None, text
    return int(found[1].replace(",", ""))


def step_at(gdb: Run, moment: int, flags: str) -> str:
    return gdb(
        "selftest", "tbreak kmain", "continue", f"monitor until #{moment}", FLUSH,
        f"maintenance packet Qqemu.sstep={flags}", "stepi", "print $rip",
        "maintenance packet qqemu.sstep", "hbreak trap_dispatch", "continue", "print $rip",
    )  # fmt: skip


def test_a_step_goes_into_the_handler_of_a_due_interrupt(gdb: Run, first_interrupt: int) -> None:
    text = step_at(gdb, first_interrupt, "1")
    assert "<isr_stubs" in text.partition("$1 = ")[2].split("\n")[0]


@pytest.mark.parametrize("flags", ["3", "0x7"])
def test_or_stays_outside_and_the_interrupt_comes_later(gdb: Run, first_interrupt: int, flags: str) -> None:
    text = step_at(gdb, first_interrupt, flags)
    assert "<spin_in_ring_0" in text.partition("$1 = ")[2].split("\n")[0]
    assert f'received: "0x{int(flags, 16):x}"' in text
    assert "<trap_dispatch" in text.partition("$2 = ")[2]
