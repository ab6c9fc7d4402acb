"""The code on docs/profiling.md works."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs" / "profiling.md"


def test_the_blocks_of_the_page_run(
    guest: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    guest("hello")
    monkeypatch.chdir(REPOSITORY)
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    names: dict[str, object] = {"__name__": "docs.profiling"}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec", dont_inherit=True), names)
    assert len(blocks) >= 1
    assert re.search(r"^kernel_entry at 0x[0-9a-f]+ -> kmain: 1$", capsys.readouterr().out, re.MULTILINE)
