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
from dbgvmm.commands.words import typed_words
from dbgvmm.repl.loop import GivesWay
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
        typed = len(typed_words(line)[-1])
        for text in self._table.complete(self._session, line)[:_MOST_COMPLETIONS]:
            yield Completion(text, start_position=-typed)


class TerminalReader:
    """Prompts on the terminal.

    others: descriptors of the gdb server. serve: called when one is ready; it does what can be done while the prompt is
    there, and says whether the prompt has to give way. What was typed by then is there again at the next prompt.
    """

    def __init__(
        self,
        session: Session,
        table: CommandTable,
        others: Callable[[], Sequence[int]] = tuple,
        serve: Callable[[], bool] = lambda: True,
        *,
        input: Input | None = None,
        output: Output | None = None,
        history: History | None = None,
    ) -> None:
        self._others = others
        self._serve = serve
        self._watched: tuple[int, ...] = ()
        self._typed = Document()
        self._prompt: PromptSession[str] = PromptSession(
            history=history if history is not None else _history(),
            completer=TableCompleter(table, session),
            complete_while_typing=False,
            enable_history_search=True,  # the arrow keys go through the lines that begin with what is typed
            bottom_toolbar=lambda: status_line(session),
            input=input,
            output=output,
        )

    def read_line(self) -> str | None:
        """The next line; None after Ctrl-D. Ctrl-C clears the line."""
        while True:
            try:
                return self._prompt.prompt(_PROMPT, pre_run=self._begin)
            except KeyboardInterrupt:
                continue
            except EOFError:
                return None

    def _begin(self) -> None:
        if self._typed.text:
            self._prompt.default_buffer.document, self._typed = self._typed, Document()
        self._watch()

    def _watch(self) -> None:
        """Look at the descriptors that there are now."""
        loop = asyncio.get_running_loop()
        self._watched = tuple(self._others())
        for fileno in self._watched:
            loop.add_reader(fileno, self._ready)

    def _ready(self) -> None:
        loop = asyncio.get_running_loop()
        for fileno in self._watched:
            loop.remove_reader(fileno)  # serving may close them
        self._watched = ()
        app = self._prompt.app
        if not app.is_running or app.is_done:
            return
        if self._serve():
            self._typed = self._prompt.default_buffer.document
            app.exit(exception=GivesWay())
        else:
            self._watch()
            app.invalidate()
