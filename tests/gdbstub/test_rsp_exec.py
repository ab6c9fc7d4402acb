"""Programs that begin: exec events, by which a debugger is made to read the description again, and `vRun`."""

from __future__ import annotations

import pytest
from rsp_client import Client, payloads
from rsp_machine import RAX, Machine

from gdbstub import Executed


class Changing(Machine):
    """Its description may change."""

    takes_exec_events = False


def test_exec_events_are_offered_by_a_target_that_has_them() -> None:
    assert b"exec-events+" in Client(Changing()).ask("qSupported:")
    assert b"exec-events+" not in Client(Machine()).ask("qSupported:")


@pytest.mark.parametrize(("features", "takes"), [("swbreak+;exec-events+", True), ("swbreak+", False), ("exec-events-", False)])
def test_the_target_learns_whether_the_debugger_takes_them(features: str, takes: bool) -> None:
    machine = Changing()
    Client(machine, features)
    assert machine.takes_exec_events is takes


def test_another_debugger_is_asked_anew() -> None:
    machine = Changing()
    Client(machine, "exec-events+")
    Client(machine, "swbreak+")
    assert not machine.takes_exec_events


def test_an_exec_names_the_file_and_no_register_since_their_numbers_may_be_others() -> None:
    client = Client(Changing(), "multiprocess+;exec-events+")
    client.ask_all("c")
    assert payloads(client.stub.report_stop(Executed("/boot/k"))) == [b"T05thread:p1.1;core:0;exec:2f626f6f742f6b;"]


def test_vrun_begins_again_and_says_where_it_stands(client: Client, machine: Machine) -> None:
    machine.cpus[next(iter(machine.cpus))].values[RAX] = 5
    assert client.ask("vRun;2f70726f6772616d").startswith(b"T05")
    assert client.ask("p0") == b"00" * 8


def test_a_program_that_an_exec_event_named_can_be_begun_again() -> None:
    client = Client(Changing(), "exec-events+")
    assert client.ask("vRun;3332206269747a").startswith(b"E.")
    client.ask_all("c")
    client.stub.report_stop(Executed("32 bitz"))
    assert client.ask("vRun;3332206269747a").startswith(b"T05")


@pytest.mark.parametrize("packet", ["vRun;2", "vRun;zz", "vRun;2f70"])
def test_a_vrun_of_what_is_not_the_program_is_an_error(client: Client, machine: Machine, packet: str) -> None:
    machine.cpus[next(iter(machine.cpus))].values[RAX] = 5
    assert client.ask(packet).startswith(b"E.")
    assert client.ask("p0") == b"05" + b"00" * 7, "and nothing has begun again"


class Nameless(Machine):
    """It does not know its file."""

    def exec_file(self) -> str:
        return ""


def test_a_file_that_is_not_known_is_an_error_rather_than_a_name_of_nothing() -> None:
    assert Client(Nameless()).ask("qXfer:exec-file:read:1:0,100").startswith(b"E")


def test_the_file_of_another_process_is_an_error(client: Client) -> None:
    assert client.ask("qXfer:exec-file:read:1:0,100") == b"l/program"
    assert client.ask("qXfer:exec-file:read:2:0,100").startswith(b"E")
    assert client.ask("qXfer:exec-file:read:x:0,100").startswith(b"E")
