"""gdb and the prompt on one machine at once: each sees what the other does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from terminal_process import Terminal

Guest = Callable[[str], Path]
Start = Callable[..., Terminal]
READY = r"\(gdb\) $"


@pytest.fixture
def both(start: Start, gdb: Start, guest: Guest, tmp_path: Path) -> tuple[Terminal, Terminal]:
    """(the prompt, gdb): connected while a line was half typed at the prompt."""
    socket = tmp_path / "gdb"
    prompt = start("run", guest("hello"), "--repl", f"--gdb=unix:{socket}")
    prompt.see(r"\(dbgvmm\)")
    prompt.type("print 0x1234")
    prompt.see("1234")
    debugger = gdb("-ex", f"target remote {socket}", str(guest("hello")))
    prompt.see("gdb has connected")
    debugger.see("boot_entry32")
    debugger.see(READY)
    prompt.type(" + 1\r")
    prompt.see(r"\$1 = \S*0x1235")  # what was typed is still there
    prompt.see(r"\(dbgvmm\)")
    return prompt, debugger


def command(debugger: Terminal, line: str) -> str:
    """What gdb answers."""
    debugger.type(line + "\n")
    return debugger.plain(READY)


def test_the_prompt_answers_while_gdb_is_connected(both: tuple[Terminal, Terminal]) -> None:
    prompt, debugger = both
    assert "boot_entry32" in prompt.ask("info registers")
    assert "0x10000c" in command(debugger, "print $pc")
    assert "= 0x7" in prompt.ask("print 7")
    command(debugger, "set var $ebx = 0x4321")
    assert "0x4321" in prompt.ask("print $rbx"), "what gdb sets is seen at once"


def test_only_gdb_lets_the_guest_run(both: tuple[Terminal, Terminal]) -> None:
    prompt, _ = both
    assert "gdb is connected, and would not know" in prompt.ask("continue")
    assert "gdb is connected, and would not know" in prompt.ask("stepi")


def test_a_stop_at_the_prompts_breakpoint_is_told_to_gdb_and_to_the_prompt(both: tuple[Terminal, Terminal]) -> None:
    prompt, debugger = both
    prompt.ask("break kmain")
    shown = command(debugger, "continue")
    assert "breakpoint at 0x106000" in shown and "SIGTRAP" in shown
    prompt.see(r"breakpoint 1, after 3,123 instructions")
    prompt.see(r"\(dbgvmm\)")
    assert "0x106000" in prompt.ask("print $rip")


def test_a_stop_at_gdbs_breakpoint_is_told_to_the_prompt(both: tuple[Terminal, Terminal]) -> None:
    prompt, debugger = both
    command(debugger, "break kmain")
    assert "Breakpoint 1, kmain" in command(debugger, "continue")
    prompt.see(r"breakpoint at 0x106000, after 3,123 instructions")
    prompt.see(r"\(dbgvmm\)")
    command(debugger, "stepi")
    prompt.see("stepped, after 3,124 instructions")


def test_breakpoints_are_listed_as_whose_they_are(both: tuple[Terminal, Terminal]) -> None:
    prompt, debugger = both
    prompt.ask("set pagination off")
    prompt.ask("break console_flush")
    command(debugger, "set breakpoint always-inserted on")
    command(debugger, "break kmain")
    command(debugger, "watch *(long *)0x5000")
    assert "console_flush" in command(debugger, "monitor info breakpoints"), "with the number that it has there"
    shown = prompt.ask("info breakpoints --json").replace("\r", "").replace("\n", "")
    listed = json.loads(shown[shown.index("{") : shown.rindex("}") + 1])
    assert [(line["number"], line["owner"], line["address"]) for line in listed["lines"]] == [
        (1, "", 0x1061C0), (None, "gdb", 0x106000),
    ]  # fmt: skip
    assert [watch["owner"] for watch in listed["watchpoints"]] == ["gdb"]
    command(debugger, "monitor delete 1")
    assert "console_flush" not in prompt.ask("info breakpoints")


def test_a_monitor_command_of_gdbs_runs_the_guest_and_the_prompt_comes_back(both: tuple[Terminal, Terminal]) -> None:
    prompt, debugger = both
    prompt.type("print 0x77")
    prompt.see("77")
    assert "after 3,123 instructions" in command(debugger, "monitor until kmain")
    prompt.type("8\r")
    prompt.see(r"\$2 = \S*0x778")  # nothing that was typed is lost


def test_the_prompt_lets_the_guest_run_when_gdb_has_gone(both: tuple[Terminal, Terminal]) -> None:
    prompt, debugger = both
    debugger.type("detach\n")
    prompt.see("gdb has let go")
    prompt.see(r"\(dbgvmm\)")
    prompt.type("continue\r")
    prompt.see("Hello from long mode")
    prompt.see("halted with interrupts off")


def test_a_kill_by_gdb_ends_all(both: tuple[Terminal, Terminal]) -> None:
    prompt, debugger = both
    debugger.type("kill\n")
    prompt.see("killed by the debugger")


def test_the_consoles_key_stops_a_guest_that_gdb_lets_run(
    start: Start, gdb: Start, guest: Guest, tmp_path: Path
) -> None:
    socket = tmp_path / "gdb"
    prompt = start("run", guest("cpubound"), "--repl", f"--gdb=unix:{socket}")
    prompt.see(r"\(dbgvmm\)")
    debugger = gdb("-ex", f"target remote {socket}", str(guest("cpubound")))
    debugger.see(READY)
    debugger.type("continue\n")
    prompt.see("cpubound")
    prompt.type("\x01c")
    prompt.see("stopped from the keyboard, after")
    assert "SIGINT" in debugger.plain(READY)
    prompt.see(r"\(dbgvmm\)")
    assert "cpubound" not in prompt.ask("info time")


def test_breakpoints_that_gdb_leaves_in_place_stop_a_monitor_command(both: tuple[Terminal, Terminal]) -> None:
    _, debugger = both
    command(debugger, "set breakpoint always-inserted on")
    command(debugger, "hbreak kmain")
    assert "breakpoint at 0x106000, after 3,123 instructions" in command(debugger, "monitor continue")
