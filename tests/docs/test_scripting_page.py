"""The code on docs/scripting.md works."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from dbgvmm import Machine
from dbgvmm.commands import Session
from dbgvmm.commands.table import Command

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs" / "scripting.md"


def test_the_blocks_of_the_page_run_and_say_what_they_promise(
    guest: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    guest("selftest")
    monkeypatch.chdir(REPOSITORY)
    names: dict[str, object] = {"__name__": "docs.scripting"}
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 5
    printed = []
    for block in blocks:
        exec(compile(block, str(PAGE), "exec", dont_inherit=True), names)
        printed.append(capsys.readouterr().out)
    machine, command = names["machine"], names["stack_"]
    assert isinstance(machine, Machine) and isinstance(command, Command)
    assert "0x80010033 [PE MP ET NE WP PG] " in printed[0] and "check_eq+0x4" in printed[0]
    assert re.match(r"clock stopped: port 0x70 written, 1 byte, value 0xa, by \S+ <test_devices\S+> 232 \[", printed[1])
    assert "arrived at" in printed[2] and "Stop(kind=" in printed[2]
    assert "physical" in printed[3]
    assert str(command(Session(machine))).count("\n") == 3


def test_every_decorator_is_on_the_page() -> None:
    told = set(re.findall(r"`(on_\w+)\(", PAGE.read_text()))
    assert told == {name for name in dir(Machine) if name.startswith("on_")}
