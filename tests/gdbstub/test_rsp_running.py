"""Resuming, breakpoints and watchpoints, with the machine really running."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from rsp_client import Client, payloads
from rsp_machine import BASE, DATA, INC_RAX, NOP, RAX, RBX, RIP, Machine

from gdbstub import ONLY_THREAD, Action, Continue, State, Step, StepRange, ThreadId
from gdbstub.framing import frame

ONE, TWO, THREE = ThreadId(1, 1), ThreadId(1, 2), ThreadId(1, 3)


def go(client: Client, machine: Machine, packet: str) -> bytes:
    """Resume with `packet`, run until the target stops, give the stop reply without its registers and thread."""
    assert client.ask_all(packet) == []
    reason = machine.run(1000)
    assert reason is not None
    (reply,) = payloads(client.stub.report_stop(reason))
    return b";".join([reply[:3], *reply[3:].split(b";")[2:]])


@pytest.fixture
def client(machine: Machine) -> Client:
    return Client(machine, "multiprocess+;swbreak+;hwbreak+")


def test_a_software_breakpoint_stops_and_is_named(client: Client, machine: Machine) -> None:
    assert client.ask(f"Z0,{NOP:x},1") == b"OK"
    assert go(client, machine, "vCont;c") == b"T05;thread:p1.1;core:0;swbreak:;"
    assert machine.cpus[ONLY_THREAD].values[RIP] == NOP


def test_a_hardware_breakpoint_stops_and_is_named(client: Client, machine: Machine) -> None:
    assert client.ask(f"Z1,{NOP:x},1") == b"OK"
    assert go(client, machine, "c").endswith(b"hwbreak:;")


def test_a_breakpoint_is_not_named_to_a_debugger_that_does_not_know_it(machine: Machine) -> None:
    client = Client(machine)
    client.ask(f"Z0,{NOP:x},1")
    assert go(client, machine, "c") == b"T05;thread:1;core:0;"


def test_a_removed_breakpoint_no_longer_stops(client: Client, machine: Machine) -> None:
    for number in (0, 1):
        client.ask(f"Z{number},{NOP:x},1")
        assert client.ask(f"z{number},{NOP:x},1") == b"OK"
    assert not machine.breakpoints


def test_running_out_of_hardware_breakpoints_is_said_in_words(client: Client) -> None:
    replies = [client.ask(f"Z1,{address:x},1") for address in range(5)]
    assert replies == [b"OK"] * 4 + [b"E.all four debug registers are in use"]


@pytest.mark.parametrize(("number", "name"), [(2, "watch"), (4, "awatch")])
def test_a_write_hits_watchpoints_for_writes_and_for_accesses(
    client: Client, machine: Machine, number: int, name: str
) -> None:
    assert client.ask(f"Z{number},{DATA:x},4") == b"OK"
    assert go(client, machine, "c").endswith(f"{name}:{DATA:x};".encode())
    assert client.ask(f"z{number},{DATA:x},4") == b"OK"
    assert not machine.watchpoints


def test_a_read_hits_a_read_watchpoint() -> None:
    machine = Machine(bytes.fromhex("90 8a03 f4"))
    client = Client(machine)
    assert client.ask(f"Z3,{DATA:x},1") == b"OK"
    assert go(client, machine, "c").endswith(f"rwatch:{DATA:x};".encode())


@pytest.mark.parametrize("packet", ["Z2,2000,0", "Z0,2000", "Z0", "z1,x,1"])
def test_malformed_points_are_errors(client: Client, packet: str) -> None:
    assert client.ask(packet).startswith(b"E.")


def test_a_point_of_an_unknown_type_is_unsupported(client: Client) -> None:
    assert client.ask("Z5,0,1") == b""


@pytest.mark.parametrize("packet", ["s", "vCont;s", "vCont;s:p1.1;c", "S00", "vCont;S05:1"])
def test_a_step_runs_one_instruction(client: Client, machine: Machine, packet: str) -> None:
    assert go(client, machine, packet) == b"T05;thread:p1.1;core:0;"
    assert machine.cpus[ONLY_THREAD].values[RIP] == INC_RAX


def test_a_range_step_goes_on_within_the_range(client: Client, machine: Machine) -> None:
    go(client, machine, f"vCont;r{BASE:x},{NOP:x}:p1.1;c")
    assert machine.cpus[ONLY_THREAD].values[RIP] == NOP


def test_the_actions_are_advertised(client: Client) -> None:
    assert client.ask("vCont?") == b"vCont;c;C;s;S;r"


def test_a_target_that_cannot_step_ranges_is_not_asked_to(machine: Machine) -> None:
    machine.steps_ranges = False
    client = Client(machine)
    assert client.ask("vCont?") == b"vCont;c;C;s;S"
    assert client.ask("vCont;r0,1").startswith(b"E.")


def test_an_exit_is_reported(client: Client) -> None:
    machine = Machine(bytes.fromhex("48ffc0 f4"))
    client = Client(machine)
    client.ask_all("c")
    reason = machine.run(10)
    assert reason is not None
    assert payloads(client.stub.report_stop(reason)) == [b"W01"]


@pytest.mark.parametrize("packet", ["C0b", "vCont;C0b"])
def test_a_signal_is_passed_on(client: Client, machine: Machine, packet: str) -> None:
    client.ask_all(packet)
    assert machine.delivered == [11]


CHOICES: list[tuple[str, Mapping[ThreadId, Action]]] = [
    ("vCont;c", {ONE: Continue(), TWO: Continue(), THREE: Continue()}),
    ("vCont;s:p1.2;c", {ONE: Continue(), TWO: Step(), THREE: Continue()}),
    ("vCont;s:2;c:p1.-1", {ONE: Continue(), TWO: Step(), THREE: Continue()}),
    ("vCont;s:p1.2", {TWO: Step()}),
    ("vCont;C05:3;c:1", {ONE: Continue(), THREE: Continue(5)}),
    ("vCont;r10,20:1;s:-1", {ONE: StepRange(0x10, 0x20), TWO: Step(), THREE: Step()}),
]


@pytest.mark.parametrize(("packet", "actions"), CHOICES)
def test_each_thread_gets_the_first_action_that_matches(packet: str, actions: Mapping[ThreadId, Action]) -> None:
    machine = Machine(cpus=3)
    client = Client(machine)
    assert client.ask_all(packet) == []
    assert machine.actions == actions


def test_hc_chooses_the_thread_of_a_step() -> None:
    machine = Machine(cpus=2)
    client = Client(machine)
    assert client.ask("Hc2") == b"OK"
    client.ask_all("s")
    assert machine.actions == {TWO: Step()}


def test_a_step_of_any_thread_lets_the_others_run() -> None:
    machine = Machine(cpus=2)
    client = Client(machine)
    client.ask("Hc-1")
    client.ask_all("s")
    assert machine.actions == {ONE: Step(), TWO: Continue()}


def test_a_stop_makes_its_thread_the_current_one() -> None:
    machine = Machine(cpus=2)
    client = Client(machine)
    go(client, machine, "vCont;s:2")
    machine.cpus[TWO].values[RAX] = 9
    assert client.ask("p0")[:2] == b"09"


@pytest.mark.parametrize(
    "packet",
    [
        "vCont;",
        "vCont;q",
        "vCont;c:9",
        "vCont;s:p2.1",
        "vCont;c1",
        "c1000",
        "s1000",
        "C05;1000",
        "C",
        "C100",
        "S",
        "vCont;r1",
        "vCont;Cxx",
    ],
)
def test_a_resume_that_cannot_be_is_an_error_and_nothing_runs(client: Client, machine: Machine, packet: str) -> None:
    assert client.ask(packet).startswith(b"E.")
    assert client.stub.state is State.IDLE
    assert machine.actions == {}


def test_a_refused_resume_leaves_the_target_standing(client: Client, machine: Machine) -> None:
    client.stub.feed(frame(b"vCont;t"))
    assert client.stub.state is State.IDLE


class Jumping(Machine):
    """It can be resumed at an address."""

    def set_program_counter(self, thread: ThreadId, address: int) -> None:
        self.cpus[thread].values[RIP] = address


@pytest.mark.parametrize("packet", [f"c{NOP:x}", f"C05;{NOP:x}", f"s{NOP:x}", f"S05;{NOP:x}"])
def test_a_resume_may_say_where(packet: str) -> None:
    machine = Jumping()
    assert Client(machine).ask_all(packet) == []
    assert machine.cpus[ONE].values[RIP] == NOP


@pytest.mark.parametrize("packet", ["cx", "C100;0", "C05;x", "sz", "c" + "1" * 17])
def test_a_resume_at_what_is_no_address_is_an_error(packet: str) -> None:
    machine = Jumping()
    assert Client(machine).ask(packet).startswith(b"E.")
    assert machine.cpus[ONE].values[RIP] == BASE


def test_the_address_is_for_the_thread_of_hc() -> None:
    machine = Jumping(cpus=2)
    client = Client(machine)
    client.ask("Hc2")
    client.ask_all(f"s{NOP:x}")
    assert [cpu.values[RIP] for cpu in machine.cpus.values()] == [BASE, NOP]


def test_a_guest_that_faults_is_a_stop(client: Client, machine: Machine) -> None:
    machine.write_memory(ONLY_THREAD, BASE, b"\x88\x03")  # mov [rbx], al
    machine.cpus[ONLY_THREAD].values[RIP] = BASE
    machine.cpus[ONLY_THREAD].values[RBX] = 0x1234_5678
    assert go(client, machine, "c").startswith(b"T0b")
