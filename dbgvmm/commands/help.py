"""`help`, made for a table of commands."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from dbgvmm.commands.columns import columns
from dbgvmm.commands.errors import CommandError
from dbgvmm.commands.session import Session
from dbgvmm.commands.table import AnyCommand, CommandTable, command

_FOOT: Final = "Words may be shortened (`i r`); `help COMMAND` says more, with examples. `--json` behind a command: its data."


@dataclass(frozen=True)
class HelpEntry:
    """What is known of one command."""

    name: str
    usage: str
    aliases: tuple[str, ...]
    summary: str
    text: str
    examples: tuple[str, ...]

    def __str__(self) -> str:
        aliases = f"\nalso: {', '.join(self.aliases)}" if self.aliases else ""
        return f"{self.usage}{aliases}\n{self.text}"


@dataclass(frozen=True)
class Help:
    """Commands to be explained: all of them shortly, or a few at length."""

    commands: tuple[HelpEntry, ...]
    at_length: bool

    def __str__(self) -> str:
        if not self.at_length:
            rows = [(item.usage, item.summary) for item in self.commands]
            return f"{columns(rows)}\n\n{_FOOT}"
        return "\n\n".join(map(str, self.commands))


def _entries(commands: Iterable[AnyCommand]) -> tuple[HelpEntry, ...]:
    return tuple(HelpEntry(one.name, one.usage, one.aliases, one.summary, one.help, one.examples) for one in commands)


def help_command(find_table: Callable[[], CommandTable]) -> AnyCommand:
    """The `help` command for the table that `find_table` gives (it is in that table itself)."""

    @command("help", aliases=("h", "?"))
    def help_(session: Session, *word: str) -> Help:
        """List the commands, or explain those that begin with these WORDs.

        For example:

            help
            help break
            help info
        """
        table = find_table()
        if not word:
            return Help(_entries(table.commands), False)
        name = " ".join(word)
        exact = [item for item in table.commands if name == item.name or name in item.aliases]
        found = exact or [item for item in table.commands if item.name.startswith(name)]
        if not found:
            call = table.understand(name)
            if call is None:
                raise CommandError(f"there is no command {name!r}: `help` lists them")
            found = [call.command]
        return Help(_entries(found), True)

    return help_
