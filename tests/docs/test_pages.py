"""What the README and the pages in docs/ promise is there."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from dbgvmm.options import build_parser

REPOSITORY = Path(__file__).parents[2]
PAGES = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/*.md"), REPOSITORY / "bench/README.md"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_lead_to_files(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text())
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (page.parent / target).exists()] == []


def test_the_readmes_python_runs(
    guest: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    guest("hello")
    monkeypatch.chdir(REPOSITORY)
    (block,) = re.findall(r"^```python\n(.*?)^```", (REPOSITORY / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    exec(compile(block, "README.md", "exec", dont_inherit=True), {})
    assert capsys.readouterr().out.startswith("breakpoint at 0x106000 0x106000 ")


def test_the_readmes_options_exist(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        build_parser().parse_args(["run", "--help"])
    known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    commands = re.findall(r"dbgvmm run ((?:[^`\n]|\\\n)*)", (REPOSITORY / "README.md").read_text())
    used = {option for command in commands for option in re.findall(r"--[a-z-]+", command)}
    assert used
    assert used <= known
