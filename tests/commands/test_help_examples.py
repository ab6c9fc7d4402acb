"""Every command shows how it is used, and what its examples say is true."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dbgvmm.commands import CommandError, CommandTable, QuitRequest, Session, command_table
from dbgvmm.commands.json_output import Json
from dbgvmm.commands.table import AnyCommand

COMMANDS = command_table().commands


@pytest.fixture
def in_kmain(hello: Session, table: CommandTable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Session:
    """Some way into the guest, with something on the stack; files go to a folder of their own."""
    monkeypatch.chdir(tmp_path)
    table.execute(hello, "until kmain")
    return hello


@pytest.mark.parametrize("item", COMMANDS, ids=lambda item: item.name)
def test_a_command_has_one_to_four_examples_of_its_own(item: AnyCommand, table: CommandTable) -> None:
    assert 1 <= len(item.examples) <= 4
    for line in item.examples:
        call = table.understand(line)
        assert call is not None
        assert call.command.name == item.name, line


@pytest.mark.parametrize("item", COMMANDS, ids=lambda item: item.name)
def test_examples_are_read_and_give_data_or_one_clear_line(
    item: AnyCommand, table: CommandTable, in_kmain: Session
) -> None:
    for line in item.examples:
        call = table.understand(f"{line} --json")
        assert call is not None
        call.command.arguments(in_kmain, call.words, call.fmt)
        try:
            result = call.run(in_kmain)
        except CommandError as error:
            assert "\n" not in str(error)
        except QuitRequest:
            assert item.name == "quit"
        else:
            assert isinstance(result, Json)
            assert json.loads(str(result)) == result.data
