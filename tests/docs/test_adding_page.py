"""The code on docs/adding.md works."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from dbgvmm import Machine

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs" / "adding.md"


@pytest.fixture
def page(guest: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """The names that the page's blocks leave behind."""
    guest("hello")
    monkeypatch.chdir(REPOSITORY)
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 3
    names: dict[str, object] = {"__name__": "docs.adding"}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec", dont_inherit=True), names)
    return names


def test_the_device_of_the_page_answers_at_its_ports(page: dict[str, object]) -> None:
    machine = page["machine"]
    assert isinstance(machine, Machine)
    ports = machine.board.ports
    ports.write(0x540, 0, 4)
    machine.step(5)
    machine.clock.count = machine.count
    assert ports.read(0x540, 4) == 5


def test_the_files_that_the_page_names_exist() -> None:
    named = set(re.findall(r"`((?:dbgvmm/|tests/|boot/|devices/|cpu/)[\w/]+(?:\.py|/))`", PAGE.read_text()))
    assert len(named) > 5
    homes = (REPOSITORY, REPOSITORY / "dbgvmm")
    assert [name for name in named if not any((home / name).exists() for home in homes)] == []
