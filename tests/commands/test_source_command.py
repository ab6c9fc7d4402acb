"""`source`, and settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbgvmm.commands import CommandError, CommandTable, Session


def test_the_commands_of_a_file_are_run_in_order(hello: Session, table: CommandTable, tmp_path: Path) -> None:
    path = tmp_path / "commands"
    path.write_text("# a comment\nset $x = 2\n\nprint $x * 3\n")
    assert str(table.execute(hello, f"source {path}")) == "$x = 0x2 (2)\n$1 = 0x6 (6)"


def test_the_first_that_fails_ends_it_and_is_named(hello: Session, table: CommandTable, tmp_path: Path) -> None:
    path = tmp_path / "commands"
    path.write_text("set $x = 2\nfrob\nset $x = 3\n")
    with pytest.raises(CommandError, match=f"{path}:2: there is no command 'frob'"):
        table.execute(hello, f"source {path}")
    assert str(table.execute(hello, "print $x")) == "$1 = 0x2 (2)"


@pytest.mark.parametrize(("content", "words"), [(None, "No such file"), (b"\xff\xfe", "no text file")])
def test_a_file_that_cannot_be_read_is_said_so(
    hello: Session, table: CommandTable, tmp_path: Path, content: bytes | None, words: str
) -> None:
    path = tmp_path / "commands"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CommandError, match=words):
        table.execute(hello, f"source {path}")


def test_a_file_that_sources_itself_comes_to_an_end(hello: Session, table: CommandTable, tmp_path: Path) -> None:
    path = tmp_path / "commands"
    path.write_text(f"source {path}\n")
    with pytest.raises(CommandError, match="nested more than"):
        table.execute(hello, f"source {path}")
    assert hello.sourcing == 0


def test_settings_are_shown_and_changed(hello: Session, table: CommandTable) -> None:
    assert str(table.execute(hello, "set pagination off")) == "pagination is off"
    assert str(table.execute(hello, "set style off")) == "color is off"
    assert str(table.execute(hello, "show settings")).split() == ["pagination", "off", "color", "off"]
    with pytest.raises(CommandError, match="none of on, off"):
        table.execute(hello, "set color blue")
