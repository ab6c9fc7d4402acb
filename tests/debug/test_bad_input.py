"""Packets that no debugger sends, to a real machine: an error or nothing, and the guest never notices."""

from __future__ import annotations

import hashlib
import re
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dbgvmm import Machine
from dbgvmm.commands import Session, command_table
from dbgvmm.commands.monitor import Monitor
from dbgvmm.debug.gdb_target import GdbTarget
from dbgvmm.debug.registers import REGISTERS, read_register
from gdbstub import ALL_ROWS, State, Stub
from gdbstub.framing import Packet, PacketReader, checksum, frame

sys.path.insert(0, str(Path(__file__).parents[1] / "fuzz"))

from packet_samples import CHANGES, ENDS_OR_RUNS, SAMPLES, all_samples

BootedMachine = Callable[..., Machine]
KMAIN = 0x106000
HARMLESS = [sample for name, samples in SAMPLES.items() if name not in ENDS_OR_RUNS | CHANGES for sample in samples]
EDGES = (0, 1, 0x7FFF_FFFF_FFFF, 0x8000_0000_0000, 0xFFFF_7FFF_FFFF_FFFF, 1 << 63, (1 << 64) - 16, (1 << 64) - 1, 32 << 20)
LENGTHS = (0, 1, 0x1000, 0x7FFF_FFFF, 1 << 63, (1 << 64) - 1)


def state_of(machine: Machine) -> tuple[object, ...]:
    """All registers, all memory, the time."""
    registers = tuple(read_register(machine, name) for name in REGISTERS)
    return machine.count, registers, hashlib.sha256(machine.ram.bytes).digest()


