"""The table: from lines to calls, with made-up commands."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Literal

import pytest

from dbgvmm.commands import CommandError, CommandTable, Session
from dbgvmm.commands.parameters import Address, Count, Format
from dbgvmm.commands.table import AnyCommand, command

ONE = Count(1)


@command("info apples", aliases=("apples",))
def info_apples(session: Session) -> str:
    """Count the apples."""
    return "7 apples"


@command("info pears")
def info_pears(session: Session) -> str:
    """Count the pears."""
    return "3 pears"


@command("pick", aliases=("p",), repeats=True)
def pick(session: Session, where: Address, count: Count = ONE) -> str:
    """Pick COUNT."""
    return f"{count} at {where:#x}"


@command("sort")
def sort(session: Session, fmt: Format, order: Literal["up", "down"], *number: Count) -> str:
    """Sort them."""
    return f"{fmt} {order} {list(number)}"


@command("weigh", aliases=("w a",))
def weigh(session: Session, what: Address, *, heavy: bool = False, than: Address | None = None) -> str:
    """Weigh WHAT."""
    return str(what)


@pytest.fixture
def fruit() -> CommandTable:
    return CommandTable(lambda: [info_apples, info_pears, pick, sort, weigh])


@pytest.mark.parametrize(
    ("line", "result"),
    [
        ("info apples", "7 apples"),
        ("apples", "7 apples"),
        ("i a", "7 apples"),
        ("in pe", "3 pears"),
        ("pick 0x10", "1 at 0x10"),
        ("p 16 0x3", "3 at 0x10"),
        ("weigh 2 + 4", "6"),
        ("sort/4xg up 1 2", "4xg up [1, 2]"),
        ("sort /b down", "b down []"),
        ("sort up", " up []"),
        ("  # nothing", None),
        ("", None),
    ],
)
def test_a_line_runs_its_command(fruit: CommandTable, hello: Session, line: str, result: str | None) -> None:
    assert fruit.execute(hello, line) == result


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("info", "info goes with apples, pears"),
        ("info plums", "info goes with apples, pears"),
        ("plums", "no command 'plums'"),
        ("pick", "WHERE is missing; usage: pick WHERE [COUNT]"),
        ("pick 1 2 3", "'3' is too much"),
        ("pick 1 0", "above 0"),
        ("pick/x 1", "takes no /FMT"),
        ("sort/ up", "format is missing"),
        ("sort sideways", "none of up, down"),
        ("pick 'x", "close the quotes"),
        ("/x", "name is missing"),
    ],
)
def test_a_line_that_is_wrong_gives_one_clear_line(fruit: CommandTable, hello: Session, line: str, words: str) -> None:
    with pytest.raises(CommandError) as caught:
        fruit.execute(hello, line)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_shortened_name_that_fits_two_commands_is_refused(hello: Session) -> None:
    with pytest.raises(CommandError, match="could be info apples, info apricots"):

        @command("info apricots")
        def info_apricots(session: Session) -> str:
            """Count them."""
            return ""

        CommandTable(lambda: [info_apples, info_apricots]).execute(hello, "info ap")


def test_a_name_whose_last_word_is_typed_whole_is_not_shortened(hello: Session) -> None:
    @command("info ap")
    def info_ap(session: Session) -> str:
        """Count them."""
        return "none"

    assert CommandTable(lambda: [info_apples, info_ap]).execute(hello, "i ap") == "none"


def test_two_commands_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="apples"):

        @command("apples")
        def other(session: Session) -> str:
            """Another."""
            return ""

        assert CommandTable(lambda: [info_apples, other]).commands


def test_commands_that_could_not_be_loaded_are_loaded_the_next_time() -> None:
    """Ctrl-C at the first command of a prompt: the others must be there afterwards."""
    tries: list[bool] = []

    def load() -> Iterator[AnyCommand]:
        yield info_apples
        tries.append(True)
        if len(tries) == 1:
            raise KeyboardInterrupt
        yield pick

    table = CommandTable(load)
    with pytest.raises(KeyboardInterrupt):
        table.understand("pick")
    assert table.commands == (info_apples, pick)
    assert table.understand("pick") is not None


def test_commands_are_loaded_when_the_first_one_is_wanted() -> None:
    """A run of a guest takes no command. `import dbgvmm.commands.…` of one family loads no other."""
    code = (
        "import sys; from dbgvmm.commands import command_table; from dbgvmm.commands.time import info_time; "
        "table = command_table(); assert 'dbgvmm.commands.tc' not in sys.modules; "
        "assert table.commands; assert 'dbgvmm.commands.tc' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("inf", ["info"]),
        ("info ", ["apples", "pears"]),
        ("info p", ["pears"]),
        ("sort d", ["down"]),
        ("sort/4xg d", ["down"]),
        ("sort /4xg d", ["down"]),
        ("pick kmai", ["kmain"]),
        ("pick 4+console_p", ["4+console_putc"]),
        ("pick $ri", ["$rip"]),
        ("plums ", []),
        ("weigh --", ["--heavy", "--json", "--than"]),
        ("weigh --than kmai", ["kmain"]),
        ("weigh --heavy kmai", ["kmain"]),
        ("weigh --than 1 kmai", ["kmain"]),
        ("weigh --json kmai", ["kmain"]),
    ],
)
def test_completion_knows_names_choices_registers_and_symbols(
    fruit: CommandTable, hello: Session, line: str, found: list[str]
) -> None:
    assert fruit.complete(hello, line) == found


def test_a_command_can_be_called_from_python(hello: Session) -> None:
    assert pick(hello, Address(5), Count(2)) == "2 at 0x5"


def test_the_usage_shows_what_may_be_left_out() -> None:
    assert pick.usage == "pick WHERE [COUNT]"
    assert sort.usage == "sort[/FMT] ORDER [NUMBER...]"
