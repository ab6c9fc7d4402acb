"""lldb's own packets."""

from __future__ import annotations

import json

import pytest
from rsp_client import Client
from rsp_machine import BASE, RIP, Machine

from gdbstub import BreakpointHit, Host, Region, Stub
from gdbstub.framing import frame


class Described(Machine):
    """What lldb wants to know of it."""

    def host(self) -> Host:
        return Host("x86_64-unknown-none", 8)

    def memory_region(self, address: int) -> Region:
        return Region(BASE, 0x2000, "rx") if BASE <= address < BASE + 0x2000 else Region(0, BASE)

    def register_name(self, number: int) -> tuple[str, str, str]:
        return f"r{number}", "General", "pc" if number == RIP else ""


@pytest.fixture
def lldb() -> Client:
    return Client(Described())


def test_the_host_is_described(lldb: Client) -> None:
    triple = b"x86_64-unknown-none".hex().encode()
    for packet in ("qHostInfo", "qProcessInfo"):
        assert b"triple:" + triple in lldb.ask(packet)
        assert b"ptrsize:8;endian:little;" in lldb.ask(packet)
    assert lldb.ask("qProcessInfo").startswith(b"pid:1;")


def test_memory_regions_have_permissions_where_something_is_mapped(lldb: Client) -> None:
    assert lldb.ask(f"qMemoryRegionInfo:{BASE + 5:x}") == b"start:1000;size:2000;permissions:rx;"
    assert lldb.ask("qMemoryRegionInfo:10") == b"start:0;size:1000;"
    assert lldb.ask("qMemoryRegionInfo:x").startswith(b"E")


def test_registers_are_named_one_by_one_until_an_error(lldb: Client) -> None:
    sizes = Described.register_sizes
    assert lldb.ask("qRegisterInfo0").startswith(b"name:r0;bitsize:64;offset:0;")
    last = len(sizes) - 1
    assert f"name:r{last};".encode() in lldb.ask(f"qRegisterInfo{last:x}")
    assert lldb.ask(f"qRegisterInfo{last + 1:x}") == b"E45"
    assert b"generic:pc;" in lldb.ask(f"qRegisterInfo{RIP:x}")


def test_threads_come_with_reason_and_registers(lldb: Client) -> None:
    (thread,) = json.loads(lldb.ask("jThreadsInfo"))
    assert (thread["tid"], thread["reason"], thread["signal"]) == (1, "signal", 5)
    assert str(RIP) in thread["registers"]


def test_stop_replies_name_all_threads_on_demand() -> None:
    machine = Machine(cpus=2)
    client = Client(machine)
    assert client.ask("QListThreadsInStopReply") == b"OK"
    assert b"threads:1,2;" in client.ask("?")


def test_a_suffix_chooses_the_thread_of_one_packet() -> None:
    machine = Machine(cpus=2)
    for number, thread in enumerate(machine.threads()):
        machine.write_register(thread, 0, bytes((number + 7, *bytes(7))))
    client = Client(machine)
    assert client.ask("p0;thread:2;").startswith(b"E")
    assert client.ask("QThreadSuffixSupported") == b"OK"
    assert client.ask("p0;thread:2;") == b"0800000000000000"
    assert client.ask("p0;thread:1;") == b"0700000000000000"
    assert client.ask("p0;thread:9;").startswith(b"E")
    assert client.ask("P0=0900000000000000;thread:2;") == b"OK"
    assert client.ask("p0;thread:2;") == b"0900000000000000"


def test_nothing_of_it_is_there_for_a_target_that_does_not_say(machine: Machine) -> None:
    client = Client(machine)
    for packet in ("qHostInfo", "qProcessInfo", "qMemoryRegionInfo:0", "qRegisterInfo0"):
        assert client.ask(packet) == b""


def test_a_breakpoint_is_the_reason() -> None:
    machine = Described()
    machine.reason = BreakpointHit()
    reply = Stub(machine).feed(frame(b"jThreadsInfo"))
    assert b'"reason":"breakpoint"' in reply


def test_lldb_is_told_that_it_has_killed_the_target(machine: Machine) -> None:
    client = Client(machine)
    client.ask("QThreadSuffixSupported")
    assert client.ask("k") == b"X09"
