"""docs/inside.md: its Python runs, its commands exist, and what it says of their output is still so."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from dbgvmm import Machine
from dbgvmm.commands import CommandTable, Session
from dbgvmm.debug.symbols import load_symbols

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs" / "inside.md").read_text()
OF_THE_HOST = re.compile(r"^    (time|cost) ", re.MULTILINE)
"""Lines with the host's time in them."""


def test_the_pages_python_runs(guest: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    guest("smc")
    monkeypatch.chdir(REPOSITORY)
    (block,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    exec(compile(block, "docs/inside.md", "exec", dont_inherit=True), {})


def test_the_pages_sessions_are_what_the_commands_say(
    booted: Callable[..., Machine], guest: Callable[[str], Path], table: CommandTable
) -> None:
    """Those with the guest smc at its end; host times and what was cut to width apart."""
    machine = booted("smc")
    machine.run()
    session = Session(machine, load_symbols(guest("smc").with_suffix(".elf64")))
    blocks = re.findall(r"(?:^    .*\n)+", PAGE, re.MULTILINE)
    compared = 0
    for block in blocks:
        commands = re.split(r"^    \(dbgvmm\) (.*)\n", block, flags=re.MULTILINE)[1:]
        for line, shown in zip(commands[::2], commands[1::2], strict=True):
            if "user_patch_next" not in line and line not in ("tc", "why exit"):
                continue  # of another guest
            said = str(table.execute(session, line))
            lines = [text.rstrip() for text in said.splitlines() if text.strip()]
            for text, expected in zip(lines, shown.splitlines(), strict=True):
                if not OF_THE_HOST.match(expected) and not expected.endswith("..."):
                    assert text == expected[4:], line
                    compared += 1
    assert compared > 20
