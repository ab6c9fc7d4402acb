"""Whose record is it: tokens, streams, stops; without gdb."""

from __future__ import annotations

from pygdbmi.gdbmiparser import parse_response

from dbgvmm.gdb.records import Answer, Inbox, Record


def put(inbox: Inbox, *lines: str) -> None:
    for line in lines:
        record = Record.parsed(parse_response(line))
        if record is not None:
            inbox.put(record)


def test_an_answer_is_that_with_the_commands_token() -> None:
    inbox = Inbox()
    inbox.expect(7)
    put(inbox, '6^done,value="old"', "^done", '8^done,value="new"')
    assert inbox.take() is None
    put(inbox, '7^done,value="12"')
    assert inbox.take() == Answer("done", {"value": "12"})
    assert inbox.take() is None


def test_an_answer_that_comes_too_late_is_nobodys() -> None:
    inbox = Inbox()
    inbox.expect(1)
    inbox.forget()
    inbox.expect(2)
    put(inbox, '1^done,value="late"', '2^done,value="in time"')
    answer = inbox.take()
    assert answer is not None and answer.fields == {"value": "in time"}


def test_text_before_the_answer_is_the_commands_by_stream() -> None:
    inbox = Inbox()
    inbox.expect(3)
    put(inbox, r'~"of gdb\n"', r'@"of the stub\n"', r'&"a warning\n"', r'~"more\n"', "3^done", "(gdb) ", r'~"later\n"')
    assert inbox.take() == Answer("done", {}, "of gdb\nmore\n", "of the stub\n", "a warning\n")
    assert inbox.take_text() == "later\n"


def test_text_while_the_guest_runs_belongs_to_its_stop() -> None:
    inbox = Inbox()
    inbox.expect(4)
    put(inbox, "4^running", '*running,thread-id="all"', r'@"call 1\n"', r'~"call 2\n"')
    assert inbox.running
    put(inbox, '*stopped,reason="breakpoint-hit",bkptno="1"', r'~"after it\n"')
    stop = inbox.take_stop()
    assert stop == ({"reason": "breakpoint-hit", "bkptno": "1"}, "call 1\ncall 2\n")
    assert not inbox.running
    assert inbox.take_stop() is None


def test_the_guest_runs_from_the_answer_on_not_only_from_the_note_behind_it() -> None:
    inbox = Inbox()
    inbox.expect(4)
    put(inbox, "4^running")
    assert inbox.running


def test_stops_are_kept_in_their_order() -> None:
    inbox = Inbox()
    put(inbox, '*stopped,reason="a"', '*running,thread-id="all"', '*stopped,reason="b"')
    assert [inbox.take_stop(), inbox.take_stop()] == [({"reason": "a"}, ""), ({"reason": "b"}, "")]


def test_stops_that_nobody_took_are_dropped_before_the_guest_is_resumed() -> None:
    inbox = Inbox()
    put(inbox, r'~"old\n"', '*stopped,reason="old"', r'~"old\n"')
    inbox.drop_stops()
    put(inbox, '*stopped,reason="new"')
    assert inbox.take_stop() == ({"reason": "new"}, "")


def test_a_stop_amid_a_command_is_not_its_answer() -> None:
    inbox = Inbox()
    inbox.expect(5)
    put(inbox, '*stopped,reason="signal-received"', r'~"value\n"', "5^done")
    answer = inbox.take()
    assert answer is not None and (answer.message, answer.console) == ("done", "value\n")
    assert inbox.take_stop() is not None


def test_a_target_that_goes_without_a_stop_is_lost() -> None:
    inbox = Inbox()
    put(inbox, '*running,thread-id="all"', '=thread-group-exited,id="i1"')
    assert inbox.lost and not inbox.running


def test_a_guest_that_ends_is_not_lost() -> None:
    inbox = Inbox()
    put(inbox, '=thread-group-exited,id="i1",exit-code="01"', '*stopped,reason="exited",exit-code="01"')
    assert not inbox.lost


def test_other_notes_are_kept() -> None:
    inbox = Inbox()
    put(inbox, '=breakpoint-modified,bkpt={number="1",times="2"}')
    (note,) = inbox.notes
    assert (note.message, note.fields) == ("breakpoint-modified", {"bkpt": {"number": "1", "times": "2"}})
