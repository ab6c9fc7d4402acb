"""The listening socket."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from gdbstub import Connected, Disconnected, Listener, Received, TransportError, TransportEvent


@pytest.fixture
def listener() -> Iterator[Listener]:
    with Listener("0") as listener:
        yield listener


def connect(listener: Listener) -> socket.socket:
    host, port = listener.address.rsplit(":", 1)
    return socket.create_connection((host.strip("[]"), int(port)), timeout=5)


def poll(listener: Listener) -> TransportEvent:
    (event,) = listener.poll(timeout=5)
    return event


def test_a_bare_port_is_on_this_machine_only(listener: Listener) -> None:
    assert listener.address.startswith("127.0.0.1:")
    assert not listener.address.endswith(":0")


def test_polling_without_anything_to_do_returns_at_once(listener: Listener) -> None:
    assert listener.poll() == []
    assert not listener.connected


def test_a_connection_its_data_and_its_end_are_events(listener: Listener) -> None:
    with connect(listener) as debugger:
        assert isinstance(poll(listener), Connected)
        assert listener.connected
        debugger.sendall(b"+$?#3f")
        assert poll(listener) == Received(b"+$?#3f")
        listener.send(b"+$S05#b8")
        assert debugger.recv(100) == b"+$S05#b8"
    assert isinstance(poll(listener), Disconnected)
    assert not listener.connected


def test_data_sent_right_before_the_end_is_not_lost(listener: Listener) -> None:
    debugger = connect(listener)
    poll(listener)
    debugger.sendall(b"$k#6b")
    debugger.close()
    events = listener.poll(5)
    while not isinstance(events[-1], Disconnected):
        events += listener.poll(5)
    assert events[0] == Received(b"$k#6b")


def test_a_second_debugger_is_turned_away_and_may_come_when_the_first_has_gone(listener: Listener) -> None:
    with connect(listener) as first:
        poll(listener)
        with connect(listener) as second:
            assert listener.poll(5) == []
            assert second.recv(1) == b""
        first.sendall(b"x")
        assert poll(listener) == Received(b"x")
    poll(listener)
    with connect(listener):
        assert isinstance(poll(listener), Connected)


def test_one_that_has_gone_and_the_next_are_not_in_one_poll(listener: Listener) -> None:
    """Whoever takes leave of the first by `disconnect` must not hang up on the second."""
    with connect(listener):
        poll(listener)
    with connect(listener) as second:
        assert isinstance(poll(listener), Disconnected)
        listener.disconnect()
        assert isinstance(poll(listener), Connected)
        second.sendall(b"x")
        assert poll(listener) == Received(b"x")


def test_its_descriptors_tell_when_there_is_something_to_do(listener: Listener) -> None:
    assert len(listener.filenos()) == 1
    with connect(listener) as debugger:
        assert select.select(listener.filenos(), [], [], 5)[0]
        poll(listener)
        assert len(listener.filenos()) == 2
        assert not select.select(listener.filenos(), [], [], 0)[0]
        debugger.sendall(b"x")
        assert select.select(listener.filenos(), [], [], 5)[0]


def test_a_large_reply_is_sent_in_full(listener: Listener) -> None:
    data = bytes(range(256)) * 400
    with connect(listener) as debugger:
        poll(listener)
        listener.send(data)
        received = b""
        while len(received) < len(data):
            received += debugger.recv(1 << 16)
        assert received == data


def test_sending_to_a_debugger_that_has_gone_ends_in_a_disconnection(listener: Listener) -> None:
    debugger = connect(listener)
    poll(listener)
    debugger.close()
    for _ in range(100):
        listener.send(b"x" * 1000)
    assert isinstance(listener.poll(5)[-1], Disconnected)
    listener.send(b"dropped")


def test_disconnecting_closes_the_debuggers_end(listener: Listener) -> None:
    with connect(listener) as debugger:
        poll(listener)
        listener.disconnect()
        assert debugger.recv(1) == b""
        assert listener.poll() == []


def test_a_port_in_use_is_an_error_that_says_what_to_do(listener: Listener) -> None:
    with pytest.raises(TransportError, match="stop the program that has it, or choose another port"):
        Listener(listener.address)


@pytest.mark.parametrize("address", ["", "x", "localhost", "1:2:3", "tcp::1234", "127.0.0.1:65536", "-1", "unix:"])
def test_a_malformed_address_is_an_error_that_gives_the_forms(address: str) -> None:
    with pytest.raises(TransportError, match="give PORT, HOST:PORT or unix:PATH"):
        Listener(address)


def test_a_unix_socket_serves_and_is_removed_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "gdb.sock"
    with Listener(f"unix:{path}") as listener:
        assert listener.address == str(path)
        with socket.socket(socket.AF_UNIX) as debugger:
            debugger.connect(str(path))
            assert poll(listener) == Connected("a local process")
            debugger.sendall(b"+")
            assert poll(listener) == Received(b"+")
    assert not path.exists()


def test_a_unix_socket_left_by_a_dead_program_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "gdb.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with Listener(f"unix:{path}") as listener:
        assert not listener.connected


def test_a_unix_socket_in_use_or_another_file_is_left_alone(tmp_path: Path) -> None:
    path, other = tmp_path / "gdb.sock", tmp_path / "file"
    other.write_text("kept")
    with Listener(f"unix:{path}"):
        with pytest.raises(TransportError, match="choose another path"):
            Listener(f"unix:{path}")
        assert path.exists()
    with pytest.raises(TransportError, match="choose another path"):
        Listener(f"unix:{other}")
    assert other.read_text() == "kept"


def test_a_debugger_that_comes_right_after_the_end_of_another_is_taken(listener: Listener) -> None:
    first = connect(listener)
    poll(listener)
    first.sendall(b"$m10")
    first.close()
    with connect(listener):
        events = listener.poll(5)
        while not isinstance(events[-1], Connected):
            events += listener.poll(5)
        assert [type(event) for event in events] == [Received, Disconnected, Connected]
