"""The real lldb on a real guest."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

LLDB = next((path for name in ("lldb", "lldb-14", "lldb-15", "lldb-16") if (path := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(LLDB is None, reason="lldb is not installed")


@pytest.fixture
def lldb(guest: Callable[[str], Path]) -> Callable[..., str]:
    def run(*commands: str) -> str:
        line = [sys.executable, "-m", "dbgvmm", "run", str(guest("hello")), "--gdb=0", "--wait", "--serial", "null"]
        dbgvmm = subprocess.Popen(line, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            assert dbgvmm.stderr is not None and LLDB is not None
            port = dbgvmm.stderr.readline().rsplit(":", 1)[1].strip()
            arguments = [LLDB, "--no-lldbinit", "-b", "-o", f"gdb-remote {port}"]
            for command in commands:
                arguments += ["-o", command]
            result = subprocess.run(
                arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                timeout=60, check=False,
            )  # fmt: skip
            dbgvmm.communicate(timeout=30)
        finally:
            dbgvmm.kill()
            dbgvmm.wait()
        return result.stdout

    return run


def test_lldb_breaks_steps_and_reads(lldb: Callable[..., str]) -> None:
    text = lldb(
        "breakpoint set -a 0x106000", "process continue", "memory read -c 4 0x106000", "thread step-inst",
        "register read rip", "thread list", "register read --all", "process kill",
    )  # fmt: skip
    assert "stop reason = breakpoint 1.1" in text
    assert "0x00106000: 55 48 89 e5" in text
    assert "stop reason = instruction step into" in text
    assert "rip = 0x0000000000106001" in text
    assert "cr3 = 0x0000000000102000" in text
    assert "error" not in text


def test_lldb_stops_at_a_watchpoint(lldb: Callable[..., str]) -> None:
    text = lldb(
        "breakpoint set -a 0x106001", "process continue", "watchpoint set expression -w write -s 8 -- $rsp-8",
        "process continue", "register read rip", "process kill",
    )  # fmt: skip
    assert "stop reason = watchpoint 1" in text
    assert "new value: 1073161" in text


def test_lldb_knows_what_is_mapped(lldb: Callable[..., str]) -> None:
    text = lldb(
        "breakpoint set -a 0x106000", "process continue", "memory region 0x106000", "memory region 0x7fff00000000",
        "process kill",
    )  # fmt: skip
    assert "[0x0000000000000000-0x0000000000200000) rwx" in text
    assert "[0x00007f8000000000-0x0000800000000000) ---" in text


def test_lldb_interrupts_a_running_guest(guest: Callable[[str], Path]) -> None:
    """Typed, not by `-b`: a command after `process continue` then does not wait for the stop."""
    line = [sys.executable, "-m", "dbgvmm", "run", str(guest("cpubound")), "--gdb=0", "--wait", "--serial", "null"]
    dbgvmm = subprocess.Popen(line, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    lldb = None
    try:
        assert dbgvmm.stderr is not None and LLDB is not None
        port = dbgvmm.stderr.readline().rsplit(":", 1)[1].strip()
        lldb = subprocess.Popen(
            [LLDB, "--no-lldbinit", "--no-use-colors"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, bufsize=1,
        )  # fmt: skip
        assert lldb.stdin is not None and lldb.stdout is not None

        def type_and_wait(command: str, *words: str) -> str:
            """What lldb prints until one of the words comes."""
            assert lldb is not None and lldb.stdin is not None and lldb.stdout is not None
            lldb.stdin.write(command + "\n")
            text = ""
            while not any(word in text for word in words):
                part = lldb.stdout.readline()
                assert part, text
                text += part
            return text

        type_and_wait(f"gdb-remote {port}", "stop reason")
        type_and_wait("process continue", "resuming", "Resuming")
        text = type_and_wait("process interrupt", "stop reason", "not running")
        while "not running" in text:  # lldb says "resuming" before it has told the stub
            text = type_and_wait("process interrupt", "stop reason", "not running")
        assert "signal SIGINT" in text
        type_and_wait("register read rip", "rip = 0x")
        type_and_wait("thread step-inst", "instruction step into")
        type_and_wait("process kill", "exited with")
    finally:
        if lldb is not None:
            lldb.kill()
            lldb.communicate()
        dbgvmm.kill()
        dbgvmm.communicate()
