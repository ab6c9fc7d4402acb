"""`dbgvmm run` as a process: exit statuses, messages, signals, terminals."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dbgvmm.debug.stops import Stop, StopKind
from dbgvmm.exit_status import status_of

Guest = Callable[[str], Path]
# Nobody answers a request for the cursor's position here.
ENVIRONMENT = {**os.environ, "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"}


def dbgvmm(*words: object, typed: str = "") -> subprocess.CompletedProcess[str]:
    """Run it with standard input from a pipe."""
    line = [sys.executable, "-m", "dbgvmm", *map(str, words)]
    return subprocess.run(line, input=typed, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("name", "status", "words"),
    [
        ("hello", 0, "halted with interrupts off"),
        ("selftest", 1, "the guest left with code 1"),
        ("triplefault", 70, "triple fault: #UD"),
    ],
)
def test_the_exit_status_says_how_the_guest_ended(guest: Guest, name: str, status: int, words: str) -> None:
    result = dbgvmm("run", guest(name))
    assert result.returncode == status
    last = result.stderr.splitlines()[-1]
    assert words in last
    assert re.search(r"after [\d,]+ instructions and \d+\.\d\d s$", last)


def test_a_kernel_of_the_upper_half_in_a_32_bit_container_has_its_symbols_there(guest: Guest) -> None:
    result = dbgvmm("run", guest("selftest"), "--repl", typed="break kmain\ncontinue\n")
    assert re.search(r"breakpoint 1 at 0xffffffff80\w+ <kmain>", result.stdout)
    assert "breakpoint 1, after" in result.stdout


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (StopKind.POWER_OFF, 0),
        (StopKind.RESET, 0),
        (StopKind.BREAKPOINT, 0),
        (StopKind.UNSUPPORTED, 69),
        (StopKind.LIMIT, 72),
        (StopKind.INTERRUPT, 130),
        (StopKind.QUIT, 130),
    ],
)
def test_every_other_kind_of_stop_has_its_status(kind: StopKind, status: int) -> None:
    assert status_of(Stop(kind, "")) == status


def test_what_the_guest_prints_is_standard_output(guest: Guest) -> None:
    assert dbgvmm("run", guest("hello")).stdout == "Hello from long mode.\n"


def test_the_instruction_limit_ends_the_run(guest: Guest) -> None:
    result = dbgvmm("run", guest("cpubound"), "--max-insns", "3_000_000")
    assert result.returncode == 72
    assert "after 3,000,000 instructions" in result.stderr


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["nothing.elf"], 66, "No such file"),
        (["/"], 66, "Is a directory"),
        (["Makefile"], 66, "not a kernel"),
        (["GUEST", "--initrd", "/nothing"], 66, "/nothing"),
        (["GUEST", "--symbols", "/nothing"], 66, "symbols /nothing"),
        (["GUEST", "--command", "/nothing"], 66, "commands /nothing"),
        (["GUEST", "--stats", "/nothing/x"], 66, "--stats /nothing/x"),
        (["GUEST", "--serial", "file:/nothing/x"], 66, "/nothing/x"),
        (["GUEST", "--serial", "pigeon"], 64, "bad serial line"),
        (["GUEST", "--gdb=nowhere.invalid:1"], 64, "--gdb"),
        (["GUEST", "--gdb=99999"], 64, "99999"),
    ],
)
def test_bad_input_is_one_clear_line(guest: Guest, tmp_path: Path, words: list[str], status: int, message: str) -> None:
    (tmp_path / "Makefile").write_text("all:\n")
    names = {"GUEST": str(guest("hello")), "Makefile": str(tmp_path / "Makefile")}
    result = dbgvmm("run", *(names.get(word, word) for word in words))
    assert result.returncode == status
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("dbgvmm: ")


def test_a_port_in_use_is_one_clear_line(guest: Guest) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = dbgvmm("run", guest("hello"), f"--gdb={port}")
    assert result.returncode == 64
    assert "choose another port" in result.stderr
    assert result.stderr.count("\n") == 1


def test_the_counters_are_written_as_json(guest: Guest, tmp_path: Path) -> None:
    path = tmp_path / "stats.json"
    dbgvmm("run", guest("hello"), "--stats", path)
    stats = json.loads(path.read_text())
    assert all(isinstance(value, int | float) for value in stats.values())
    assert stats["exit_status"] == 0
    assert stats["instructions"] > 3000


@pytest.mark.parametrize("options", [("--user=direct",), ("--validate=lazy",), ("--memory", "16M")])
def test_the_guest_sees_no_difference_between_ways_to_run_it(guest: Guest, options: tuple[str, ...]) -> None:
    assert dbgvmm("run", guest("hello"), *options).stdout == "Hello from long mode.\n"


def test_serial_output_that_no_client_has_read_is_told_of(guest: Guest, tmp_path: Path) -> None:
    result = dbgvmm("run", guest("hello"), "--serial", f"unix:{tmp_path / 'serial'}")
    assert result.returncode == 0
    assert "23 bytes of serial output are lost" in result.stderr


def test_serial_output_goes_to_a_file(guest: Guest, tmp_path: Path) -> None:
    path = tmp_path / "serial"
    result = dbgvmm("run", guest("hello"), "--serial", f"file:{path}")
    assert result.stdout == ""
    assert path.read_text() == "Hello from long mode.\n"


def test_the_repl_takes_commands_from_a_pipe(guest: Guest) -> None:
    result = dbgvmm("run", guest("hello"), "--repl", typed="break kmain\ncontinue\nfrob\nprint rdi\nquit\n")
    assert result.returncode == 65, "since a command has failed"
    assert "breakpoint 1 at" in result.stdout
    assert "<kmain>: push rbp" in result.stdout
    assert "$1 = 0x2badb002" in result.stdout
    assert "error: there is no command 'frob'" in result.stderr
    assert "Hello" not in result.stdout


def test_nothing_runs_before_the_repl_says_so(guest: Guest) -> None:
    result = dbgvmm("run", guest("hello"), "--repl")
    assert re.fullmatch(r"dbgvmm: left at the prompt, after 0 instructions and \d+\.\d\d s\n", result.stderr)


def test_the_exit_status_after_the_repl_is_the_guests_if_it_has_ended(guest: Guest) -> None:
    assert dbgvmm("run", guest("selftest"), "--repl", typed="continue\n").returncode == 1


def test_commands_of_a_file_run_first_and_then_the_guest(guest: Guest, tmp_path: Path) -> None:
    commands = tmp_path / "commands"
    commands.write_text("# to kmain\nuntil kmain\nprint rip\n")
    result = dbgvmm("run", guest("hello"), "-x", commands)
    assert result.returncode == 0
    assert result.stdout.index("<kmain>") < result.stdout.index("Hello from long mode.")


def test_a_command_of_a_file_that_fails_is_named_by_its_line(guest: Guest, tmp_path: Path) -> None:
    commands = tmp_path / "commands"
    commands.write_text("print 1\n\nfrob\n")
    result = dbgvmm("run", guest("hello"), "-x", commands)
    assert result.returncode == 65
    assert f"{commands}:3: there is no command" in result.stderr


def test_commands_of_the_command_line_are_run_in_order_and_end_the_run_if_wanted(guest: Guest, tmp_path: Path) -> None:
    commands = tmp_path / "commands"
    commands.write_text("set $x = $x + 1\n")
    result = dbgvmm("run", guest("hello"), "-e", "set $x = 1", "-x", commands, "-e", "print $x --json", "--batch")
    assert result.returncode == 0
    shown = json.loads(result.stdout.splitlines()[-1])
    assert (shown["name"], shown["value"]) == ("$1", 2)
    assert "Hello" not in result.stdout, "the guest has not run"
    assert "\x1b" not in result.stdout


def test_a_command_of_the_command_line_that_fails_is_one_clear_line(guest: Guest) -> None:
    result = dbgvmm("run", guest("hello"), "-e", "print 1", "-e", "frob", "-e", "print 2", "--batch")
    assert result.returncode == 65
    assert result.stderr == "dbgvmm: -e: there is no command 'frob': `help` lists them\n"
    assert "$2" not in result.stdout


def test_what_a_pipe_gets_is_plain_and_whole(guest: Guest) -> None:
    result = dbgvmm("run", guest("hello"), "--repl", typed="disassemble boot_entry32 100\n")
    assert result.returncode == 0
    assert result.stdout.count("\n") > 40
    assert "\x1b" not in result.stdout


def start(*words: object) -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "dbgvmm", *map(str, words)]
    return subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_control_c_ends_a_run(guest: Guest) -> None:
    process = start("run", guest("cpubound"))
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "interrupted by Ctrl-C, after" in errors
    assert "Traceback" not in errors


def test_a_termination_signal_ends_a_run(guest: Guest) -> None:
    process = start("run", guest("cpubound"))
    assert process.stdout is not None
    process.stdout.readline()
    process.terminate()
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "terminated by a signal, after" in errors
    assert "Traceback" not in errors


def test_control_c_ends_a_wait_for_gdb(guest: Guest, tmp_path: Path) -> None:
    process = start("run", guest("hello"), "--wait", f"--gdb=unix:{tmp_path / 'gdb'}")
    assert process.stderr is not None
    process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert not (tmp_path / "gdb").exists()


class Terminal:
    """dbgvmm on a terminal of its own."""

    def __init__(self, *words: object) -> None:
        self._master, slave = pty.openpty()
        line = [sys.executable, "-m", "dbgvmm", *map(str, words)]
        self.process = subprocess.Popen(
            line, stdin=slave, stdout=slave, stderr=slave, start_new_session=True, env=ENVIRONMENT
        )
        os.close(slave)
        self.shown = ""

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def expect(self, text: str, seconds: float = 20) -> None:
        end = time.monotonic() + seconds
        while text not in self.shown:
            assert time.monotonic() < end, f"{text!r} was not shown: {self.shown!r}"
            if select.select([self._master], [], [], 0.1)[0]:
                try:
                    self.shown += os.read(self._master, 4096).decode("utf-8", "replace")
                except OSError:
                    assert text in self.shown, self.shown
        self.shown = self.shown[self.shown.index(text) + len(text) :]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)


def test_on_a_terminal_the_escape_keys_leave_and_reach_the_repl(guest: Guest) -> None:
    terminal = Terminal("run", guest("cpubound"))
    try:
        terminal.expect("^A x leaves")
        terminal.expect("cpubound")
        terminal.type("\x01c")
        terminal.expect("(dbgvmm)")
        terminal.type("print 0x10+1\r")
        terminal.expect("0x11")
        terminal.type("continue\r")
        terminal.expect("ok   crc32")
        terminal.type("\x01x")
        terminal.expect("left from the keyboard, after")
        assert terminal.process.wait(20) == 130
    finally:
        terminal.close()


def test_control_c_at_a_running_guest_returns_to_the_prompt(guest: Guest, tmp_path: Path) -> None:
    serial = tmp_path / "serial"
    terminal = Terminal("run", guest("cpubound"), "--repl", "--serial", f"file:{serial}")
    try:
        terminal.expect("(dbgvmm)")
        terminal.type("continue\r")
        while "cpubound" not in serial.read_text():
            time.sleep(0.05)
        terminal.process.send_signal(signal.SIGINT)
        terminal.expect("interrupted by Ctrl-C")
        terminal.expect("(dbgvmm)")
        terminal.type("\x04")
        assert terminal.process.wait(20) == 0
    finally:
        terminal.close()


@pytest.mark.parametrize(("name", "first"), [("guest.info", "TN:"), ("guest.drcov", "DRCOV"), ("guest.out", "# callgrind")])
def test_executions_are_counted_and_saved_as_the_file_is_called(
    guest: Guest, tmp_path: Path, name: str, first: str
) -> None:
    result = dbgvmm("run", guest("hello"), "--count", tmp_path / name)
    assert result.returncode == 0
    assert (tmp_path / name).read_bytes().startswith(first.encode())


def test_a_place_where_counts_cannot_be_saved_is_refused_before_the_guest_runs(guest: Guest) -> None:
    result = dbgvmm("run", guest("hello"), "--count", "/nonexistent/guest.info")
    assert result.stdout == "" and result.stderr == "dbgvmm: --count /nonexistent/guest.info: No such file or directory\n"
