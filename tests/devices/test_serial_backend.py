from __future__ import annotations

import os
import pty
import select
import socket
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from dbgvmm.devices.serial_backend import ConsoleKeys, SerialBackend, SerialError, open_serial
from dbgvmm.devices.serial_backend.escape import EscapeFilter
from dbgvmm.devices.serial_backend.sockets import BACKLOG_LIMIT, SocketSerial, listen_tcp
from dbgvmm.devices.serial_backend.stdio import StdioSerial

NO_KEYS = ConsoleKeys(lambda: None, lambda: None)


@pytest.fixture
def tcp() -> Iterator[SocketSerial]:
    backend = listen_tcp("127.0.0.1", 0)
    yield backend
    backend.close()


def connect(backend: SocketSerial) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", backend.port), timeout=5)
    wait_until_ready(backend)
    backend.poll()
    assert backend.connected
    return client


def wait_for_input(backend: SerialBackend) -> bytes:
    while not (data := backend.poll()):
        wait_until_ready(backend)
    return data


def wait_until_ready(backend: SerialBackend) -> None:
    fd = backend.fileno()
    assert fd is not None
    assert select.select([fd], [], [], 5)[0], "nothing came in five seconds"


@pytest.mark.parametrize(
    "spec", ["", "stdout", "null:", "stdio:1", "file:", "unix:", "tcp", "tcp:", "tcp:host", "tcp::x", "tcp:h:70000"]
)
def test_a_bad_spec_is_one_clear_line(spec: str) -> None:
    with pytest.raises(SerialError, match="use ") as caught:
        open_serial(spec)
    assert "\n" not in str(caught.value)


def test_null_takes_everything_and_gives_nothing() -> None:
    backend = open_serial("null")
    backend.write(b"x")
    assert backend.poll() == b""
    assert backend.fileno() is None
    backend.close()


def test_a_file_holds_what_was_sent_even_before_it_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "serial.log"
    path.write_bytes(b"old")
    backend = open_serial(f"file:{path}")
    backend.write(b"hello")
    assert path.read_bytes() == b"hello"
    backend.close()


def test_a_file_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SerialError, match="cannot write serial output"):
        open_serial(f"file:{tmp_path}/missing/serial.log")


def test_tcp_carries_bytes_both_ways(tcp: SocketSerial) -> None:
    with connect(tcp) as client:
        tcp.write(b"from guest")
        assert client.recv(100) == b"from guest"
        client.sendall(b"to guest")
        assert wait_for_input(tcp) == b"to guest"


def test_tcp_keeps_what_was_sent_before_a_client_came(tcp: SocketSerial) -> None:
    tcp.write(b"boot messages")
    with connect(tcp) as client:
        assert client.recv(100) == b"boot messages"


def test_tcp_keeps_only_the_newest_output_when_nobody_reads(tcp: SocketSerial) -> None:
    tcp.write(b"old")
    tcp.write(b"n" * BACKLOG_LIMIT)
    with connect(tcp) as client:
        assert client.recv(100)[:3] == b"nnn"


def test_tcp_takes_a_new_client_after_one_left(tcp: SocketSerial) -> None:
    connect(tcp).close()
    wait_until_ready(tcp)
    assert tcp.poll() == b""
    assert not tcp.connected
    with connect(tcp) as client:
        tcp.write(b"again")
        assert client.recv(100) == b"again"


def test_tcp_waits_for_nobody(tcp: SocketSerial) -> None:
    assert tcp.poll() == b""
    assert not tcp.connected


def test_tcp_without_a_host_listens_on_the_loopback_only() -> None:
    backend = open_serial("tcp::0")
    assert isinstance(backend, SocketSerial)
    connect(backend).close()
    backend.close()
    assert backend.fileno() is None


def test_a_taken_tcp_port_is_an_error(tcp: SocketSerial) -> None:
    with pytest.raises(SerialError, match="cannot listen"):
        open_serial(f"tcp:127.0.0.1:{tcp.port}")


def test_unix_carries_bytes_and_removes_its_name(tmp_path: Path) -> None:
    path = tmp_path / "serial"
    backend = open_serial(f"unix:{path}")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(b"hi")
        assert wait_for_input(backend) == b"hi"
    backend.close()
    assert not path.exists()


