"""The REPL without a terminal: lines in, text out."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from dbgvmm.commands import CommandTable, Session
from dbgvmm.guest_os import GuestOs, OsFinder, Task
from dbgvmm.repl import GivesWay, PlainReader, ReplLoop, TerminalReader, history_path, status_line
from dbgvmm.repl.terminal import TableCompleter


class Lines:
    """Lines to be read, then the end."""

    def __init__(self, *lines: str) -> None:
        self._lines = list(lines)

    def read_line(self) -> str | None:
        return self._lines.pop(0) if self._lines else None


def run(session: Session, table: CommandTable, *lines: str) -> bool:
    return ReplLoop(session, table, Lines(*lines)).interact()


def test_results_and_errors_are_shown_and_the_end_of_input_leaves(
    hello: Session, table: CommandTable, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(hello, table, "print 0x10", "frob", "# a comment", "print 2") is True
    shown = capsys.readouterr()
    assert "0x10" in shown.out
    assert "$2 = 0x2 (2)" in shown.out
    assert shown.err == "error: there is no command 'frob': `help` lists them\n"


def test_quit_leaves_before_the_end_of_input(
    hello: Session, table: CommandTable, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(hello, table, "quit", "print 1") is True
    assert capsys.readouterr().out == ""


def test_an_empty_line_repeats_a_step_but_nothing_else(hello: Session, table: CommandTable) -> None:
    run(hello, table, "stepi 2", "", "", "print 1", "")
    assert hello.machine.count == 6


def test_an_empty_line_after_x_shows_what_follows(
    hello: Session, table: CommandTable, capsys: pytest.CaptureFixture[str]
) -> None:
    run(hello, table, "x/2xg 0x5000", "", "x /1xg 0x6000", "")
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == [
        "0x5000", "0x5010", "0x6000", "0x6008",
    ]  # fmt: skip


def test_a_debugger_that_wants_the_machine_gets_it(hello: Session, table: CommandTable) -> None:
    assert ReplLoop(hello, table, Lines("print 1"), lambda: True).interact() is False


def test_plain_lines_come_from_a_pipe_in_any_pieces() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"one\r\ntw")
    reader = PlainReader(reading)
    assert reader.read_line() == "one"
    os.write(writing, b"o\n\nlast")
    os.close(writing)
    assert [reader.read_line() for _ in range(4)] == ["two", "", "last", None]
    os.close(reading)


def test_a_debugger_ends_the_wait_for_a_plain_line() -> None:
    reading, writing = os.pipe()
    other, knock = os.pipe()
    os.write(knock, b"x")
    with pytest.raises(GivesWay):
        PlainReader(reading, lambda: [other]).read_line()
    for number in (reading, writing, other, knock):
        os.close(number)


def test_the_terminal_gives_lines_and_control_d_ends_them(hello: Session, table: CommandTable) -> None:
    with create_pipe_input() as keys:
        reader = TerminalReader(hello, table, input=keys, output=DummyOutput(), history=InMemoryHistory())
        keys.send_text("info time\n")
        assert reader.read_line() == "info time"
        keys.send_text("half a line\x03print 1\n")
        assert reader.read_line() == "print 1", "Ctrl-C clears the line"
        keys.send_text("\x04")
        assert reader.read_line() is None


def test_a_debugger_ends_the_terminals_prompt(hello: Session, table: CommandTable) -> None:
    other, knock = os.pipe()
    with create_pipe_input() as keys:
        reader = TerminalReader(
            hello, table, lambda: [other], input=keys, output=DummyOutput(), history=InMemoryHistory()
        )
        timer = threading.Timer(0.1, os.write, (knock, b"x"))
        timer.start()
        with pytest.raises(GivesWay):
            reader.read_line()
        timer.join()
    os.close(other)
    os.close(knock)


def test_tab_completes_from_the_table(hello: Session, table: CommandTable) -> None:
    completer = TableCompleter(table, hello)
    found = list(completer.get_completions(Document("info seg"), CompleteEvent()))
    assert [(item.text, item.start_position) for item in found] == [("segments", -3)]


class _Tasks(GuestOs):
    """A system whose running task is known, or is not."""

    name = version = "test"

    def __init__(self, task: Task | None) -> None:
        self._task = task

    def present(self) -> bool:
        return True

    def current_task(self) -> Task | None:
        return super().current_task() if self._task is None else self._task


def test_the_status_line_names_the_task_of_a_system_that_is_known(hello: Session) -> None:
    sh = Task(17, 17, 1, "sh", "R", False, None, 0, 0, True)
    for task, shown in ((sh, True), (None, False)):
        finder = hello.machine.os_finder = OsFinder(hello.machine, (lambda machine, task=task: _Tasks(task),))
        assert "sh (17)" not in status_line(hello), "nothing is looked for"
        finder.current()
        assert (" CPL 0 | sh (17) | nothing has run yet" in status_line(hello)) is shown


def test_the_status_line_says_where_the_guest_is_and_why(hello: Session, table: CommandTable) -> None:
    assert status_line(hello).startswith("not started | 0 instructions | 0x10000c <boot_entry32> | protected32 CPL 0")
    run(hello, table, "until kmain")
    assert "stopped" in status_line(hello)
    assert "<kmain> | long64 CPL 0 | breakpoint at" in status_line(hello)
    run(hello, table, "continue")
    assert status_line(hello).startswith("ended")


def test_the_history_is_kept_below_the_state_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert history_path() == tmp_path / "dbgvmm" / "history"
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert history_path() == tmp_path / ".local" / "state" / "dbgvmm" / "history"


def test_a_home_that_cannot_be_written_to_is_no_obstacle(
    hello: Session, table: CommandTable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    with create_pipe_input() as keys:
        keys.send_text("x\n")
        assert TerminalReader(hello, table, input=keys, output=DummyOutput()).read_line() == "x"
