"""The prompt as a person has it: on a real terminal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pexpect
import pytest
from terminal_process import Terminal

Guest = Callable[[str], Path]
Start = Callable[..., Terminal]


@pytest.fixture
def prompt(start: Start, guest: Guest) -> Terminal:
    """In front of `hello`'s first instruction."""
    terminal = start("run", guest("hello"), "--repl")
    terminal.see(r"\(dbgvmm\)")
    return terminal


def finish(terminal: Terminal, typed: str, rest: str) -> None:
    """Press Tab behind `typed`, and wait for the rest of the word."""
    terminal.type(f"{typed}\t")
    terminal.see(rest)


def test_tab_completes_commands_symbols_registers_options_and_files(prompt: Terminal, tmp_path: Path) -> None:
    (tmp_path / "commands.txt").write_text("print 6*7\n")
    finish(prompt, "info segm", "ents")
    prompt.type("\r")
    assert "selector" in prompt.plain(r"ldtr[^$]*\(dbgvmm\)")
    finish(prompt, "break console_pu", "tc")
    prompt.type(" if $al == 1\r")
    prompt.see(r"breakpoint 1 at \S*0x\w+\S* \S*<console_putc>")
    prompt.see(r"\n\S*\(dbgvmm\)")
    finish(prompt, "print $k_gs_b", "ase")
    prompt.type("\r")
    prompt.see(r"\$1 = [^$]*\(dbgvmm\)")
    finish(prompt, "print/x kernel_sta", "ck")
    prompt.type("\r")
    prompt.see(r"\$2 = [^$]*\(dbgvmm\)")
    finish(prompt, "info breakpoints --js", "on")
    prompt.type("\r")
    prompt.see(r"watchpoints[^$]*\(dbgvmm\)")
    finish(prompt, f"source {tmp_path}/comm", "ands.txt")
    prompt.type("\r")
    prompt.see(r"\$3 = \S*0x2a")


def test_several_ways_to_complete_are_shown(prompt: Terminal) -> None:
    prompt.type("info tra\t\t")
    prompt.see("trace-frames")
    prompt.see("tracepoints")
    prompt.type("\x03")
    prompt.see(r"\(dbgvmm\)")


def test_lines_are_kept_from_one_run_to_the_next_and_searched(start: Start, guest: Guest, prompt: Terminal) -> None:
    prompt.ask("print 41 + 1")
    prompt.ask("info time")
    prompt.type("\x04")
    prompt.see("left at the prompt")
    again = start("run", guest("hello"), "--repl")
    again.see(r"\(dbgvmm\)")
    again.type("pri\x1b[A\r")  # the arrow goes to the last line that begins so
    again.see(r"\$1 = \S*0x2a")
    again.see(r"\(dbgvmm\)")
    again.type("\x12nfo ti")  # Ctrl-R searches in lines
    again.see(r"nfo ti\S*me")
    again.type("\r\r")
    again.see("virtual time")


def test_control_c_stops_the_guest_and_not_the_program(start: Start, guest: Guest) -> None:
    terminal = start("run", guest("cpubound"), "--repl")
    terminal.see(r"\(dbgvmm\)")
    terminal.type("continue\r")
    terminal.see("cpubound")
    terminal.type("\x03")
    terminal.see(r"interrupted by Ctrl-C, after[^$]*\(dbgvmm\)")
    assert "rip" in terminal.ask("info registers")
    terminal.type("continue\r")
    terminal.see("ok   crc32")
    terminal.type("\x03\x03")
    terminal.see(r"interrupted by Ctrl-C, after[^$]*\(dbgvmm\)")
    assert "= 0x3" in terminal.ask("print 3")


def test_control_c_leaves_a_long_command(start: Start, guest: Guest) -> None:
    terminal = start("run", guest("hello"), "--repl", "--memory", "8G")
    terminal.see(r"\(dbgvmm\)")
    terminal.type("find 0, +0, (u64)kmain ^ 0x5a5a5a5a5a5a --phys\r")
    terminal.see("2004l")  # the prompt has let go of the terminal, or is just about to
    for _ in range(100):
        if terminal.process.expect([r"error:\S* interrupted", "not found", pexpect.TIMEOUT], timeout=0.1) != 2:
            break
        terminal.type("\x03")
    assert "interrupted" in str(terminal.process.after)
    terminal.see(r"\(dbgvmm\)")
    assert "= 0x3" in terminal.ask("print 3")


