"""The server in non-stop mode, packet by packet, and what interrupts leave behind."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from dbgvmm import Machine
from dbgvmm.commands import Session
from dbgvmm.debug.stops import StopKind

sys.path.insert(0, str(Path(__file__).parent))

from debugged import LIMIT, Debugged, little
from rsp_session import RspSession

BootedMachine = Callable[..., Machine]


def begin(session: RspSession) -> None:
    session.ask(b"qSupported:multiprocess+;swbreak+;hwbreak+")
    assert session.ask(b"QNonStop:1") == b"OK"
    assert session.ask(b"?").startswith(b"T05")
    assert session.ask(b"vStopped") == b"OK"


def test_a_running_guest_answers_and_goes_on(debug: Callable[[str], Debugged]) -> None:
    debugged = debug("cpubound")

    def script(session: RspSession) -> None:
        begin(session)
        assert session.ask(b"vCont;c:p1.1") == b"OK"
        counts = []
        for _ in range(3):
            time.sleep(0.05)
            assert session.ask(b"m100000,4") == b"02b0ad1b"
            counts.append(debugged.machine.count)
            assert session.ask(b"g").startswith(b"E"), "registers of a thread that runs"
        assert counts[0] < counts[1] < counts[2]
        assert session.ask(b"vCont;t:p1.1") == b"OK"
        assert session.notification().startswith(b"Stop:T00")
        assert session.ask(b"vStopped") == b"OK"
        assert not session.ask(b"g").startswith(b"E")
        session.send(b"k")

    debugged.run(script)


def test_a_breakpoint_set_while_the_guest_runs_is_hit(debug: Callable[[str], Debugged]) -> None:
    debugged = debug("cpubound")

    def script(session: RspSession) -> None:
        begin(session)
        session.ask(b"vCont;c:p1.1")
        while debugged.machine.count < 10_000_000:
            time.sleep(0.01)
        session.ask(b"vCont;t:p1.1")
        session.notification()
        session.ask(b"vStopped")
        # Somewhere in a loop, so the guest comes to one of these again.
        place, before = little(session.ask(b"p10")), debugged.machine.count
        session.ask(b"vCont;c:p1.1")
        places = range(place - 48, place + 48)
        for near in places:
            assert session.ask(b"Z0,%x,1" % near) == b"OK"
        told = session.notification()
        assert told.startswith(b"Stop:T05") and b"swbreak:" in told, (hex(place), before)
        assert session.ask(b"vStopped") == b"OK"
        assert little(session.ask(b"p10")) in places
        assert debugged.machine.count > before, (hex(place), before)
        session.send(b"k")

    debugged.run(script)


def test_the_interrupt_packet_stops_with_a_signal_and_nothing_is_left_of_it(debug: Callable[[str], Debugged]) -> None:
    debugged = debug("cpubound")

    def script(session: RspSession) -> None:
        begin(session)
        session.ask(b"vCont;c:p1.1")
        assert session.ask(b"vCtrlC") == b"OK"
        assert session.notification().startswith(b"Stop:T02")
        session.ask(b"vStopped")
        before = debugged.machine.count
        assert session.ask(b"vCont;s:p1.1") == b"OK"
        assert session.notification().startswith(b"Stop:T05")
        session.ask(b"vStopped")
        assert debugged.machine.count == before + 1
        session.send(b"k")

    debugged.run(script)


def test_an_interrupt_that_comes_with_a_continue_is_one_interrupt(debug: Callable[[str], Debugged]) -> None:
    """In all-stop mode too: the machine has not begun to run when it comes."""
    debugged = debug("cpubound")

    def script(session: RspSession) -> None:
        session.send_raw(b"$c#63\x03")
        assert session.receive().startswith(b"T02")
        session.send(b"s")
        assert session.receive().startswith(b"T05"), "and not T02 once more"
        assert debugged.machine.count == 1
        session.send(b"k")

    debugged.run(script)


def test_letting_go_of_a_running_guest_lets_it_run(debug: Callable[[str], Debugged]) -> None:
    debugged = debug("selftest")

    def script(session: RspSession) -> None:
        begin(session)
        session.ask(b"Z0,7c00,1")
        session.ask(b"vCont;c:p1.1")
        assert session.ask(b"D;1") == b"OK"

    stop = debugged.run(script)
    assert stop is not None and stop.kind is StopKind.EXIT
    assert not list(debugged.machine.breakpoints)


def test_a_running_guest_can_be_killed(debug: Callable[[str], Debugged]) -> None:
    def script(session: RspSession) -> None:
        begin(session)
        session.ask(b"vCont;c:p1.1")
        assert session.ask(b"vKill;1") == b"OK"

    stop = debug("cpubound").run(script)
    assert stop is not None
    assert (stop.kind, stop.text) == (StopKind.QUIT, "killed by the debugger")


def test_the_end_of_the_guest_is_notified(debug: Callable[[str], Debugged]) -> None:
    def script(session: RspSession) -> None:
        begin(session)
        session.ask(b"vCont;c:p1.1")
        assert session.notification() == b"Stop:W01;process:1"
        assert session.ask(b"vStopped") == b"OK"

    debug("selftest").run(script)


def test_pauses_change_neither_count_nor_output(debug: Callable[[str], Debugged], booted: BootedMachine) -> None:
    """Timer interrupts arrive at the same instructions, however often a debugger asks."""
    alone = booted("selftest")
    alone.run()
    debugged = debug("selftest")

    def script(session: RspSession) -> None:
        begin(session)
        session.ask(b"vCont;c:p1.1")
        asked = 0
        while not session.notifications:
            asked += session.ask(b"m100000,4") == b"02b0ad1b"
        assert asked > 1

    debugged.run(script)
    assert debugged.machine.count == alone.count
    assert debugged.machine.serial_log == alone.serial_log


def test_a_breakpoint_in_front_of_which_the_guest_was_paused_is_hit(
    debug: Callable[[str], Debugged], hello: Session
) -> None:
    debugged = debug("hello")
    machine, server = debugged.machine, debugged.server
    kmain = hello.symbols.find("kmain")
    assert kmain is not None
    probe = hello.machine
    probe.breakpoints.add(kmain.address)
    probe.run()
    target = server._target
    target.resumed_at = 0
    server._stub = object()  # type: ignore[assignment]  # a debugger is there; nothing is sent to it
    machine.breakpoints.add(kmain.address)
    stop = server.run(lambda steps=None: machine.run(steps=steps, max_count=probe.count))
    assert (stop.kind, machine.count) == (StopKind.LIMIT, probe.count), "in front of it, and not yet hit"
    machine.last_stop = None
    assert server.run(machine.run).kind is StopKind.BREAKPOINT
    target.resumed_at = machine.count
    stop = server.run(lambda steps=None: machine.run(steps=steps, max_count=probe.count + 10))
    assert stop.kind is StopKind.LIMIT, "resumed there, it is passed"
    server._stub = None


def test_control_c_is_heard_soon_in_32_bit_code(debug: Callable[[str], Debugged]) -> None:
    debugged = debug("hello")

    def script(session: RspSession) -> None:
        session.ask(b"X%x,2:\xeb\xfe" % debugged.machine.cpu.rip)
        session.send(b"c")
        time.sleep(0.1)
        started = time.monotonic()
        session.send_raw(b"\x03")
        assert session.receive().startswith(b"T02")
        assert time.monotonic() - started < 5
        assert debugged.machine.count < LIMIT
        session.send(b"k")

    debugged.run(script)
