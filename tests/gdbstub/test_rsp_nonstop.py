"""Non-stop mode, and process-ids."""

from __future__ import annotations

from collections.abc import Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rsp_client import Client, payloads
from rsp_machine import BASE, DATA, NOP, Machine

from gdbstub import (
    BreakpointHit,
    Continue,
    Executed,
    Exited,
    Interrupted,
    Signal,
    Signalled,
    State,
    Step,
    Stepped,
    StopReason,
    ThreadId,
)
from gdbstub.framing import Notification, PacketReader, frame

ONE, TWO, THREE = ThreadId(1, 1), ThreadId(1, 2), ThreadId(1, 3)
FEATURES = "multiprocess+;swbreak+;hwbreak+"


class Independent(Machine):
    """Its CPUs run and stop one by one. Nothing runs by itself here: the test says what has stopped."""

    def __init__(self) -> None:
        self.halted: list[ThreadId] = []
        super().__init__(cpus=3)

    def halt(self, threads: Collection[ThreadId]) -> None:
        self.halted += threads


class NonStopClient(Client):
    """A debugger that has chosen non-stop mode."""

    def __init__(self, machine: Independent) -> None:
        super().__init__(machine, FEATURES)
        assert self.ask("QNonStop:1") == b"OK"

    def stop(self, reason: StopReason) -> list[bytes]:
        """Notifications that come of it. There must be nothing else."""
        events = PacketReader(1 << 20, expand_runs=True).feed(self.stub.report_stop(reason))
        assert all(isinstance(event, Notification) for event in events)
        return [event.payload for event in events if isinstance(event, Notification)]


@pytest.fixture
def machine() -> Independent:
    return Independent()


@pytest.fixture
def client(machine: Independent) -> NonStopClient:
    return NonStopClient(machine)


def thread_of(reply: bytes) -> bytes:
    """The thread that a stop reply names."""
    return next(part.partition(b":")[2] for part in reply[3:].split(b";") if part.startswith(b"thread:"))


def test_the_mode_is_offered_by_a_target_that_has_it(machine: Independent) -> None:
    assert b"QNonStop+" in Client(machine).ask("qSupported:")
    assert b"QNonStop" not in Client(Machine()).ask("qSupported:")
    assert Client(Machine()).ask("QNonStop:1") == b""
    assert Client(machine).ask("vCont?") == b"vCont;c;C;s;S;t;r"


def test_what_stands_still_is_asked_for_one_by_one(client: NonStopClient) -> None:
    replies = [client.ask("?"), client.ask("vStopped"), client.ask("vStopped")]
    assert [thread_of(reply) for reply in replies] == [b"p1.1", b"p1.2", b"p1.3"]
    assert [reply[:3] for reply in replies] == [b"T05", b"T00", b"T00"], "one has a reason, the others just stand"
    assert client.ask("vStopped") == b"OK"


def test_threads_that_run_are_left_out_and_none_is_ok(client: NonStopClient) -> None:
    client.ask("vCont;c:p1.1")
    assert thread_of(client.ask("?")) == b"p1.2"
    client.ask("vCont;c")
    assert client.ask("?") == b"OK"


def test_a_resume_is_answered_at_once(client: NonStopClient, machine: Independent) -> None:
    assert client.ask("vCont;c:p1.2") == b"OK"
    assert machine.actions == {TWO: Continue()}
    assert client.stub.state is State.RUNNING


def test_a_stop_is_notified_and_heard(client: NonStopClient) -> None:
    client.ask("vCont;c")
    (told,) = client.stop(BreakpointHit(TWO))
    assert told.startswith(b"Stop:T05") and b"swbreak:" in told and thread_of(told[5:]) == b"p1.2"
    assert client.ask("vStopped") == b"OK"


def test_more_stops_wait_until_the_first_was_heard(client: NonStopClient) -> None:
    client.ask("vCont;c")
    assert len(client.stop(Stepped(TWO))) == 1
    assert client.stop(Stepped(ONE)) == []
    assert client.stop(Stepped(THREE)) == []
    assert thread_of(client.ask("vStopped")) == b"p1.1"
    assert thread_of(client.ask("vStopped")) == b"p1.3"
    assert client.ask("vStopped") == b"OK"
    client.ask("vCont;c:p1.1")
    assert len(client.stop(Stepped(ONE))) == 1, "and the next is a notification again"