def test_a_stale_unix_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "serial"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    open_serial(f"unix:{path}").close()


def test_a_unix_socket_in_use_is_not_taken(tmp_path: Path) -> None:
    first = open_serial(f"unix:{tmp_path}/serial")
    with pytest.raises(SerialError, match="another process listens"):
        open_serial(f"unix:{tmp_path}/serial")
    first.close()


def test_a_file_in_the_place_of_a_unix_socket_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(SerialError, match="is not a socket"):
        open_serial(f"unix:{path}")
    assert path.read_text() == "data"


def test_a_pipe_passes_every_byte_and_its_end_is_the_end_of_input() -> None:
    input_read, input_write = os.pipe()
    output_read, output_write = os.pipe()
    backend = StdioSerial(NO_KEYS, input_read, output_write)
    os.write(input_write, b"\x01x\x03")
    assert backend.poll() == b"\x01x\x03"
    backend.write(b"out")
    assert os.read(output_read, 100) == b"out"
    os.close(input_write)
    assert backend.poll() == b""
    assert backend.fileno() is None
    backend.close()
    for fd in (input_read, output_read, output_write):
        os.close(fd)


def test_output_to_a_closed_pipe_is_dropped() -> None:
    input_read, input_write = os.pipe()
    output_read, output_write = os.pipe()
    os.close(output_read)
    backend = StdioSerial(NO_KEYS, input_read, output_write)
    backend.write(b"nobody")
    backend.write(b"reads this")
    backend.close()
    for fd in (input_read, input_write, output_write):
        os.close(fd)


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    controller, terminal = pty.openpty()
    yield controller, terminal
    os.close(controller)
    os.close(terminal)


def test_a_terminal_is_raw_until_it_is_closed(terminal: tuple[int, int]) -> None:
    _, tty = terminal
    before = termios.tcgetattr(tty)
    backend = StdioSerial(NO_KEYS, tty, tty)
    raw_local_modes = termios.tcgetattr(tty)[3]
    assert not raw_local_modes & (termios.ECHO | termios.ICANON | termios.ISIG)
    backend.close()
    assert termios.tcgetattr(tty) == before


def test_suspend_lends_the_terminal_and_resume_takes_it_back(terminal: tuple[int, int]) -> None:
    _, tty = terminal
    backend = StdioSerial(NO_KEYS, tty, tty)
    backend.suspend()
    assert termios.tcgetattr(tty)[3] & termios.ICANON
    backend.resume()
    assert not termios.tcgetattr(tty)[3] & termios.ICANON
    backend.close()


def test_the_guest_gets_control_c_from_a_terminal_and_escape_keys_are_ours(terminal: tuple[int, int]) -> None:
    controller, tty = terminal
    pressed: list[str] = []
    keys = ConsoleKeys(lambda: pressed.append("leave"), lambda: pressed.append("repl"))
    backend = StdioSerial(keys, tty, tty)
    os.write(controller, b"\x03\x01c\x01xok")
    assert wait_for_input(backend) == b"\x03ok"
    assert pressed == ["repl", "leave"]
    backend.close()


def test_escape_a_sends_control_a_and_other_keys_send_nothing() -> None:
    assert EscapeFilter(NO_KEYS).feed(b"a\x01\x01b\x01qc") == b"a\x01bc"


def test_an_escape_sequence_may_come_in_pieces() -> None:
    pressed: list[str] = []
    escape = EscapeFilter(ConsoleKeys(lambda: pressed.append("leave"), lambda: None))
    assert escape.feed(b"a\x01") == b"a"
    assert escape.feed(b"xb") == b"b"
    assert pressed == ["leave"]


def test_control_c_is_the_guests_unless_somebody_takes_it() -> None:
    taken = []

    def take() -> bool:
        taken.append("^C")
        return True

    assert EscapeFilter(NO_KEYS).feed(b"a\x03b") == b"a\x03b"
    escape = EscapeFilter(ConsoleKeys(lambda: None, lambda: None, take))
    assert escape.feed(b"a\x03b\x01\x03c") == b"ab\x03c", "^A ^C sends it"
    assert taken == ["^C"]
