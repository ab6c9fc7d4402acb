"""gdb's `monitor` with the names and the output of QEMU's monitor, compared with the real one on the same guest."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from gdb_runs import END, GDB, QEMU, under_dbgvmm, under_qemu

pytestmark = pytest.mark.skipif(GDB is None, reason="gdb is not installed")
compared = pytest.mark.skipif(QEMU is None, reason="QEMU is not installed")

# What QEMU's firmware leaves behind where there is none here, and the accessed bit of a code segment, which TCG forgets.
NOT_THE_GUEST = re.compile(r"^(?:IDT=.*|CS .*)$|\bRSI=\w+", re.MULTILINE)


def monitor_lines(text: str) -> list[str]:
    """What follows the breakpoint's line of source, up to gdb's end."""
    return text.partition("Breakpoint 1, ")[2].split("\n", 2)[2].partition(END)[0].splitlines()


# QEMU itself hangs when the 3,072 pages of `hello` go to gdb.
@compared
@pytest.mark.parametrize(
    ("name", "place", "command"),
    [("hello", "kmain", "info mem"), ("pagetables", "verdict", "info mem"), ("pagetables", "verdict", "info tlb"),
     ("selftest", "verdict", "info tlb")],
)  # fmt: skip
def test_the_page_tables_are_those_that_qemu_shows(
    guest: Callable[[str], Path], tmp_path: Path, name: str, place: str, command: str
) -> None:
    commands = (f"hbreak {place}", "continue", f"monitor {command}")
    ours = under_dbgvmm(guest(name), tmp_path / "dbgvmm", *commands)
    theirs = under_qemu(guest(name), tmp_path / "qemu", *commands)
    assert "-" in ours
    assert monitor_lines(ours) == monitor_lines(theirs)


@compared
def test_the_registers_are_in_the_form_that_scripts_take_apart(guest: Callable[[str], Path], tmp_path: Path) -> None:
    commands = ("hbreak kmain", "continue", "monitor info registers")
    ours, theirs = (
        [NOT_THE_GUEST.sub("", line) for line in monitor_lines(run(guest("hello"), tmp_path / name, *commands))]
        for name, run in (("dbgvmm", under_dbgvmm), ("qemu", under_qemu))
    )
    assert any("CR3=0000000000102000" in line for line in ours)
    assert ours == theirs


@compared
@pytest.mark.parametrize(
    "command",
    ["xp/4xw 0x100000", "x /3xg 0x100000", "xp/9xb 0x100000", "x/3xh 0x100001", "gva2gpa 0x106000", "gva2gpa 0x700000000000",
     "print/x 0x1000+5", "print/c 65"],
)  # fmt: skip
def test_a_look_at_memory_has_qemus_form(guest: Callable[[str], Path], tmp_path: Path, command: str) -> None:
    commands = ("hbreak kmain", "continue", f"monitor {command}")
    ours = under_dbgvmm(guest("hello"), tmp_path / "dbgvmm", *commands)
    theirs = under_qemu(guest("hello"), tmp_path / "qemu", *commands)
    assert monitor_lines(ours) == monitor_lines(theirs) != []


def test_before_paging_is_on_there_is_a_sentence(guest: Callable[[str], Path], tmp_path: Path) -> None:
    text = under_dbgvmm(guest("hello"), tmp_path / "gdb", "monitor info mem", "monitor info tlb", "monitor info registers")
    assert text.count("PG disabled") == 2
    assert "EIP=0010000c" in text and "CS32 [-RA]" in text


def test_what_is_not_there_is_said(guest: Callable[[str], Path], tmp_path: Path) -> None:
    text = under_dbgvmm(
        guest("hello"), tmp_path / "gdb", "monitor info lapic", "monitor system_powerdown", "monitor info version",
        "monitor info status", "monitor info cpus", "monitor info mtree -f", "monitor info registers -a", "monitor stop",
    )  # fmt: skip
    assert "no local APIC" in text
    assert "no power button" in text
    assert "VM status: paused" in text
    assert "* CPU #0: pc=0x000000000010000c" in text
    assert "Root memory region: system\n  0000000000000000-0000000001ffffff (prio 0, ram)" in text
    assert "CR3=00000000" in text


def test_a_reset_begins_again(guest: Callable[[str], Path], tmp_path: Path) -> None:
    text = under_dbgvmm(
        guest("hello"), tmp_path / "gdb", "hbreak kmain", "continue", "monitor system_reset",
        "maintenance flush register-cache", "print $rip", "continue",
    )  # fmt: skip
    assert "boot_entry32" in text.partition("restarted")[2]
    assert text.count("Breakpoint 1, kmain") == 2


def test_what_the_guest_prints_is_seen_while_a_monitor_command_runs_it(guest: Callable[[str], Path], tmp_path: Path) -> None:
    text = under_dbgvmm(
        guest("selftest"), tmp_path / "gdb", "tbreak kernel_entry", "continue", "monitor break kmain", "monitor continue",
        "maintenance flush register-cache", "print $rip", "monitor delete", "monitor until +20_000_000", "monitor info status",
    )  # fmt: skip
    assert "breakpoint 1, after" in text
    assert "<kmain>" in text.partition("$1 = ")[2].split("\n")[0]
    assert text.index("ok   ") < text.index("the guest left with code")
    assert "VM status: shutdown" in text
