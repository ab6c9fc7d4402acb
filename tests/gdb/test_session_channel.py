"""The process of gdb: hung, gone, not there. In place of gdb, a script that does as it is told."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import pytest

from dbgvmm.gdb.channel import Channel
from dbgvmm.gdb.errors import CommandFailed, GdbGone, GdbMissing, TimedOut

FakeGdb = Callable[[str], str]


@pytest.fixture
def fake(tmp_path: Path) -> FakeGdb:
    """`fake(body)`: a program that runs `body` for each line (without its end) that comes in."""

    def make(body: str) -> str:
        path = tmp_path / "gdb"
        lines = "\n".join(f"    {line}" for line in body.splitlines())
        path.write_text(
            f"#!{sys.executable}\nimport os, signal, sys, time\n"
            f"def say(text):\n    sys.stdout.write(text + '\\n')\n    sys.stdout.flush()\n"
            f"for line in sys.stdin:\n    line = line.rstrip()\n{lines}\n"
        )
        path.chmod(0o755)
        return str(path)

    return make


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_missing_gdb_is_said_with_what_to_install() -> None:
    with pytest.raises(GdbMissing, match="gdb-that-is-not-there is not installed.*apt-get install gdb"):
        Channel("gdb-that-is-not-there")


def test_an_answer_comes_in_pieces_and_late(fake: FakeGdb) -> None:
    channel = Channel(fake("sys.stdout.write('1^done,val'); sys.stdout.flush(); time.sleep(0.2); say('ue=\"5\"')"))
    assert channel.ask("-x", 5).fields == {"value": "5"}
    channel.close()


def test_an_error_has_gdbs_words_and_what_was_printed(fake: FakeGdb) -> None:
    channel = Channel(fake("say('@\"frob?\\\\n\"'); say('1^error,msg=\"No symbol \\\\\"x\\\\\".\"')"))
    with pytest.raises(CommandFailed, match='No symbol "x"') as caught:
        channel.ask("-x", 5)
    assert (caught.value.command, caught.value.text, caught.value.output) == ("-x", 'No symbol "x".', "frob?\n")
    channel.close()


def test_a_gdb_that_does_not_answer_is_waited_for_as_long_as_was_said(fake: FakeGdb) -> None:
    channel = Channel(fake("if line.startswith('2'): say('1^done,value=\"late\"'); say('2^done,value=\"2\"')"))
    before = monotonic()
    with pytest.raises(TimedOut, match="gdb has not answered `-first` within 0.3 s"):
        channel.ask("-first", 0.3)
    assert 0.3 <= monotonic() - before < 3
    assert channel.ask("-second", 5).fields == {"value": "2"}, "its late answer must not be taken for another's"
    channel.close()


def test_a_gdb_that_ends_is_noticed_at_once_with_its_last_words(fake: FakeGdb) -> None:
    channel = Channel(fake("say('out of memory'); sys.exit(3)"))
    before = monotonic()
    with pytest.raises(GdbGone, match="gdb has ended with status 3: out of memory"):
        channel.ask("-x", 30)
    assert monotonic() - before < 5
    with pytest.raises(GdbGone, match="it cannot be given `2-y`"):
        channel.ask("-y", 30)
    channel.close()


def test_a_gdb_that_hangs_is_killed_in_the_end(fake: FakeGdb, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dbgvmm.gdb.channel._LAST_WORDS_SECONDS", 0.2)
    channel = Channel(fake("signal.signal(signal.SIGTERM, signal.SIG_IGN); say('1^done'); time.sleep(1000)"))
    channel.ask("-x", 5)
    channel.close()
    assert gone(channel.pid)


def test_a_gdb_that_is_full_of_output_can_leave(fake: FakeGdb) -> None:
    channel = Channel(fake("say('1^done'); say('~\"' + 'x' * 1_000_000 + '\"')"))
    channel.ask("-x", 5)
    before = monotonic()
    channel.close()
    channel.close()
    assert gone(channel.pid)
    assert monotonic() - before < 3