class Victim:
    """`hello` in front of kmain, with a stub that stays the same from packet to packet."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        machine.breakpoints.add(KMAIN)
        machine.run()
        machine.breakpoints.clear()
        self.target = GdbTarget(machine, Monitor(Session(machine), command_table()))
        self.target.note_stop(machine.last_stop)
        self.before = state_of(machine)
        self.renew()

    def renew(self) -> None:
        """Another debugger."""
        self.stub = Stub(self.target)
        self.target.show = lambda text: self.out.append(self.stub.console(text))
        self.out: list[bytes] = []

    def send(self, data: bytes) -> list[bytes]:
        """The packets that come back. A machine that runs is stopped where it is."""
        self.out = [self.stub.feed(data)]
        events = PacketReader(1 << 20, expand_runs=True).feed(b"".join(self.out))
        if self.stub.state is State.RUNNING:
            self.stub.report_stop(self.target.stop_reason())
        elif self.stub.state is State.DISCONNECTED:
            self.renew()
        return [event.payload for event in events if isinstance(event, Packet)]

    def ask(self, payload: bytes) -> list[bytes]:
        return self.send(frame(payload, runs=False))

    def unharmed(self) -> None:
        """The state is what it was, the stub answers, and the guest runs to the end that it has anyway."""
        assert state_of(self.machine) == self.before
        (reply,) = self.ask(b"p10")
        assert int.from_bytes(bytes.fromhex(reply.decode()), "little") == KMAIN
        self.target.let_go()
        for items in (self.machine.breakpoints, self.machine.watchpoints, self.machine.catchpoints):
            items.clear()
        self.machine.run()
        assert (self.machine.count, bytes(self.machine.serial_log)) == (3569, b"Hello from long mode.\r\n")


@pytest.fixture
def victim(booted: BootedMachine) -> Victim:
    return Victim(booted("hello"))


def test_every_packet_has_an_example() -> None:
    assert set(SAMPLES) == {row.name for row in ALL_ROWS}


def test_good_examples_are_served(victim: Victim) -> None:
    for sample in HARMLESS:
        victim.ask(b"vFile:open:" + b"/dbgvmm/cmdline".hex().encode() + b",0,0")
        replies = victim.ask(sample)
        assert len(replies) == 1, sample
    victim.unharmed()


def test_every_packet_truncated_at_every_length_harms_nothing(victim: Victim) -> None:
    for name, samples in SAMPLES.items():
        if name in ("R", "vRun", "k", "vKill", "qRcmd"):
            continue
        for sample in samples:
            for length in range(len(sample)):
                assert len(victim.ask(sample[:length])) <= 1
                # The rest is lost, checksum and all, and the next packet begins.
                victim.send(b"$" + sample[:length])
    victim.unharmed()


@pytest.mark.parametrize("no_ack", [False, True])
def test_a_bad_checksum_is_answered_and_nothing_is_done(victim: Victim, no_ack: bool) -> None:
    if no_ack:
        victim.ask(b"QStartNoAckMode")
    for sample in all_samples():
        out = victim.stub.feed(b"$%b#%02x" % (sample, checksum(sample) ^ 0x55))
        assert out.startswith(b"$E") if no_ack else out == b"-"
    victim.unharmed()


def test_what_is_no_hexadecimal_number_is_an_error(victim: Victim) -> None:
    for sample in all_samples():
        digits = [match.start() for match in re.finditer(rb"(?<=[,:;=.])[0-9a-f]", sample)]
        if sample.split(b",")[0].split(b":")[0] in (b"qSupported", b"X106000", b"qSearch", b"D;1", b"vKill;1"):
            continue
        for at in digits:
            victim.ask(sample[:at] + b"g" + sample[at + 1 :])
    victim.unharmed()


def test_an_overlong_packet_is_an_error_and_the_next_one_is_served(victim: Victim) -> None:
    for sample in all_samples():
        (reply,) = victim.ask(sample + b"0" * 70_000)
        assert reply.startswith(b"E")
    victim.unharmed()


@pytest.mark.parametrize("physical", [False, True])
@pytest.mark.parametrize("form", [
    "m%x,%x", "x%x,%x", "M%x,%x:41", "X%x,%x:A", "Z0,%x,%x", "Z1,%x,%x", "Z2,%x,%x", "Z3,%x,%x", "Z4,%x,%x", "qCRC:%x,%x",
    "qSearch:memory:%x;%x;no such text", "vFile:pread:%x,%x,0", "qXfer:features:read:target.xml:%x,%x",
])  # fmt: skip
def test_addresses_and_lengths_at_their_edges_harm_nothing(victim: Victim, form: str, physical: bool) -> None:
    victim.target.physical_addresses = physical
    for address in EDGES:
        for length in LENGTHS:
            if form[0] in "MX" and length == 1 and address in (0, 1):
                continue  # a good write
            (reply,) = victim.ask(form.encode() % (address, length))
            if form[0] == "Z" and reply == b"OK":
                assert victim.ask(b"z" + form[1:].encode() % (address, length)) == [b"OK"]
    victim.target.physical_addresses = False
    victim.unharmed()


def test_registers_and_threads_that_do_not_exist_are_errors(victim: Victim) -> None:
    for number in (94, 0xFFFF, 1 << 31, (1 << 64) - 1):
        for form in (b"p%x", b"P%x=00", b"qRegisterInfo%x", b"T%x", b"Hg%x", b"Hc%x", b"qThreadExtraInfo,%x", b"vCont;c:%x"):
            (reply,) = victim.ask(form % number)
            assert reply.startswith(b"E"), form % number
    victim.unharmed()


def test_a_watchpoint_on_all_of_memory_is_refused_in_words(victim: Victim) -> None:
    (reply,) = victim.ask(b"Z2,0,ffffffffffffffff")
    assert reply.startswith(b"E.") and b"more than one watchpoint can watch" in reply
    victim.unharmed()


@pytest.mark.parametrize(
    "line",
    ["print " + "(" * 30_000, "print " + "*" * 20_000 + "1", "print " + "-" * 20_001 + "1", "print " + "9" * 20_000,
     "print 0x" + "f" * 20_000, "print 0x_", "print 1__", "x/" + "9" * 5000 + "xb 0", "x/999999s rip", "x/1000000i rip",
     "watch 0 0x7fffffffffffffff", "break --phys -1", "poke -1 1", "poke-physical -1 1", "'", "/", "x/", "translate 1<<64"],
)  # fmt: skip
def test_a_monitor_command_that_makes_no_sense_is_one_line(victim: Victim, line: str) -> None:
    *said, error = victim.ask(b"qRcmd," + line.encode().hex().encode())
    assert error.startswith(b"E")
    text = bytes.fromhex(b"".join(reply[1:] for reply in said).decode()).decode()
    assert text.count("\n") == 1 and len(text) > 20
    victim.unharmed()


RANDOM = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
DIGIT = st.sampled_from([b"", b"0", b"1", b"f", b",", b":", b";", b"=", b"-1", b"p1.1", b"ffffffffffffffff", b"X", b"7f" * 9])
MANGLED = st.tuples(st.sampled_from(HARMLESS), st.integers(0, 60), st.lists(DIGIT, max_size=4), st.integers(0, 4))
# What writes and what ends is left out: a mangled write can be a good one.
QUIET = re.compile(rb"[GPMXRkDcCsS]|v[CK]|qRcmd|Z|Qqemu|!")


@RANDOM
@given(mangled=MANGLED)
def test_mangled_packets_harm_nothing(victim: Victim, mangled: tuple[bytes, int, list[bytes], int]) -> None:
    sample, at, inserted, dropped = mangled
    packet = sample[:at] + b"".join(inserted) + sample[at + dropped :]
    victim.ask(packet)
    if not QUIET.match(packet):
        assert state_of(victim.machine) == victim.before


@RANDOM
@given(pieces=st.lists(st.binary(max_size=80), max_size=12))
def test_bytes_at_random_harm_nothing(victim: Victim, pieces: list[bytes]) -> None:
    victim.renew()
    for piece in pieces:
        victim.send(piece)
    assert state_of(victim.machine) == victim.before


# -- clients that behave badly

Served = tuple[subprocess.Popen[str], tuple[str, int]]


@pytest.fixture
def served(guest: Callable[[str], Path]) -> Iterator[Served]:
    """dbgvmm with the guest `cpubound`, waiting for a debugger on a TCP port."""
    line = [sys.executable, "-m", "dbgvmm", "run", str(guest("cpubound")), "--gdb=0", "--wait"]
    process = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        host, _, port = process.stderr.readline().split()[-1].rpartition(":")
        yield process, (host, int(port))
    finally:
        process.kill()
        process.communicate()


def connect(address: tuple[str, int]) -> socket.socket:
    client = socket.create_connection(address, 20)
    client.settimeout(20)
    return client


def ask(client: socket.socket, payload: bytes) -> bytes:
    """The reply to a packet."""
    client.sendall(frame(payload, runs=False))
    reader = PacketReader(1 << 20, expand_runs=True)
    while True:
        data = client.recv(1 << 16)
        if not data:
            raise ConnectionError("the stub has hung up")
        for event in reader.feed(data):
            if isinstance(event, Packet):
                return event.payload


def reset(client: socket.socket) -> None:
    """Hang up with RST instead of FIN."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


