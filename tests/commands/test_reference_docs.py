"""The pages that are made from docstrings are those in docs/."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbgvmm.commands import CommandTable, reference
from dbgvmm.debug import packet_reference

DOCS = Path(__file__).parent.parent.parent / "docs"


def test_the_page_of_commands_is_up_to_date() -> None:
    assert (DOCS / "commands.md").read_text() == reference.reference()


def test_the_page_of_packets_is_up_to_date() -> None:
    assert (DOCS / "gdb-packets.md").read_text() == packet_reference.reference()


def test_every_command_explains_itself_in_one_line_first(table: CommandTable) -> None:
    for item in table.commands:
        assert item.summary.endswith("."), item.name
        assert len(item.summary) <= 100, item.name


@pytest.mark.parametrize("packet", ["vCont", "Z0", "qRcmd", "qXfer:features:read"])
def test_the_packets_that_gdb_needs_are_served(packet: str) -> None:
    line = next(line for line in packet_reference.reference().splitlines() if line.startswith(f"| `{packet}` |"))
    assert line.endswith("| yes |")
