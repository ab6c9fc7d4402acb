"""Beginning again and coming back: `vRun`, `vAttach`; `qSymbol`."""

from __future__ import annotations

from rsp_client import Client
from rsp_machine import BASE, RIP, Machine

from gdbstub import ONLY_THREAD, Exited, Signal, Signalled, Terminated


def run(name: str, *arguments: str) -> str:
    return "vRun;" + ";".join(text.encode().hex() for text in (name, *arguments))


def moved(machine: Machine) -> Machine:
    machine.cpus[ONLY_THREAD].values[RIP] = BASE + 5
    machine.memory[-1] = 0x55
    return machine


def test_run_begins_again_and_tells_where_it_stands(client: Client, machine: Machine) -> None:
    moved(machine)
    for packet in ("vRun;", run(machine.exec_file())):
        reply = client.ask(packet)
        assert reply.startswith(b"T05")
        assert f"{RIP:x}:{BASE.to_bytes(8, 'little').hex()};".encode() in reply
        assert machine.memory[-1] == 0


def test_run_begins_again_after_the_end(client: Client, machine: Machine) -> None:
    machine.reason = Exited(3)
    assert client.ask("vRun;").startswith(b"T05")


def test_another_program_or_arguments_are_refused_and_nothing_begins_again(client: Client, machine: Machine) -> None:
    moved(machine)
    assert client.ask(run("/bin/other")).startswith(b"E./bin/other cannot be run here")
    assert client.ask(run("", "a")).startswith(b"E.the program takes no arguments")
    assert client.ask("vRun;zz").startswith(b"E")
    assert machine.memory[-1] == 0x55


def test_attaching_to_the_process_that_is_there_tells_where_it_stands(client: Client, machine: Machine) -> None:
    machine.reason = Signalled(Signal.INT)
    assert client.ask("vAttach;1").startswith(b"T02")


def test_attaching_to_another_process_or_after_the_end_is_refused(client: Client, machine: Machine) -> None:
    assert client.ask("vAttach;2").startswith(b"E.there is no process 2")
    assert client.ask("vAttach;").startswith(b"E")
    for reason in (Exited(0), Terminated()):
        machine.reason = reason
        assert client.ask("vAttach;1").startswith(b"E.the program has ended: `run` begins again")


def test_gdbs_offer_of_symbols_is_declined(client: Client) -> None:
    assert client.ask("qSymbol::") == b"OK"


def test_a_program_that_has_ended_has_no_threads_until_it_runs_again(client: Client, machine: Machine) -> None:
    machine.reason = Exited(0)
    assert client.ask("qfThreadInfo") == b"l"
    assert b"<thread " not in client.ask("qXfer:threads:read::0,1000")
    client.ask("vRun;")
    assert client.ask("qfThreadInfo") == b"m1"
    assert b'<thread id="1"' in client.ask("qXfer:threads:read::0,1000")
