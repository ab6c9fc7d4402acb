"""Fixtures of the debugger's side."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dbgvmm import Machine

sys.path.insert(0, str(Path(__file__).parent))

from debugged import Debugged


@pytest.fixture
def debug(booted: Callable[..., Machine], tmp_path: Path) -> Iterator[Callable[[str], Debugged]]:
    """`debug("hello")` is a guest with a server, whose debugger is a thread of the test."""
    made: list[Debugged] = []

    def make(guest: str) -> Debugged:
        made.append(Debugged(booted(guest), tmp_path / "gdb"))
        return made[-1]

    yield make
    for item in made:
        item.server.close()
