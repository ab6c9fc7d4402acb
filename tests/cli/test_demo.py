"""`dbgvmm demo`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dbgvmm import demo

Guest = Callable[[str], Path]


def run_demo(path: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": path}
    line = [sys.executable, "-m", "dbgvmm", "demo"]
    return subprocess.run(line, capture_output=True, text=True, timeout=90, check=False, env=environment)


@pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb is not installed")
def test_the_demo_shows_a_session_of_the_real_gdb(guest: Guest) -> None:
    guest("hello")
    result = run_demo(os.environ["PATH"])
    assert result.returncode == 0, result.stderr
    for text in ("Breakpoint 1, kmain", "[ PE MP ET NE WP PG ]", "sub qword ptr [budget]", "Hello from long mode."):
        assert text in result.stdout
    assert "rror" not in result.stdout


def test_without_gdb_the_demo_says_so_and_shows_the_commands(guest: Guest, tmp_path: Path) -> None:
    guest("hello")
    result = run_demo(str(tmp_path))
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("gdb is not installed")
    assert "breakpoint 1, after" in result.stdout
    assert "Hello from long mode." in result.stdout


def test_without_the_guest_the_demo_says_how_to_build_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kernel = tmp_path / "guests" / "build" / "hello.elf"
    monkeypatch.setattr(demo, "find_guest", lambda: kernel)
    assert demo.demo() == 66
    assert "not part of this installation" in capsys.readouterr().err
    kernel.parent.parent.mkdir()
    (tmp_path / "guests" / "Makefile").write_text("")
    assert demo.demo() == 66
    assert "make -C" in capsys.readouterr().err
