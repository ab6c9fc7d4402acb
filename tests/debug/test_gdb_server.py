"""The server, with a debugger that is a thread of the test: who has the machine, and when."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dbgvmm import Machine
from dbgvmm.commands import Session
from dbgvmm.debug.gdb_target import GdbTarget
from dbgvmm.debug.stops import StopKind
from gdbstub import ONLY_THREAD, MemoryFault
from gdbstub import Monitor as MonitorProtocol

sys.path.insert(0, str(Path(__file__).parent))

from debugged import LIMIT, Debugged, little
from rsp_session import RspSession

BootedMachine = Callable[..., Machine]


def test_nothing_runs_before_the_debugger_says_so(debug: Callable[[str], Debugged]) -> None:
    debugged = debug("hello")

    def script(session: RspSession) -> None:
        assert session.ask(b"?").startswith(b"T05")
        assert debugged.machine.count == 0
        session.send(b"D")

    stop = debugged.run(script)
    assert stop is not None
    assert stop.kind is StopKind.HALT, "after detach the machine runs on, to its own end"


def test_no_wait_for_a_debugger_is_endless(debug: Callable[[str], Debugged], monkeypatch: pytest.MonkeyPatch) -> None:
    # A signal that comes between the interpreter's last look and the system call would not end it.
    server = debug("hello").server
    waits: list[float | None] = []

    def poll(timeout: float | None = None) -> list[object]:
        waits.append(timeout)
        if len(waits) == 2:
            raise KeyboardInterrupt
        return []

    monkeypatch.setattr(server._listener, "poll", poll)
    with pytest.raises(KeyboardInterrupt):
        server.wait_for_debugger()
    assert all(wait is not None and wait <= 1 for wait in waits)


def test_a_debugger_that_connects_stops_the_guest_and_one_that_hangs_up_lets_it_go_on(
    debug: Callable[[str], Debugged],
) -> None:
    debugged = debug("cpubound")
    counts: list[int] = []

    def script(session: RspSession) -> None:
        assert session.ask(b"?")[:1] == b"T"
        counts.append(debugged.machine.count)
        session.ask(b"p10")
        counts.append(debugged.machine.count)

    stop = debugged.run(script, wait=False)
    assert stop is not None
    assert stop.kind is StopKind.LIMIT
    assert counts[0] == counts[1] < debugged.machine.count == LIMIT
    assert debugged.said[-1] == "gdb has let go"


def test_control_c_interrupts_also_when_it_comes_with_the_continue(debug: Callable[[str], Debugged]) -> None:
    def script(session: RspSession) -> None:
        session.send(b"c")
        session.send_raw(b"\x03")
        assert session.receive().startswith(b"T02")
        session.send_raw(b"$c#63\x03")
        assert session.receive().startswith(b"T02")
        session.send(b"k")

    stop = debug("cpubound").run(script)
    assert stop is not None
    assert (stop.kind, stop.text) == (StopKind.QUIT, "killed by the debugger")


def test_one_control_c_is_one_stop(debug: Callable[[str], Debugged]) -> None:
    """Also when it comes before the machine has begun to run, or between the steps of a range."""

    def script(session: RspSession) -> None:
        session.send_raw(b"$c#63\x03")
        assert session.receive().startswith(b"T02")
        assert session.ask(b"s").startswith(b"T05")
        session.send(b"vCont;r0,ffffffffffffffff:1")
        session.send_raw(b"\x03")
        assert session.receive().startswith(b"T02")
        assert session.ask(b"s").startswith(b"T05")
        session.send(b"k")

    debug("cpubound").run(script)


def test_breakpoints_stop_in_front_of_the_instruction_and_go_with_the_debugger(
    debug: Callable[[str], Debugged], hello: Session
) -> None:
    debugged = debug("hello")
    kmain = hello.symbols.find("kmain")
    assert kmain is not None

    def script(session: RspSession) -> None:
        session.ask(b"qSupported:swbreak+;hwbreak+")
        assert session.ask(b"Z0,%x,1" % kmain.address) == b"OK"
        assert b"swbreak:" in session.ask(b"c")
        assert little(session.ask(b"p10")) == kmain.address
        assert session.ask(b"m%x,1" % kmain.address) == b"55", "the guest's memory must not show the breakpoint"
        assert session.ask(b"z0,%x,1" % kmain.address) == b"OK"
        assert session.ask(b"Z1,%x,1" % (kmain.address + 1)) == b"OK"
        assert b"hwbreak:" in session.ask(b"c")
        assert session.ask(b"D") == b"OK"

    debugged.run(script)
    assert not list(debugged.machine.breakpoints)


def test_a_step_is_one_instruction_and_a_range_step_ends_outside_the_range(
    debug: Callable[[str], Debugged], hello: Session
) -> None:
    debugged = debug("hello")
    first = hello.machine.cpu.rip

    def script(session: RspSession) -> None:
        assert b"vCont" in session.ask(b"vCont?")
        assert session.ask(b"s").startswith(b"T05")
        assert little(session.ask(b"p10")) == first + 1
        assert session.ask(b"vCont;r%x,%x:1" % (first + 1, first + 7)).startswith(b"T05")
        assert little(session.ask(b"p10")) == first + 7
        session.send(b"k")

    debugged.run(script)
    assert debugged.machine.count == 3


def test_a_guest_that_leaves_gives_its_exit_code(debug: Callable[[str], Debugged]) -> None:
    def script(session: RspSession) -> None:
        assert session.ask(b"c") == b"W01"

    stop = debug("selftest").run(script)
    assert stop is not None
    assert (stop.kind, stop.exit_code) == (StopKind.EXIT, 1)


def test_after_a_triple_fault_the_machine_can_be_looked_at_but_not_continued(
    debug: Callable[[str], Debugged],
) -> None:
    debugged = debug("triplefault")

    def script(session: RspSession) -> None:
        session.send(b"c")
        said = session.receive()
        assert said.startswith(b"O")
        assert b"triple fault" in bytes.fromhex(said[1:].decode())
        assert session.receive().startswith(b"T0b")
        rip = session.ask(b"p10")
        session.send(b"c")
        session.receive()
        assert session.receive().startswith(b"T0b")
        assert session.ask(b"p10") == rip

    stop = debugged.run(script)
    assert stop is not None
    assert stop.kind is StopKind.TRIPLE_FAULT


def test_extended_mode_begins_again(debug: Callable[[str], Debugged]) -> None:
    debugged = debug("selftest")

    def script(session: RspSession) -> None:
        assert session.ask(b"!") == b"OK"
        assert session.ask(b"c").startswith(b"W")
        session.send(b"R00")
        assert session.ask(b"?").startswith(b"T05")
        assert session.ask(b"c").startswith(b"W")

    stop = debugged.run(script)
    assert stop is not None
    assert stop.kind is StopKind.EXIT


def test_monitor_runs_commands_and_explains_mistakes(debug: Callable[[str], Debugged]) -> None:
    def rcmd(session: RspSession, line: str) -> str:
        session.send(b"qRcmd," + line.encode().hex().encode())
        reply = session.receive()
        while reply.startswith(b"O") and reply != b"OK":
            text = bytes.fromhex(reply[1:].decode()).decode()
            if session.receive().startswith(b"E"):
                return "error: " + text
        return bytes.fromhex(reply.decode()).decode()

    def script(session: RspSession) -> None:
        assert "virtual time" in rcmd(session, "info time")
        assert "error: there is no command" in rcmd(session, "frob")
        assert "error: use gdb's `kill`" in rcmd(session, "quit")
        session.send(b"k")

    debug("hello").run(script)


def test_what_comes_while_a_monitor_command_runs_the_guest_stops_it_and_is_served(debug: Callable[[str], Debugged]) -> None:
    def script(session: RspSession) -> None:
        session.send(b"qRcmd," + b"continue".hex().encode())
        said = session.receive()
        assert said.startswith(b"O") and b"cpubound" in bytes.fromhex(said[1:].decode()), "before the command has ended"
        count = debugged.machine.count
        session.send_raw(b"-")  # gdb does so every two seconds
        while debugged.machine.count < count + 3_000_000:
            time.sleep(0.01)
        session.send(b"p10")
        while (reply := session.receive()).startswith(b"O"):
            pass
        assert b"interrupted by the debugger, after" in bytes.fromhex(reply.decode())
        rip = session.receive()
        assert len(rip) == 16
        assert session.ask(b"p10") == rip
        session.send(b"k")

    debugged = debug("cpubound")
    debugged.run(script)


def test_a_guest_that_a_monitor_command_has_run_to_its_end_does_not_go_on(debug: Callable[[str], Debugged]) -> None:
    debugged = debug("selftest")

    def script(session: RspSession) -> None:
        session.send(b"qRcmd," + b"continue".hex().encode())
        while session.receive().startswith(b"O"):
            pass
        count = debugged.machine.count
        assert session.ask(b"s") == b"W01"
        assert debugged.machine.count == count

    stop = debugged.run(script)
    assert stop is not None
    assert (stop.kind, stop.exit_code) == (StopKind.EXIT, 1)


def test_memory_is_read_up_to_the_end_of_what_is_mapped(booted: BootedMachine) -> None:
    machine = booted("hello")
    target = GdbTarget(machine)
    end = machine.ram.size
    assert len(target.read_memory(ONLY_THREAD, end - 16, 64)) == 16
    with pytest.raises(MemoryFault, match="not RAM"):
        target.read_memory(ONLY_THREAD, end, 4)
    with pytest.raises(MemoryFault):
        target.write_memory(ONLY_THREAD, end - 2, b"abcd")
    assert target.read_memory(ONLY_THREAD, end - 2, 2) == bytes(2), "a write that fails writes nothing"


def test_setting_a_breakpoint_twice_is_once_and_others_are_left_alone(booted: BootedMachine) -> None:
    machine = booted("hello")
    target = GdbTarget(machine)
    machine.breakpoints.add(0x1000)
    target.insert_breakpoint(0x1000, 1)
    target.insert_breakpoint(0x1000, 1)
    target.insert_hardware_breakpoint(0x2000, 1)
    target.remove_breakpoint(0x3000, 1)
    target.let_go()
    assert list(machine.breakpoints) == [0x1000]
    assert isinstance(target, MonitorProtocol)
