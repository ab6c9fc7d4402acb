"""The real gdb on real guests, through the command line."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from gdb_process import Gdb

pytestmark = pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb is not installed")

INTERRUPT_SOON = (
    "python import os, signal, threading; threading.Timer(0.4, os.kill, (os.getpid(), signal.SIGINT)).start()"
)


@pytest.fixture
def gdb(guest: Callable[[str], Path], tmp_path: Path) -> Gdb:
    return Gdb(guest, tmp_path)


def test_gdb_debugs_a_kernel_from_its_first_instruction_to_its_exit(gdb: Gdb) -> None:
    text = gdb("selftest", "info threads", "break kmain", "continue", "backtrace", "delete", "continue")
    assert "protected32 CPL 0" in text
    assert "Breakpoint 1, kmain (magic=732803074" in text
    assert "in kernel_entry ()" in text
    assert "exited with code 01" in text
    assert gdb.status == 1
    assert "PASS" in gdb.stdout


def test_gdb_shows_system_registers_by_the_names_of_their_bits(gdb: Gdb) -> None:
    text = gdb("hello", "break kmain", "continue", "info registers cr0 efer eflags", "print $cr3", "kill")
    assert "[ PE MP ET NE WP PG ]" in text
    assert "[ LME LMA ]" in text
    assert "IOPL=0 PF ZF" in text or "PF ZF" in text
    assert "$1 = " in text


def test_gdb_sets_registers_and_memory(gdb: Gdb) -> None:
    text = gdb(
        "hello",
        "break print",
        "continue",
        "set var *(char *)format = 'J'",
        "set $xmm1.uint128 = 77",
        "print $xmm1.v2_int64[0]",
        "set $rax = 0x55",
        "print $rax",
        "delete",
        "continue",
        "kill",
    )
    assert "$1 = 77" in text
    assert "$2 = 85" in text
    assert "Jello from long mode." in gdb.stdout


def test_gdb_steps_by_instruction_by_line_and_out(gdb: Gdb) -> None:
    text = gdb("hello", "break kmain", "continue", "stepi", "info registers rip", "next", "step", "finish", "kill")
    assert "<kmain+1>" in text
    assert 'print("Hello from long mode.\\n");' in text
    assert "hello/hello.c:11" in text, "finish must end behind the call"


def test_gdb_interrupts_a_running_guest(gdb: Gdb) -> None:
    text = gdb("cpubound", INTERRUPT_SOON, "continue", "backtrace", "kill")
    assert "received signal SIGINT" in text
    assert "kmain" in text
    assert gdb.status == 130
    assert "killed by the debugger" in gdb.stderr


def test_gdb_sees_a_triple_fault_with_its_causes(gdb: Gdb) -> None:
    text = gdb("triplefault", "continue", "info registers rip", "kill")
    assert "triple fault: #UD, then #GP" in text
    assert "received signal SIGSEGV" in text
    assert "<kmain+" in text


def test_a_halt_with_interrupts_off_can_be_looked_at(gdb: Gdb) -> None:
    text = gdb("hello", "continue", "backtrace", "detach")
    assert "halted with interrupts off" in text
    assert "halt_forever" in text
    assert gdb.status == 0


def test_gdb_runs_monitor_commands(gdb: Gdb) -> None:
    text = gdb(
        "hello", "break kmain", "continue", "monitor translate kmain", "monitor info time", "monitor frob", "kill"
    )
    assert "a page of 2 MiB" in text
    assert "virtual time" in text
    assert "there is no command 'frob'" in text


def test_after_detach_the_guest_runs_on(gdb: Gdb) -> None:
    gdb("selftest", "break kmain", "continue", "detach")
    assert gdb.status == 1
    assert "PASS" in gdb.stdout


def test_gdb_restarts_the_machine_in_extended_mode(gdb: Gdb) -> None:
    text = gdb(
        "hello", "break kmain", "continue", "kill", "run", "print $rip", "kill", connect="target extended-remote"
    )
    assert text.count("Breakpoint 1, kmain") == 2


def test_the_limit_is_a_stop_and_then_the_end(gdb: Gdb) -> None:
    text = gdb("cpubound", "continue", "detach", options=("--max-insns", "5_000_000"))
    assert "the instruction limit was reached" in text
    assert gdb.status == 72


def test_gdb_watches_a_variable_of_the_guest(gdb: Gdb) -> None:
    text = gdb("cpubound-small", "hbreak kmain", "continue", "delete", "watch checks", "continue", "continue", "delete", "kill")
    assert "Old value = 0\nNew value = 1" in text
    assert "Old value = 1\nNew value = 2" in text
    assert "check_eq" in text


def test_gdb_watches_reads(gdb: Gdb) -> None:
    text = gdb(
        "cpubound-small", "hbreak kmain", "continue", "delete", "rwatch crc_table[200]", "continue", "backtrace 1", "kill"
    )
    assert "Hardware read watchpoint 2" in text
    assert "Value = " in text


def test_conditions_are_evaluated_here(gdb: Gdb) -> None:
    text = gdb(
        "cpubound-small", "set breakpoint condition-evaluation target", "break *check_eq",
        "condition 1 $rsi == 2207519642", "continue", "print $rsi", "condition 1 $rsi == 1", "continue",
    )  # fmt: skip
    assert text.count("$1 = 2207519642") == 1
    assert "exited with code 01" in text


def test_dprintf_prints_without_stopping(gdb: Gdb) -> None:
    text = gdb(
        "cpubound-small", "hbreak kmain", "continue", "delete", "set dprintf-style agent",
        'dprintf *check_eq,"check %s: %lx\\n",(char*)$rdi,$rsi', "continue",
    )  # fmt: skip
    assert "check crc32 by table: b5e724e0\n" in text
    assert "exited with code 01" in text


def test_a_condition_that_cannot_be_evaluated_stops_and_says_why(gdb: Gdb) -> None:
    text = gdb("cpubound-small", "break kmain if *(char*)0x7f0000000000 == 1", "continue", "kill")
    assert "condition or command failed" in text
    assert "kmain" in text


def test_gdb_gets_the_kernel_and_its_symbols_from_the_stub(gdb: Gdb) -> None:
    """A Multiboot kernel in a 32-bit container."""
    text = gdb("hello", "break kmain", "continue", "backtrace", "info line", "compare-sections .text", "kill", file=False)
    assert "Reading symbols from target:" in text
    assert "Breakpoint 1, kmain (magic=732803074" in text
    assert "in kernel_entry ()" in text
    assert "matched" in text and "MIS-MATCHED" not in text


def test_gdb_fetches_statistics_and_the_serial_log(gdb: Gdb, tmp_path: Path) -> None:
    statistics, log = tmp_path / "statistics", tmp_path / "log"
    gdb(
        "hello", "break halt_forever", "continue", f"remote get /dbgvmm/statistics.json {statistics}",
        f"remote get /dbgvmm/serial.log {log}", "kill",
    )  # fmt: skip
    assert json.loads(statistics.read_text())["instructions"] > 3000
    assert log.read_bytes() == b"Hello from long mode.\r\n"


def test_gdb_finds_bytes_in_memory(gdb: Gdb) -> None:
    text = gdb("hello", "break kmain", "continue", "find 0x106000, +0x2000, 'H', 'e', 'l', 'l', 'o'", "kill")
    assert "0x107000" in text
    assert "1 pattern found" in text


def test_physical_memory_is_read_by_qemus_packet(gdb: Gdb) -> None:
    text = gdb("hello", "break kmain", "continue", "maintenance packet Qqemu.PhyMemMode:1", "x/xw 0x100000", "kill")
    assert "0x1badb002" in text


def test_a_kernel_of_the_upper_half_has_its_symbols_there(gdb: Gdb) -> None:
    text = gdb("selftest", "hbreak kmain", "continue", "print &kmain", "kill", file=False)
    assert "0xffffffff80" in text
    assert "kmain (magic=732803074" in text


def test_gdb_shows_tables_and_msrs(gdb: Gdb) -> None:
    text = gdb("hello", "break kmain", "continue", "print $gdtr", "print $idtr", "print/x $lstar", "print $dr7", "kill")
    assert "limit" in text
    assert "Void" not in text and "void" not in text


def test_a_guest_that_has_ended_has_no_threads(gdb: Gdb) -> None:
    text = gdb(
        "selftest", "continue", "info threads", "hbreak kmain", "run", "info threads", "kill", connect="target extended-remote"
    )
    ended = text.index("exited with code 01")
    assert "No threads." in text[ended:]
    assert text.count('Thread 1.1 "CPU 0"') == 1, "of the second run"
    assert "New Thread 1.1" not in text[ended : text.index("No threads.")]