def test_a_thread_is_stopped_without_a_signal(client: NonStopClient, machine: Independent) -> None:
    client.ask("vCont;c")
    assert client.ask("vCont;t:p1.3") == b"OK"
    assert machine.halted == [THREE]
    (told,) = client.stop(Signalled(Signal.NONE, THREE))
    assert told.startswith(b"Stop:T00")
    assert client.stub.state is State.RUNNING, "the others go on"


def test_a_thread_that_stands_still_is_not_stopped_again(client: NonStopClient, machine: Independent) -> None:
    assert client.ask("vCont;t") == b"OK"
    assert machine.halted == []
    assert client.stub.state is State.IDLE


def test_a_thread_that_runs_is_not_resumed_again(client: NonStopClient, machine: Independent) -> None:
    client.ask("vCont;c:p1.1")
    client.ask("vCont;s")
    assert machine.actions == {TWO: Step(), THREE: Step()}


def test_a_thread_that_was_not_resumed_has_no_stop_to_tell(client: NonStopClient) -> None:
    client.ask("vCont;c:p1.1")
    assert client.stop(Stepped(TWO)) == []


def test_memory_and_breakpoints_are_served_while_threads_run(client: NonStopClient, machine: Independent) -> None:
    client.ask("vCont;c")
    assert client.ask(f"m{BASE:x},2") == b"8803"
    assert client.ask(f"M{DATA:x},1:7f") == b"OK"
    assert client.ask(f"Z0,{NOP:x},1") == b"OK"
    assert machine.breakpoints == {(NOP, False)}
    assert client.ask("qfThreadInfo") == b"mp1.1,p1.2,p1.3"


@pytest.mark.parametrize("packet", ["g", "p0", "G" + "00" * 416, "P0=0000000000000000"])
def test_a_running_thread_has_no_registers(client: NonStopClient, packet: str) -> None:
    client.ask("vCont;c:p1.2")
    client.ask("Hgp1.2")
    assert client.ask(packet).startswith(b"E")
    client.ask("Hgp1.1")
    assert "is running" not in client.ask(packet).decode()


def test_the_interrupt_packet_and_byte_reach_the_target(client: NonStopClient, machine: Independent) -> None:
    client.ask("vCont;c")
    assert client.ask("vCtrlC") == b"OK"
    assert machine.interrupted
    machine.interrupted = False
    assert client.stub.feed(b"\x03") == b""
    assert machine.interrupted
    (told,) = client.stop(Interrupted(ONE))
    assert told.startswith(b"Stop:T02")


def test_the_end_of_the_process_ends_all_threads(client: NonStopClient) -> None:
    client.ask("vCont;c")
    assert client.stop(Exited(3)) == [b"Stop:W03;process:1"]
    assert client.stub.state is State.IDLE
    assert client.ask("vStopped") == b"OK"


def test_an_exec_is_a_notification_too(client: NonStopClient) -> None:
    client.ask("vCont;c:p1.1")
    (told,) = client.stop(Executed("/k"))
    assert b"exec:2f6b;" in told


def test_the_mode_does_not_change_while_a_thread_runs(client: NonStopClient) -> None:
    client.ask("vCont;c:p1.1")
    assert client.ask("QNonStop:0").startswith(b"E.")
    client.stop(Stepped(ONE))
    assert client.ask("QNonStop:0") == b"OK"
    assert client.ask_all("c") == [], "all-stop: the reply is the stop"


@pytest.mark.parametrize("packet", ["QNonStop", "QNonStop:", "QNonStop:2", "QNonStop:11"])
def test_an_unknown_mode_is_an_error(client: NonStopClient, packet: str) -> None:
    assert client.ask(packet).startswith(b"E.")


def test_in_all_stop_mode_threads_cannot_be_stopped_singly(machine: Independent) -> None:
    client = Client(machine, FEATURES)
    assert client.ask("vCont;t").startswith(b"E.")