def test_long_output_comes_a_page_at_a_time(prompt: Terminal) -> None:
    prompt.type("x/90xg 0x100000\r")
    first = prompt.plain("--- more")
    assert "0x100000:" in first and "0x100160:" in first
    prompt.type(" ")
    second = prompt.plain("--- more|dbgvmm")
    assert "0x100170:" in second and "0x100160:" not in second
    prompt.type("x/900xg 0x100000\r")
    prompt.see("--- more")
    prompt.type("q")
    prompt.see(r"\(dbgvmm\)")
    prompt.type("x/900xg 0x100000\r")
    prompt.see("--- more")
    prompt.type("c")
    assert "--- more" not in prompt.plain("0x101c10")
    prompt.see(r"\(dbgvmm\)")
    prompt.ask("set pagination off")
    prompt.type("x/900xg 0x100000\r")
    assert "--- more" not in prompt.plain("0x101c10")


def test_code_is_coloured_and_only_coloured(start: Start, guest: Guest, prompt: Terminal) -> None:
    prompt.ask("until kmain")
    prompt.type("disassemble kmain 9\r")
    prompt.see(r"\n")
    shown = prompt.see(r"\n\S*\(dbgvmm\)")
    assert "\x1b[1;35mcall\x1b[0m" in shown, "a branch"
    assert "\x1b[33m<console_init>\x1b[0m" in shown, "its target"
    assert "\x1b[36mpush\x1b[0m" in shown
    grey = start("run", guest("hello"), "--repl", NO_COLOR="1")
    grey.see(r"\(dbgvmm\)")
    grey.type("until kmain\r")
    stop = grey.see(r"push rbp\r\n")
    assert "\x1b[1;" not in stop[stop.index("breakpoint at") :]


def test_an_empty_line_does_it_again(prompt: Terminal) -> None:
    prompt.type("stepi 2\r")
    prompt.see(r"after 2 instructions[^(]*\(dbgvmm\)")
    prompt.type("\r")
    prompt.see("after 4 instructions")


def test_lines_of_source_are_stepped_through(prompt: Terminal) -> None:
    assert "hello/hello.c:9   console_init();" in prompt.ask("until kmain")
    prompt.type("n\r")
    prompt.see(r"hello.c:10\S*   print\(")
    prompt.type("s\r")
    prompt.see(r"lib/console.c:\d+[^(]*")
    prompt.see(r"\(dbgvmm\)")
    prompt.type("finish\r")
    prompt.see("returned, after")
    prompt.type("n\r")
    prompt.see(r"lib/\S+:\d+")
    prompt.see(r"\(dbgvmm\)")
    prompt.type("\r")  # again
    prompt.see(r"stepped, after")


def test_the_startup_file_comes_before_the_first_prompt(start: Start, guest: Guest, home: Path) -> None:
    folder = home / "dbgvmm"
    folder.mkdir()
    startup = folder / "startup"
    startup.write_text("set pagination off\nfrob\nprint 0x1234\n")
    startup.chmod(0o600)
    terminal = start("run", guest("hello"), "--repl")
    assert f"{startup}:2: there is no command 'frob'" in terminal.plain(r"\$1 = 0x1234")
    terminal.see(r"\(dbgvmm\)")
    without = start("run", guest("hello"), "--repl", "--no-startup")
    assert "0x1234" not in without.see(r"\(dbgvmm\)")
    startup.chmod(0o666)
    refused = start("run", guest("hello"), "--repl")
    assert "is not read, since others can write it" in refused.plain(r"\(dbgvmm\)")


def test_the_keys_of_the_console_lead_to_the_prompt_and_out(start: Start, guest: Guest) -> None:
    terminal = start("run", guest("cpubound"))
    terminal.see("cpubound")
    terminal.type("\x01c")
    terminal.see(r"\(dbgvmm\)")
    terminal.type("continue\r")
    terminal.see("crc32")
    terminal.type("\x01x")
    terminal.see("left from the keyboard")
