"""The base of the protocol on a machine, packet by packet, and what a long session of the real gdb finds missing."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from debugged import Debugged, little
from gdb_process import Gdb
from rsp_session import RspSession

KMAIN = 0x106000
KNOWN_GAPS = {"vMustReplyEmpty", "qOffsets"}
"""The first asks what a packet gets that nobody knows; the README says why there is no answer to the other."""


def at_kmain(session: RspSession, features: bytes = b"qSupported:") -> None:
    session.ask(features)
    session.ask(b"Z0,%x,1" % KMAIN)
    assert session.ask(b"c").startswith(b"T05")
    session.ask(b"z0,%x,1" % KMAIN)


def test_a_resume_may_name_an_address(debug: Callable[[str], Debugged]) -> None:
    debugged = debug("hello")

    def script(session: RspSession) -> None:
        at_kmain(session)
        session.ask(b"s%x" % (KMAIN + 1))  # mov %rsp,%rbp: the push before it is left out
        assert little(session.ask(b"p10")) == KMAIN + 4
        assert session.ask(b"c8000000000000000").startswith(b"E."), "not canonical"
        assert little(session.ask(b"p10")) == KMAIN + 4
        session.send(b"k")

    debugged.run(script)


def test_all_registers_are_written_at_once(debug: Callable[[str], Debugged]) -> None:
    def script(session: RspSession) -> None:
        at_kmain(session)
        block = bytearray.fromhex(session.ask(b"g").decode())
        block[8:16] = (0x1122_3344).to_bytes(8, "little")
        assert session.ask(b"G" + block.hex().encode()) == b"OK"
        assert little(session.ask(b"p1")) == 0x1122_3344
        assert session.ask(b"g") == block.hex().encode()
        session.send(b"k")

    debug("hello").run(script)


def test_registers_are_exact_after_each_step_and_each_write(debug: Callable[[str], Debugged]) -> None:
    debugged = debug("selftest")

    def script(session: RspSession) -> None:
        session.ask(b"qSupported:")
        for _ in range(300):
            session.ask(b"s")
            block = session.ask(b"g")
            assert little(block[16 * 16 : 17 * 16]) == debugged.machine.cpu.rip
            assert little(block[:16]) == debugged.machine.cpu.gpr[0]
        session.ask(b"P3=0807060504030201")
        assert session.ask(b"g")[3 * 16 : 4 * 16] == b"0807060504030201"
        session.ask(b"P28=" + b"5a" * 16)
        assert b"5a" * 16 in session.ask(b"g")
        session.send(b"k")

    debugged.run(script)


@pytest.mark.parametrize("length", [1, 4096, 0x7000])
def test_memory_reads_are_the_same_in_digits_and_in_binary(debug: Callable[[str], Debugged], length: int) -> None:
    debugged = debug("hello")

    def script(session: RspSession) -> None:
        at_kmain(session)
        data = bytes(number * number & 0xFF for number in range(length))
        for at in range(0, length, 1024):
            part = data[at : at + 1024]
            assert session.ask(b"M%x,%x:%b" % (0x600000 + at, len(part), part.hex().encode())) == b"OK"
        assert bytes.fromhex(session.ask(b"m600000,%x" % length).decode()) == data
        assert session.ask(b"x600000,%x" % length) == b"b" + data
        assert session.ask(b"x600000,0") == b"b"
        session.send(b"k")

    debugged.run(script)


def test_packets_of_64_kib_are_taken_and_given(debug: Callable[[str], Debugged]) -> None:
    def script(session: RspSession) -> None:
        assert b"PacketSize=10000;" in session.ask(b"qSupported:")
        data = bytes(0x7F00)
        assert session.ask(b"M600000,7f00:" + data.hex().encode()) == b"OK"
        assert len(session.ask(b"m600000,8000")) == 0x10000
        session.send(b"k")

    debug("hello").run(script)


def test_a_machine_has_one_process(debug: Callable[[str], Debugged]) -> None:
    debugged = debug("hello")

    def script(session: RspSession) -> None:
        session.ask(b"qSupported:multiprocess+")
        assert session.ask(b"qC") == b"QCp1.1"
        for packet in (b"D;2", b"vKill;2", b"vCont;c:p2.1", b"Hgp2.1", b"Tp1.2"):
            assert session.ask(packet).startswith(b"E."), packet
        assert debugged.machine.count == 0
        assert session.ask(b"Hcp1.-1") == b"OK"
        session.send(b"D;1")

    debugged.run(script)


@pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb is not installed")
def test_gdb_finds_no_packet_missing_that_it_needs(guest: Callable[[str], Path], tmp_path: Path) -> None:
    text = Gdb(guest, tmp_path)(
        "hello", "break kmain",
        "watch *(long *)0x10bff8", "continue", "info registers", "stepi", "next", "finish", "info threads", "info mem",
        "set var $rax = 5", "print $_siginfo", "info auxv", "info os", "compare-sections", "find 0x106000, +100, 'a'",
        "call (void)console_flush()", "hbreak print", "tbreak console_putc", "continue", "monitor info time",
        "maintenance flush register-cache", "detach", file=False, before=("set debug remote 1",),
    )  # fmt: skip
    empty = re.findall(r"Sending packet: \$(.*?)#..\s*(?:\[remote\] )?Packet received: $", text, re.MULTILINE)
    assert {packet.split(":0x")[0] for packet in empty} <= KNOWN_GAPS
    assert text.count("Sending packet") > 100
