"""gdb follows a guest from 32 to 16 to 64 bits, without a command of its user's."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from gdb_process import Gdb

pytestmark = pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb is not installed")

FILES = pytest.mark.parametrize("file", [False, ".elf", ".elf64"], ids=["no file", "elf32", "elf64"])
FAR_JUMP = "0x1000b5"
"""In hello: the instruction that goes to 64-bit code."""


@pytest.fixture
def gdb(guest: Callable[[str], Path], tmp_path: Path) -> Gdb:
    return Gdb(guest, tmp_path)


@pytest.fixture(autouse=True)
def no_complaint(gdb: Gdb, monkeypatch: pytest.MonkeyPatch) -> None:
    """gdb must never find registers, architecture or file at odds with each other."""
    call = Gdb.__call__

    def checked(self: Gdb, *arguments: object, **options: object) -> str:
        text = call(self, *arguments, **options)  # type: ignore[arg-type]  # just passed on
        for complaint in ("is too long", "not compatible", "truncated", "Error", "OS ABI", "internal-error", "unexpected"):
            assert complaint not in text, text
        return text

    monkeypatch.setattr(Gdb, "__call__", checked)


@FILES
def test_each_mode_has_its_registers_and_its_instructions(gdb: Gdb, file: bool | str) -> None:
    text = gdb(
        "modes", "print/x $eip", "print sizeof($esp)", "print/x $eax", "x/i $pc", "break *&real", "break back_in_32",
        "break kmain", "continue", "print/x $eip", "x/2i $pc", "print/x $cr0", "continue", "print/x $eip", "x/i $pc",
        "continue", "print/x $rip", "print sizeof($rsp)", "x/i kernel_entry", "print/x $efer", "print $xmm15.uint128",
        "kill", file=file,
    )  # fmt: skip
    assert "$1 = 0x10000c\n$2 = 4\n$3 = 0x2badb002\n" in text
    assert "$4 = 0x8018\n" in text
    assert "xor    %ax,%ax\n" in text and "mov    %ax,%ds\n" in text
    assert "$5 = 0x10\n" in text, "real mode"
    assert "$6 = 0x100038\n" in text and "mov    $0x10,%eax\n" in text
    assert "$7 = 0x106000\n$8 = 8\n" in text
    assert re.search(r"<kernel_entry>:\tmov +\$0x[0-9a-f]+,%rsp\n", text)
    assert "$9 = 0x500\n$10 = 0\n" in text
    assert text.count("is executing new program") == 3


def test_a_script_may_say_rip_in_every_mode(gdb: Gdb) -> None:
    text = gdb("modes", "break *&real", "info registers rip", "continue", "info registers rip", "kill")
    assert re.search(r"rip +0x10000c ", text)
    assert re.search(r"rip +0x8018 ", text)


@FILES
def test_breakpoints_by_symbol_and_by_address_hold_across_the_switch(gdb: Gdb, file: bool | str) -> None:
    text = gdb(
        "hello", f"break *{FAR_JUMP}", "break boot_entry64", "break kmain", "hbreak *0x106001", "continue", "continue",
        "continue", "continue", "kill", file=file,
    )  # fmt: skip
    assert "Breakpoint 1, boot_entry32 ()" in text
    assert "Breakpoint 2, boot_entry64 ()" in text, "the first instruction of the new mode"
    assert "Breakpoint 3, kmain (magic=732803074" in text
    assert "Breakpoint 4, 0x" in text


def test_a_breakpoint_of_the_upper_half_is_not_cut_to_32_bits(gdb: Gdb) -> None:
    text = gdb("selftest", "break kmain", "continue", "print/x $rip", "kill", file=False)
    assert "Breakpoint 1, kmain (magic=732803074" in text
    assert "$1 = 0xffffffff80" in text


def test_a_watchpoint_is_kept_from_32_to_16_bits(gdb: Gdb) -> None:
    text = gdb("modes", "watch *(int *)0x8049", "continue", "continue", "x/i $pc", "continue", "kill", file=False)
    # The first write is that of the copy, of what is there already.
    assert "Old value = 0\nNew value = 5" in text
    assert "Old value = 5\nNew value = 9" in text
    assert "loop" in text


def test_a_watchpoint_set_in_32_bits_hits_in_64(gdb: Gdb) -> None:
    # kernel_entry's call pushes its return address there.
    text = gdb("hello", "watch *(long long *)0x10bff8", "continue", "print/x $rip", "info breakpoints", "kill", file=False)
    assert "Old value = 0\nNew value = 10" in text
    assert "$1 = 0x106000" in text


def test_a_condition_is_set_anew_with_the_numbers_of_the_new_registers(gdb: Gdb) -> None:
    """Register 9 is eflags in one layout and r9 in the other."""
    text = gdb(
        "hello", "set breakpoint condition-evaluation target", "break boot_entry64 if ($eflags & 2) == 0",
        "break kmain if ($eflags & 2) == 2", "continue", "kill", file=False,
    )  # fmt: skip
    assert "Breakpoint 2, kmain" in text
    assert "Breakpoint 1, boot" not in text


@pytest.mark.parametrize("command", ["stepi", "next"])
def test_a_step_across_the_switch_ends_behind_it(gdb: Gdb, command: str) -> None:
    text = gdb(
        "hello", f"tbreak *{FAR_JUMP}", "continue", command, "print/x $rip", "x/i $pc", "stepi", "print/x $rip", "kill",
        file=False,
    )  # fmt: skip
    assert "Program stopped." in text and "SIGTRAP" not in text
    assert "$1 = 0x1000e3\n" in text
    assert "xor    %eax,%eax\n" in text
    assert "$2 = 0x1000e5\n" in text


def test_the_machine_begins_again_in_32_bits(gdb: Gdb) -> None:
    text = gdb(
        "hello", "break kmain", "continue", "kill", "tbreak boot_entry32", "run", "print/x $eip", "continue", "print/x $rip",
        "kill", connect="target extended-remote", file=False,
    )  # fmt: skip
    assert text.count("Breakpoint 1, kmain") == 2


def test_a_change_of_mode_can_be_caught_too(gdb: Gdb) -> None:
    text = gdb("hello", "monitor catch mode", "continue", "print/x $rip", "kill", file=False)
    assert "caught the change of mode from protected32 to compat32" in text