def test_notifications_are_not_sent_again(client: NonStopClient) -> None:
    client.ask("vCont;c")
    client.stop(Stepped(TWO))
    assert payloads(client.stub.feed(b"-")) == [b"OK"], "the last packet is"


@pytest.mark.parametrize("packet", ["R00", "vRun;"])
def test_a_new_beginning_while_threads_run_leaves_none_running(client: NonStopClient, packet: str) -> None:
    client.ask("vCont;c")
    client.stop(Stepped(TWO))
    client.ask_all(packet)
    assert client.stub.state is State.IDLE
    assert thread_of(client.ask("?")) == b"p1.1"


@pytest.mark.parametrize("packet", ["D;1", "vKill;1"])
def test_letting_go_and_killing_work_while_threads_run(client: NonStopClient, packet: str) -> None:
    client.ask("vCont;c")
    assert client.ask(packet) == b"OK"
    assert client.stub.state is State.DISCONNECTED


@pytest.mark.parametrize(
    "packet", ["D;2", "vKill;2", "qAttached:2", "vCont;c:p2.1", "vCont;c:p2.-1", "Tp2.1", "Hgp2.1", "Hcp3"]
)
def test_a_process_that_is_not_there_is_refused(machine: Independent, packet: str) -> None:
    client = Client(machine, FEATURES)
    assert client.ask(packet).startswith(b"E.")
    assert client.stub.state is State.IDLE
    assert machine.actions == {}


@pytest.mark.parametrize("packet", ["vCont;c:p1.-1", "vCont;c:p1", "vCont;c:p-1.-1", "vCont;c:p1.2;c:p1.-1"])
def test_all_threads_of_a_process_may_be_named(machine: Independent, packet: str) -> None:
    Client(machine, FEATURES).ask_all(packet)
    assert machine.actions == dict.fromkeys((ONE, TWO, THREE), Continue())


def test_bytes_of_several_packets_at_once_are_all_served(client: NonStopClient) -> None:
    data = b"".join(frame(packet, runs=False) for packet in (b"vCont;c:p1.1", b"m1000,1", b"vCont;t:p1.1"))
    assert payloads(client.stub.feed(data)) == [b"OK", b"88", b"OK"]


WORDS = [
    b"vCont;c:p1.1", b"vCont;t", b"vCont;s:p1.2;c", b"vCont;t:p1.3;s", b"vStopped", b"?", b"QNonStop:1", b"QNonStop:0", b"g",
    b"Hgp1.2", b"vCtrlC", b"R00", b"vRun;", b"c", b"s", b"qfThreadInfo", b"vCont;r1000,1005", b"D;2", b"vKill;3",
]  # fmt: skip
STOPS = [Stepped(ONE), Stepped(TWO), BreakpointHit(THREE), Signalled(Signal.NONE, TWO), Executed("/k"), Exited(0)]


@given(st.lists(st.one_of(st.sampled_from(WORDS), st.sampled_from(STOPS)), max_size=30))
def test_every_stop_of_a_running_thread_is_told_just_once(steps: list[bytes | StopReason]) -> None:
    """In whatever order packets and stops come: a packet has one reply in non-stop mode (`R` has none), and at most one
    notification is under way."""
    client = NonStopClient(Independent())
    session = client.stub._session
    under_way = False
    for step in steps:
        if isinstance(step, bytes):
            if not session.non_stop and client.stub.state is State.RUNNING:
                break  # all-stop mode is tested elsewhere
            replies = client.ask_all(step)
            if session.non_stop:
                assert len(replies) == (step != b"R00")
                assert (client.stub.state is State.RUNNING) == bool(session.running)
            under_way = under_way and bool(session.untold)
            continue
        before = len(session.untold)
        told = client.stop(step) if session.non_stop else []
        assert len(session.untold) - before in (0, 1)
        assert bool(told) == (before == 0 and len(session.untold) == 1)
        under_way = under_way or bool(told)
    assert under_way <= bool(session.untold)
    assert session.running <= {ONE, TWO, THREE}
