"""docs/commands.md, from the commands' docstrings: `python -m dbgvmm.commands.reference > docs/commands.md`."""

from __future__ import annotations

import inspect
import sys

from dbgvmm.commands import command_table, families, family_commands
from dbgvmm.commands.table import AnyCommand

_HEAD = """\
# Commands

The same commands work at the prompt (`dbgvmm run --repl`), in gdb (`monitor COMMAND`), in files (`--command FILE`), and
from Python: each is a function of its module that takes a `Session` and returns data whose `str` is what is shown here.

    from dbgvmm.commands import Session
    from dbgvmm.commands.registers import info_registers
    print(hex(info_registers(Session(machine)).rip))

Words may be shortened as long as one command fits (`i r`). Numbers are decimal, or hexadecimal with 0x; wherever a
number or an address is wanted, an expression will do (`help print`): `$rsp+8`, `kmain+0x10`, `*rbp`; blanks may be in it
if it comes last. [Brackets] mark what may be left out. `--json` behind any command shows its data instead of its text.

This page is made by `python -m dbgvmm.commands.reference`.
"""


def reference() -> str:
    """The whole page."""
    sections = [_HEAD]
    for family in families():
        title = inspect.cleandoc(family.__doc__ or "").partition(":")[0].partition(".")[0]
        sections.append(f"## {title}\n")
        sections += [_entry(item) for item in family_commands(family)]
    sections.append("## Files of commands, help\n")
    sections += [_entry(item) for item in command_table().commands if item.name in ("source", "help")]
    return "\n".join(sections)


def _entry(item: AnyCommand) -> str:
    notes = []
    if item.aliases:
        notes.append("also " + ", ".join(f"`{alias}`" for alias in item.aliases))
    if item.resumes:
        notes.append("runs the guest")
    if item.repeats:
        notes.append("an empty line does it again")
    note = f"\n\n({'; '.join(notes)})" if notes else ""
    return f"### `{item.usage}`\n\n{item.help}{note}\n"


if __name__ == "__main__":
    sys.stdout.write(reference())
