"""The state machine: acknowledgements, running, interrupts, the end."""

from __future__ import annotations

import pytest
from rsp_client import Client, payloads
from rsp_machine import Bare, Machine

from gdbstub import Exited, Interrupted, Signal, Signalled, State, Stub
from gdbstub.framing import frame


def no_ack(stub: Stub) -> Stub:
    stub.feed(frame(b"QStartNoAckMode"))
    return stub


def test_a_packet_is_acknowledged_before_it_is_answered(client: Client) -> None:
    assert client.stub.feed(b"$qAttached#8f") == b"+$1#31"


def test_a_damaged_packet_is_asked_for_again(client: Client) -> None:
    assert client.stub.feed(b"$qAttached#00") == b"-"


def test_a_reply_is_sent_again_when_the_debugger_asks(client: Client) -> None:
    client.stub.feed(b"$qAttached#8f")
    assert client.stub.feed(b"-") == b"$1#31"


def test_impatience_with_a_long_monitor_command_does_not_bring_its_reply_twice(client: Client) -> None:
    client.ask(b"qRcmd," + b"echo x".hex().encode())
    assert client.stub.feed(b"-") == b""
    assert client.ask("qAttached") == b"1"
    assert client.stub.feed(b"-") == b"$1#31"


def test_no_ack_mode_begins_after_its_own_acknowledgement(client: Client) -> None:
    assert client.stub.feed(frame(b"QStartNoAckMode")) == b"+" + frame(b"OK")
    assert client.stub.feed(b"+" + frame(b"qAttached")) == frame(b"1")


def test_a_damaged_packet_in_no_ack_mode_is_an_error(machine: Machine) -> None:
    assert payloads(no_ack(Stub(machine)).feed(b"$g#00")) == [b"E05"]


def test_a_packet_that_is_too_long_is_an_error_and_not_asked_for_again(client: Client) -> None:
    assert client.stub.feed(frame(b"X" * 0x10001, runs=False)) == b"+" + frame(b"E5a")


def test_an_unknown_packet_gets_the_empty_reply(client: Client) -> None:
    for packet in ("vMustReplyEmpty", "qCRCs:0,1", "vFile:chmod:", "jThreadsInfos", "", "\x7f"):
        assert client.ask(packet) == b""


def test_a_resume_is_answered_only_when_the_target_has_stopped(client: Client) -> None:
    states = [client.stub.state]
    assert client.stub.feed(frame(b"c")) == b"+"
    states.append(client.stub.state)
    assert payloads(client.stub.report_stop(Interrupted()))[0].startswith(b"T02")
    states.append(client.stub.state)
    assert states == [State.IDLE, State.RUNNING, State.IDLE]


def test_a_stop_that_nobody_waits_for_is_not_sent(client: Client) -> None:
    assert client.stub.report_stop(Signalled()) == b""


def test_an_interrupt_byte_reaches_a_running_target(client: Client, machine: Machine) -> None:
    client.stub.feed(frame(b"c"))
    assert not machine.interrupted
    assert client.stub.feed(b"\x03") == b""
    assert machine.interrupted


def test_an_interrupt_while_stopped_comes_into_force_with_the_next_resume(client: Client, machine: Machine) -> None:
    client.stub.feed(b"\x03")
    assert not machine.interrupted
    client.stub.feed(frame(b"c"))
    assert machine.interrupted
    machine.interrupted = False
    client.stub.report_stop(Interrupted())
    client.stub.feed(frame(b"c"))
    assert not machine.interrupted


def test_vctrlc_interrupts_and_says_so(client: Client, machine: Machine) -> None:
    client.stub.feed(frame(b"c"))
    assert client.ask("vCtrlC") == b"OK"
    assert machine.interrupted


def test_other_packets_are_refused_while_the_target_runs(client: Client) -> None:
    client.stub.feed(frame(b"c"))
    assert client.ask("g").startswith(b"E.the target is running")
    assert client.stub.state is State.RUNNING


def test_detach_is_answered_and_ends_the_session(client: Client, machine: Machine) -> None:
    assert client.ask("D;1") == b"OK"
    assert client.stub.state is State.DISCONNECTED
    assert machine.detached == 1
    assert client.stub.feed(frame(b"g")) == b""


def test_a_lost_connection_detaches_once(client: Client, machine: Machine) -> None:
    client.stub.close()
    client.stub.close()
    assert machine.detached == 1


def test_k_ends_the_target_without_a_reply(client: Client, machine: Machine) -> None:
    assert client.stub.feed(frame(b"k")) == b"+"
    assert client.stub.state is State.DISCONNECTED
    assert client.stub.feed(frame(b"?")) == b""
    assert Client(machine).ask("?") == b"X09"


def test_k_lets_go_of_a_target_that_cannot_be_killed() -> None:
    client = Client(Bare())
    assert client.ask_all("k") == []
    assert client.stub.state is State.DISCONNECTED


def test_vkill_ends_the_target_with_a_reply(client: Client) -> None:
    assert client.ask("vKill;1") == b"OK"
    assert client.stub.state is State.DISCONNECTED


def test_in_extended_mode_the_session_goes_on_after_a_kill(client: Client, machine: Machine) -> None:
    assert client.ask("!") == b"OK"
    assert client.ask("vKill;1") == b"OK"
    assert client.ask("?") == b"X09"
    assert client.ask_all("R00") == []
    assert client.ask("?").startswith(b"T05")


def test_a_stop_reported_from_within_a_target_is_a_clear_error() -> None:
    class Hasty(Machine):
        def interrupt(self) -> None:
            stub.report_stop(Interrupted())

    stub = Stub(Hasty())
    stub.feed(frame(b"c"))
    with pytest.raises(RuntimeError, match="after feed"):
        stub.feed(b"\x03")


def test_something_that_is_no_target_is_refused() -> None:
    with pytest.raises(TypeError, match="stop_reason"):
        Stub(object())  # type: ignore[arg-type]  # the mistake is the point


def test_console_text_is_shown_while_the_target_runs(client: Client) -> None:
    assert client.stub.console("lost") == b""
    client.stub.feed(frame(b"c"))
    assert payloads(client.stub.console("hi\n")) == [b"O68690a"]
    assert payloads(client.stub.console(b"\xff")) == [b"Off"]


def test_long_console_text_is_sent_in_several_packets(client: Client) -> None:
    client.stub.feed(frame(b"c"))
    parts = payloads(client.stub.console("a" * 100_000))
    assert all(len(part) <= 0x10000 for part in parts)
    assert b"".join(bytes.fromhex(part[1:].decode()) for part in parts) == b"a" * 100_000


@pytest.mark.parametrize(("reason", "reply"), [(Exited(3), b"W03"), (Signalled(Signal.SEGV), b"T0b")])
def test_an_end_and_a_signal_are_told_apart(client: Client, reason: Exited | Signalled, reply: bytes) -> None:
    client.stub.feed(frame(b"c"))
    assert payloads(client.stub.report_stop(reason))[0].startswith(reply)


def test_an_end_names_the_process_to_a_multiprocess_debugger(machine: Machine) -> None:
    client = Client(machine, "multiprocess+")
    client.stub.feed(frame(b"c"))
    assert payloads(client.stub.report_stop(Exited(0))) == [b"W00;process:1"]
