"""What the REPL shows: pages, colours, plain text."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

import pytest

from dbgvmm.commands import CommandTable, Session
from dbgvmm.commands.output import Lines
from dbgvmm.repl.colour import coloured, wanted
from dbgvmm.repl.pager import EnoughShown, Pager
from dbgvmm.repl.screen import TerminalScreen

ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


class Keys:
    """Keys that will be pressed, and what was shown before each."""

    def __init__(self, *keys: bytes) -> None:
        self._keys = list(keys)
        self.pages: list[str] = [""]

    def write(self, text: str) -> None:
        self.pages[-1] += text

    def read(self) -> bytes:
        self.pages.append("")
        return self._keys.pop(0)


def pager(keys: Keys, columns: int = 20, rows: int = 5) -> Pager:
    return Pager(keys.write, lambda: (columns, rows), keys.read)


def test_a_page_is_a_screen_less_the_line_that_asks() -> None:
    keys = Keys(b"\r", b"\r")
    pager(keys).show("\n".join(map(str, range(10))))
    assert [page.count("\n") for page in keys.pages] == [4, 4, 2]


def test_long_lines_take_more_than_one_row_and_escapes_none() -> None:
    keys = Keys(b"\r", b"\r", b"\r")
    pager(keys).show("\n".join(["\x1b[31m" + "x" * 41 + "\x1b[0m", "y", "z", "\u6f22" * 11]))
    assert [page.count("\n") for page in keys.pages] == [2, 2]


@pytest.mark.parametrize("key", [b"q", b"\x03", b""])
def test_a_person_may_have_enough(key: bytes) -> None:
    keys = Keys(key)
    with pytest.raises(EnoughShown):
        pager(keys).show("\n".join("abcdefgh"))
    assert "e" not in keys.pages[1]


def test_all_of_it_may_be_wanted_and_the_next_command_asks_again() -> None:
    keys = Keys(b"c", b"c")
    pages = pager(keys)
    pages.show("\n".join("abcdefghijkl"))
    assert len(keys.pages) == 2
    pages.begin()
    pages.show("\n".join("abcdefghijkl"))
    assert len(keys.pages) == 3


def test_what_nobody_wants_to_see_is_not_made(hello: Session) -> None:
    made = []

    def lines() -> Iterator[str]:
        for number in range(1_000_000):
            made.append(number)
            yield str(number)

    TerminalScreen(hello, pager(Keys(b"q"))).show(Lines(lines))
    assert len(made) < 1000


@pytest.mark.parametrize(
    "line",
    ["disassemble kmain 40", "x/9i $rip", "stepi", "info registers", "display/i $pc", "info gdt", "help break", "info tc"],
)
def test_colours_change_no_text(hello: Session, table: CommandTable, line: str) -> None:
    result = table.execute(hello, line)
    assert ESCAPES.sub("", coloured(result, str(result))) == str(result)


def test_what_instructions_do_has_its_colour(hello: Session, table: CommandTable) -> None:
    shown = coloured(None, "0x10 <a+0x1>")
    assert shown == "\x1b[34m0x10\x1b[0m \x1b[33m<a+0x1>\x1b[0m"
    result = table.execute(hello, "x/1i boot_entry32")
    assert "\x1b[1;31mcli\x1b[0m" in coloured(result, str(result)), "a privileged one"


def test_there_are_no_colours_in_a_pipe_or_if_somebody_wants_none(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert wanted(Terminal()) and not wanted(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not wanted(Terminal())
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not wanted(Terminal())
