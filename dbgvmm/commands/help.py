"""`help`, made for a table of commands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dbgvmm.commands.columns import columns
from dbgvmm.commands.errors import CommandError
from dbgvmm.commands.session import Session
from dbgvmm.commands.table import AnyCommand, CommandTable, command


@dataclass(frozen=True)
class Help:
    """Commands to be explained: all of them shortly, or a few at length."""

    commands: tuple[AnyCommand, ...]
    at_length: bool

    def __str__(self) -> str:
        if not self.at_length:
            rows = [(item.usage, item.summary) for item in self.commands]
            return columns(rows) + "\n\nWords may be shortened (`i r`); `help COMMAND` says more."
        return "\n\n".join(self._long(item) for item in self.commands)

    @staticmethod
    def _long(item: AnyCommand) -> str:
        aliases = f"\nalso: {', '.join(item.aliases)}" if item.aliases else ""
        return f"{item.usage}{aliases}\n{item.help}"


def help_command(find_table: Callable[[], CommandTable]) -> AnyCommand:
    """The `help` command for the table that `find_table` gives (it is in that table itself)."""

    @command("help", aliases=("h", "?"))
    def help_(session: Session, *word: str) -> Help:
        """List the commands, or explain those that begin with these WORDs."""
        table = find_table()
        if not word:
            return Help(table.commands, False)
        name = " ".join(word)
        exact = [item for item in table.commands if name == item.name or name in item.aliases]
        found = exact or [item for item in table.commands if item.name.startswith(name)]
        if not found:
            call = table.understand(name)
            if call is None:
                raise CommandError(f"there is no command {name!r}: `help` lists them")
            found = [call.command]
        return Help(tuple(found), True)

    return help_
