"""Every command shows how it is used, and what its examples say is true."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NoReturn, get_args, get_type_hints

import pytest

from dbgvmm.commands import CommandError, CommandTable, QuitRequest, Session, command_table
from dbgvmm.commands.json_output import as_json
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


def returned(item: AnyCommand) -> tuple[type, ...]:
    """The types that a command says it returns."""
    hint = get_type_hints(item.function)["return"]
    return get_args(hint) or (hint,)


@pytest.mark.parametrize("item", COMMANDS, ids=lambda item: item.name)
def test_a_command_returns_data_of_its_own_and_no_text(item: AnyCommand) -> None:
    for kind in returned(item):
        assert kind is NoReturn or (kind not in (str, bytes, object, dict, list, tuple) and "__str__" in vars(kind)), kind


@pytest.mark.parametrize("item", COMMANDS, ids=lambda item: item.name)
def test_examples_are_read_and_give_data_or_one_clear_line(
    item: AnyCommand, table: CommandTable, in_kmain: Session
) -> None:
    for line in item.examples:
        call = table.understand(line)
        assert call is not None
        call.command.arguments(in_kmain, call.words, call.fmt)
        try:
            with in_kmain.quietly():
                result = call.command.run_words(in_kmain, call.words, call.fmt)
        except CommandError as error:
            assert "\n" not in str(error)
        except QuitRequest:
            assert item.name == "quit"
        else:
            assert isinstance(result, returned(item))
            shown = as_json(result)
            assert json.loads(str(shown)) == shown.data
