"""docs/statistics.md is about the counters that there are."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

from dbgvmm import Machine, MachineConfig
from dbgvmm.cli import main

PAGE = Path(__file__).parents[2] / "docs" / "statistics.md"
OF_THE_RUN = {"exit_status", "seconds_wall"}


def documented() -> list[str]:
    """The keys of the page's tables, in its order."""
    return re.findall(r"^\| `(\w+)` \| [^|]+ \| [^|]+ \|$", PAGE.read_text(), re.MULTILINE)


def test_every_counter_is_on_the_page_and_no_other() -> None:
    counters = set(Machine(MachineConfig(memory=16 << 20)).stats())
    assert set(documented()) - OF_THE_RUN == counters


def test_no_counter_is_explained_twice() -> None:
    assert len(documented()) == len(set(documented()))


def test_the_file_of_a_run_has_all_keys_of_the_page(tmp_path: Path, guest: Callable[[str], Path]) -> None:
    file = tmp_path / "stats.json"
    assert main(["run", str(guest("hello")), "--serial", "null", "--stats", str(file)]) == 0
    assert set(json.loads(file.read_text())) == set(documented())
