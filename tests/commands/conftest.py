"""Fixtures for commands: guests that have come to a place worth looking at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dbgvmm import Machine
from dbgvmm.commands import CommandTable, Session
from dbgvmm.debug.symbols import load_symbols


@pytest.fixture
def deepest(booted: Callable[..., Machine], guest: Callable[[str], Path], table: CommandTable) -> Session:
    """The guest `frames` in `deepest`, called by all of the others."""
    session = Session(booted("frames"), load_symbols(guest("frames").with_suffix(".elf64")))
    for place in ("omitted_and_aligned", "deepest"):
        table.execute(session, f"break {place}")
        table.execute(session, "continue")
        table.execute(session, "delete")
    return session