HALVES = (
    b"", b"$", b"$m10", b"$m100000,4#", b"$m100000,4#f", b"}", b"$X100000,4:}", b"\xff" * 1000, b"$" + b"a" * 100_000,
)  # fmt: skip


@pytest.mark.slow
def test_clients_that_vanish_in_mid_packet_leave_no_trace(served: Served, booted: BootedMachine) -> None:
    process, address = served
    for number, half in enumerate(HALVES):
        client = connect(address)
        assert ask(client, b"?").startswith(b"T")
        assert ask(client, b"Z0,106000,1") == b"OK"
        client.sendall(half)
        if number % 2:
            reset(client)
        else:
            client.close()
    output, errors = process.communicate(timeout=120)
    plain = booted("cpubound")
    plain.run()
    assert process.returncode == 1
    assert output == plain.serial_log.decode().replace("\r\n", "\n")
    assert f"after {plain.count:,} instructions" in errors


def test_a_second_client_is_turned_away_and_the_first_one_goes_on(served: Served) -> None:
    process, address = served
    first = connect(address)
    stopped = ask(first, b"?")
    for _ in range(3):
        second = connect(address)
        assert second.recv(100) == b""
        second.close()
    assert ask(first, b"?") == stopped
    first.sendall(frame(b"k", runs=False))
    assert process.wait(60) == 130
