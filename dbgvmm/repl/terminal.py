"""Lines from a person at a terminal, with history, completion and the status line (prompt_toolkit)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.input import Input
from prompt_toolkit.output import Output

from dbgvmm.commands import CommandTable, Session
from dbgvmm.repl.loop import DebuggerArrived
from dbgvmm.repl.status import status_line

_PROMPT = "(dbgvmm) "
_MOST_COMPLETIONS = 500


def history_path() -> Path:
    """Where lines are kept: below XDG_STATE_HOME (~/.local/state)."""
    base = os.environ.get("XDG_STATE_HOME", "")
    state = Path(base) if base.startswith("/") else Path.home() / ".local" / "state"
    return state / "dbgvmm" / "history"


def _history() -> History:
    path = history_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("ab").close()
    except OSError:
        # A home that cannot be written to is no reason to have no REPL.
        return InMemoryHistory()
    return FileHistory(str(path))


class TableCompleter(Completer):
    """Completion from the command table."""

    def __init__(self, table: CommandTable, session: Session) -> None:
        self._table = table
        self._session = session

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """Ways to finish the word before the cursor."""
        line = document.text_before_cursor
        typed = 0 if line[-1:].isspace() or not line else len(line.split()[-1])
        for text in self._table.complete(self._session, line)[:_MOST_COMPLETIONS]:
            yield Completion(text, start_position=-typed)


class TerminalReader:
    """Prompts on the terminal. `others`: descriptors of the gdb server, which end the prompt when they are ready."""

    def __init__(
        self,
        session: Session,
        table: CommandTable,
        others: Callable[[], Sequence[int]] = tuple,
        *,
        input: Input | None = None,
        output: Output | None = None,
        history: History | None = None,
    ) -> None:
        self._others = others
        self._prompt: PromptSession[str] = PromptSession(
            history=history if history is not None else _history(),
            completer=TableCompleter(table, session),
            complete_while_typing=False,
            bottom_toolbar=lambda: status_line(session),
            input=input,
            output=output,
        )

    def read_line(self) -> str | None:
        """The next line; None after Ctrl-D. Ctrl-C clears the line."""
        while True:
            try:
                return self._prompt.prompt(_PROMPT, pre_run=self._watch_others)
            except KeyboardInterrupt:
                continue
            except EOFError:
                return None

    def _watch_others(self) -> None:
        loop = asyncio.get_running_loop()
        for fileno in self._others():
            loop.add_reader(fileno, self._give_way)

    def _give_way(self) -> None:
        app = self._prompt.app
        if app.is_running and not app.is_done:
            app.exit(exception=DebuggerArrived())
