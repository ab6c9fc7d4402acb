"""After a reply the listener stays awake for a moment, since the next packet mostly follows at once."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterator
from time import thread_time

import pytest

from gdbstub import Connected, Listener, Received

RealPoll = select.poll
WAIT = 0.3


class RecordingPoll:
    """`select.poll`, whose waits in milliseconds are written down."""

    def __init__(self) -> None:
        self._poll = RealPoll()
        self.register, self.unregister = self._poll.register, self._poll.unregister
        self.waits: list[float | None] = []

    def poll(self, wait: float | None) -> list[tuple[int, int]]:
        self.waits.append(wait)
        return self._poll.poll(wait)


class Connection:
    """A listener with a debugger that has connected."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.poller = RecordingPoll()
        monkeypatch.setattr(select, "poll", lambda: self.poller)
        self.listener = Listener("0")
        self.debugger = self.connect()
        (event,) = self.listener.poll(5)
        assert isinstance(event, Connected)

    def connect(self) -> socket.socket:
        host, port = self.listener.address.rsplit(":", 1)
        return socket.create_connection((host, int(port)), timeout=5)

    def waits(self, timeout: float) -> list[float | None]:
        """How one `poll`, to which nothing comes, waits."""
        self.poller.waits.clear()
        assert self.listener.poll(timeout) == []
        return self.poller.waits

    def close(self) -> None:
        self.debugger.close()
        self.listener.close()


@pytest.fixture
def connection(monkeypatch: pytest.MonkeyPatch) -> Iterator[Connection]:
    connection = Connection(monkeypatch)
    yield connection
    connection.close()


def test_the_first_wait_after_a_reply_begins_awake_and_only_that(connection: Connection) -> None:
    assert connection.waits(0.001) == [1]
    connection.listener.send(b"+")
    awake = connection.waits(0.001)
    assert len(awake) > 1
    assert {*awake[:-1]} == {0}
    assert awake[-1] == pytest.approx(0.9)
    assert connection.waits(0.001) == [1]


def test_a_poll_that_may_not_wait_does_not_and_leaves_it_to_the_next(connection: Connection) -> None:
    connection.listener.send(b"+")
    assert connection.waits(0.0) == [0]
    assert len(connection.waits(0.001)) > 1


def test_a_debugger_that_is_silent_costs_no_processor(connection: Connection) -> None:
    connection.listener.send(b"+")
    before = thread_time()
    assert connection.listener.poll(WAIT) == []
    assert thread_time() - before < WAIT / 3


def test_while_it_is_awake_a_debugger_on_the_same_processor_may_run(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_yield", lambda: connection.debugger.sendall(b"$g#67"))
    connection.listener.send(b"+")
    connection.poller.waits.clear()
    (event,) = connection.listener.poll(WAIT)
    assert isinstance(event, Received)
    assert event.data.startswith(b"$g#67")
    assert {*connection.poller.waits} == {0}


def test_what_comes_while_it_is_awake_is_taken_without_sleeping(connection: Connection) -> None:
    connection.listener.send(b"+")
    connection.debugger.sendall(b"$g#67\x03")
    select.select(connection.listener.filenos(), [], [], 5)
    connection.poller.waits.clear()
    assert connection.listener.poll(5) == [Received(b"$g#67\x03")]
    assert connection.poller.waits == [0]


def test_a_second_debugger_is_turned_away_although_the_first_keeps_it_awake(connection: Connection) -> None:
    connection.listener.send(b"+")
    with connection.connect() as second:
        connection.debugger.sendall(b"$g#67")
        assert connection.listener.poll(5) == [Received(b"$g#67")]
        assert second.recv(1) == b""
