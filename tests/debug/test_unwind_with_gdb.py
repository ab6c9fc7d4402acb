"""Backtraces beside those of the real gdb, at the same stops of the same guest."""

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

MARK = "--- stop"
PCS = (
    "python exec('f = gdb.newest_frame()\\nwhile f:\\n if f.type() == gdb.NORMAL_FRAME: print(\\'pc\\', hex(f.pc()))"
    "\\n f = f.older()')"
)
"""gdb makes frames of its own for what was inlined, and for tail calls; only those that are on the stack are wanted."""


@pytest.fixture
def gdb(guest: Callable[[str], Path], tmp_path: Path) -> Gdb:
    return Gdb(guest, tmp_path)


def both(text: str) -> tuple[list[int], list[int]]:
    """gdb's pcs and ours."""
    theirs = [int(pc, 16) for pc in re.findall(r"^pc (0x[0-9a-f]+)$", text, re.MULTILINE)]
    ours = [int(pc, 16) for pc in re.findall(r"^#\d+ +(0x[0-9a-f]+)", text, re.MULTILINE)]
    return theirs, ours


def assert_same(text: str) -> int:
    """gdb does not always see that `kernel_entry` is outermost, and goes on through what lies there."""
    theirs, ours = both(text)
    assert theirs[: len(ours)] == ours, text
    assert len(theirs) == len(ours) or re.search(rf"{ours[-1]:#x} +<kernel_entry\+", text), text
    return len(ours)


def stops(gdb: Gdb, name: str, place: str, count: int) -> list[str]:
    """What gdb and we say at each of `count` stops at `place`."""
    commands = [f"hbreak {place}"]
    for _ in range(count):
        commands += ["continue", f"echo {MARK}\\n", PCS, "monitor backtrace --how"]
    output = gdb(name, *commands)
    found = output.split(MARK)[1:]
    assert len(found) == count, output
    return found


def test_frames_without_frame_pointers_are_those_of_gdb(gdb: Gdb) -> None:
    found = stops(gdb, "frames", "deepest", 4)
    assert [assert_same(text) for text in found] == [4, 5, 6, 7]
    assert all("by cfi" in text for text in found)


@pytest.mark.parametrize(
    ("name", "place"),
    [("selftest", "check_eq"), ("exceptions", "catch_trap"), ("pagetables", "check"), ("smc", "print")],
)
def test_frames_of_a_guest_are_those_of_gdb(gdb: Gdb, name: str, place: str) -> None:
    for text in stops(gdb, name, place, 5):
        assert assert_same(text) > 2


def test_in_the_middle_of_functions_too(gdb: Gdb) -> None:
    """Single steps through prologues, epilogues and calls."""
    commands = ["hbreak omitted_and_aligned", "continue"]
    for _ in range(60):
        commands += ["stepi 7", f"echo {MARK}\\n", PCS, "monitor backtrace"]
    parts = gdb("frames", *commands).split(MARK)[1:]
    assert len(parts) == 60
    for part in parts:
        assert_same(part)


def test_from_an_exceptions_handler_we_see_further_than_gdb(gdb: Gdb) -> None:
    """gdb takes the entry stub, which has no call frame information, for a function: it cannot know what it pushes."""
    (text,) = stops(gdb, "frames", "on_breakpoint", 1)
    theirs, ours = both(text)
    assert ours[:3] == theirs[:3], text
    assert "<omitted_and_trapping+" in text, text
    assert re.search(r"^#\d+ +\S+ +<kernel_entry\+", text, re.MULTILINE), text
    assert "by interrupt frame" in text
