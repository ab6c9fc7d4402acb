"""gdb's own way of testing a stub: long sessions with `set debug remote 1`, in which everything that gdb sends is answered.

The empty reply is the protocol's "not supported". It is given only to the packets in the README's table "Packets of gdb
that get the empty reply", which says why. The sessions are the chapters in `recorded/`: what a person could type.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

pytestmark = [
    pytest.mark.xdist_group("recorded-sessions"),  # which are recorded once
    pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb is not installed"),
]

README: Final = Path(__file__).parents[2] / "README.md"
CHAPTERS: Final = {
    "looking": "cpubound-small", "running": "cpubound-small", "changing": "cpubound-small", "tracing": "cpubound-small",
    "ending": "cpubound-small", "interrupting": "cpubound",
}  # fmt: skip
PREFACE: Final = (
    "set confirm off", "set pagination off", "set width 0", "set style enabled off", "set debuginfod enabled off",
    "set trace-commands on", "set debug remote 1",
)  # fmt: skip
SECONDS: Final = 120

NAME: Final = re.compile(
    rb"qXfer:[\w-]+:(?:read|write)|vFile:\w+|qSearch:\w+|QTNotes|[qQ][\w-]+(?:\.\w+)?|v[A-Z]\w*\??|[Zz]\d|H[gc]|b[cs]|."
)
COMMAND: Final = re.compile(rb"^(?:\(gdb\) |>)*\+(.*)")
SENT: Final = re.compile(rb"\[remote\] Sending packet: \$(.*)")
RECEIVED: Final = re.compile(rb"\[remote\] Packet received: ?(.*)")
BOUND_TO_BE_SENT: Final = frozenset(
    "qSupported vMustReplyEmpty QStartNoAckMode Hg qAttached qSymbol qOffsets ? g p P m X M H".split()[:-1]
    + "vCont? vCont c s vKill vRun vAttach D Z0 z0 Z1 z1 Z2 z2 Z3 z3 Z4 z4 T qC qRcmd qCRC qSearch:memory".split()
    + "vFile:setfs vFile:open vFile:pread vFile:close vFile:fstat vFile:unlink qXfer:features:read".split()
    + "qXfer:threads:read qXfer:exec-file:read qfThreadInfo qsThreadInfo qThreadExtraInfo".split()
    + "qTStatus qTfSTM qTMinFTPILen QTinit QTFrame".split()
)
"""What these sessions are to be about: if gdb stops sending one, a chapter has lost its way."""


@dataclass(frozen=True)
class Exchange:
    """A packet's name, whether its reply was empty, and the command that gdb was carrying out."""

    name: str
    empty: bool
    command: str


def exchanges(log: bytes) -> list[Exchange]:
    """All packets and replies in what gdb has printed."""
    found: list[Exchange] = []
    name = command = ""
    for line in log.splitlines():
        if match := COMMAND.match(line):
            command = match[1].decode("utf-8", "replace")
        elif match := SENT.search(line):
            packet = NAME.match(match[1])
            assert packet is not None
            name = packet[0].decode()
        elif (match := RECEIVED.search(line)) and name:
            found.append(Exchange(name, match[1] == b"", command))
            name = ""
    return found


def allowed() -> Mapping[str, str]:
    """The README's table: packet and reason."""
    section = re.search(
        r"<!-- empty replies: begin -->\n(.*?)<!-- empty replies: end -->", README.read_text(), re.DOTALL
    )
    assert section is not None, "the README has lost its table of empty replies"
    rows = re.findall(r"^\| (`[^|]+`) \| ([^|]+) \|$", section[1], re.MULTILINE)
    return {name: reason for names, reason in rows for name in re.findall(r"`([^`]+)`", names)}


def play(chapter: str, kernel: Path, directory: Path) -> bytes:
    """One chapter on a machine of its own: all that gdb prints."""
    socket = directory / "gdb"
    script = (Path(__file__).parent / "recorded" / f"{chapter}.gdb").read_text()
    script = script.replace("TARGET", str(socket)).replace("DIRECTORY", str(directory))
    vm = subprocess.Popen(
        [sys.executable, "-m", "dbgvmm", "run", str(kernel), f"--gdb=unix:{socket}", "--wait"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert vm.stderr is not None and "waits for gdb" in vm.stderr.readline()
        # Lines of standard input, unlike a script's, go on after an error.
        text = "\n".join((*PREFACE, script, "quit\n"))
        gdb = subprocess.run(
            ["gdb", "-nx", "-q"], input=text.encode(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=SECONDS,
            check=False,
        )  # fmt: skip
    finally:
        vm.kill()
        vm.communicate()
    assert gdb.returncode == 0
    return gdb.stdout


@pytest.fixture(scope="module")
def session(guest: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Sequence[Exchange]:
    """The exchanges of all chapters."""
    return [
        exchange
        for chapter, name in CHAPTERS.items()
        for exchange in exchanges(play(chapter, guest(name), tmp_path_factory.mktemp(chapter)))
    ]


def test_names_and_replies_are_read_from_gdbs_log() -> None:
    log = (
        b"(gdb) +info threads\n"
        b"(gdb) [remote] Sending packet: $qXfer:threads:read::0,1000#92\n"
        b"[remote] Packet received: l<?xml version=...\n"
        b"  [remote] Sending packet: $vCont?#49\n  [remote] Packet received: \n"
        b"[remote] Sending packet: $Z0,106000,1#b1\n[remote] getpkt: something else\n[remote] Packet received: OK\n"
        b"+maintenance packet q\n[remote] Sending packet: $qTBuffer:0,7d0#80\n[remote] Packet received:\n"
        b"[remote] Sending packet: $QTNotes:user:6d65;#21\n[remote] Packet received: OK\n"
        b"[remote] Sending packet: $qqemu.sstep#00\n[remote] Packet received: 0x1\n"
    )
    assert exchanges(log) == [
        Exchange("qXfer:threads:read", False, "info threads"),
        Exchange("vCont?", True, "info threads"),
        Exchange("Z0", False, "info threads"),
        Exchange("qTBuffer", True, "maintenance packet q"),
        Exchange("QTNotes", False, "maintenance packet q"),
        Exchange("qqemu.sstep", False, "maintenance packet q"),
    ]


def test_every_row_of_the_table_has_a_reason() -> None:
    table = allowed()
    assert "vMustReplyEmpty" in table
    assert all(len(reason.strip()) > 10 for reason in table.values())


@pytest.mark.slow
def test_the_sessions_are_about_what_they_should_be(session: Sequence[Exchange]) -> None:
    assert sorted(BOUND_TO_BE_SENT - {exchange.name for exchange in session}) == []


@pytest.mark.slow
def test_no_packet_of_gdb_is_unsupported_but_those_in_the_table(session: Sequence[Exchange]) -> None:
    unsupported = {exchange.name: exchange.command for exchange in session if exchange.empty}
    table = allowed()
    assert {name: command for name, command in unsupported.items() if name not in table} == {}


@pytest.mark.slow
def test_the_table_has_no_row_for_what_is_answered(session: Sequence[Exchange]) -> None:
    """Such a row is to be deleted."""
    answered = {exchange.name for exchange in session} - {exchange.name for exchange in session if exchange.empty}
    assert sorted(answered & allowed().keys()) == []


@pytest.mark.slow
def test_the_table_has_no_row_for_what_gdb_does_not_send(session: Sequence[Exchange]) -> None:
    assert sorted(allowed().keys() - {exchange.name for exchange in session}) == []
