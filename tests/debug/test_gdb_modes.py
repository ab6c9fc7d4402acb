"""What a debugger is told when the CPU changes its mode, packet by packet."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from dbgvmm import Machine
from dbgvmm.debug.gdb_target import GdbTarget
from gdbstub.tracing import Key, Plan, Tracepoint

sys.path.insert(0, str(Path(__file__).parent))

from debugged import Debugged, little
from rsp_session import RspSession

BootedMachine = Callable[..., Machine]
FAR_JUMP, FIRST_64 = 0x1000B5, 0x1000E3
FEATURES = b"qSupported:multiprocess+;swbreak+;hwbreak+;exec-events+"
NARROW_G, WIDE_G = 2 * (10 * 4 + 6 * 4 + 80 + 32 + 128 + 4 + 16), 2 * (16 * 8 + 8 + 4 + 24 + 80 + 32 + 256 + 4 + 16)
CONTINUE = b"vCont;c:p1.-1"


def test_the_block_of_registers_has_the_length_of_the_mode(debug: Callable[[str], Debugged]) -> None:
    def script(session: RspSession) -> None:
        session.ask(FEATURES)
        assert len(session.ask(b"g")) == NARROW_G
        assert b"exec:" in session.ask(CONTINUE)
        assert len(session.ask(b"g")) == WIDE_G
        session.send(b"k")

    debug("hello").run(script)


def test_the_machine_stops_in_front_of_the_first_instruction_of_the_mode(debug: Callable[[str], Debugged]) -> None:
    debugged = debug("hello")

    def script(session: RspSession) -> None:
        session.ask(FEATURES)
        assert b"<architecture>i386<" in session.ask(b"qXfer:features:read:target.xml:0,200")
        session.ask(CONTINUE)
        assert b"<architecture>i386:x86-64<" in session.ask(b"qXfer:features:read:target.xml:0,200")
        assert little(session.ask(b"p10")) == FIRST_64
        assert debugged.machine.count == 3109
        session.send(b"k")

    debugged.run(script)


def test_the_rest_of_the_run_is_the_same_to_the_instruction(debug: Callable[[str], Debugged], booted: BootedMachine) -> None:
    alone = booted("modes")
    alone.run()
    debugged = debug("modes")

    def script(session: RspSession) -> None:
        session.ask(FEATURES)
        replies = [session.ask(CONTINUE) for _ in range(3)]
        assert all(b"exec:" in reply for reply in replies), "16 bits, 32 bits, 64 bits"
        assert session.ask(CONTINUE).startswith(b"W01")

    debugged.run(script)
    assert debugged.machine.count == alone.count


def test_a_debugger_that_cannot_follow_gets_the_64_bit_description_and_no_stop(debug: Callable[[str], Debugged]) -> None:
    def script(session: RspSession) -> None:
        session.ask(b"qSupported:multiprocess+;swbreak+;hwbreak+")
        assert b"<architecture>i386:x86-64<" in session.ask(b"qXfer:features:read:target.xml:0,200")
        assert len(session.ask(b"g")) == WIDE_G
        assert session.ask(b"c").startswith(b"W01")

    debug("modes").run(script)


def test_what_was_set_is_gone_with_the_old_description(debug: Callable[[str], Debugged]) -> None:
    debugged = debug("hello")

    def script(session: RspSession) -> None:
        session.ask(FEATURES)
        assert session.ask(b"Z0,106000,1") == b"OK"
        assert session.ask(b"Z2,10bff8,8") == b"OK"
        assert b"exec:" in session.ask(CONTINUE)
        assert not list(debugged.machine.breakpoints)
        assert not len(debugged.machine.watchpoints)
        session.send(b"k")

    debugged.run(script)


def test_a_breakpoint_set_at_the_first_instruction_of_the_mode_is_hit_without_running(
    debug: Callable[[str], Debugged],
) -> None:
    debugged = debug("hello")

    def script(session: RspSession) -> None:
        session.ask(FEATURES)
        session.ask(CONTINUE)
        session.ask(b"Z0,%x,1" % FIRST_64)
        before = debugged.machine.count
        assert b"swbreak:" in session.ask(CONTINUE)
        assert debugged.machine.count == before
        session.send(b"k")

    debugged.run(script)


def test_a_step_into_the_mode_is_told_after_the_change_and_runs_nothing_more(debug: Callable[[str], Debugged]) -> None:
    debugged = debug("hello")

    def script(session: RspSession) -> None:
        session.ask(FEATURES)
        session.ask(b"Z0,%x,1" % FAR_JUMP)
        assert b"swbreak:" in session.ask(CONTINUE)
        assert b"exec:" in session.ask(b"vCont;s:p1.1")
        before = debugged.machine.count
        assert session.ask(CONTINUE).startswith(b"T00")
        assert debugged.machine.count == before
        assert session.ask(b"vCont;s:p1.1").startswith(b"T05")
        assert debugged.machine.count == before + 1
        session.send(b"k")

    debugged.run(script)


def test_a_mode_that_registers_were_written_to_is_told_before_anything_runs(debug: Callable[[str], Debugged]) -> None:
    debugged = debug("hello")

    def script(session: RspSession) -> None:
        session.ask(FEATURES)
        session.ask(CONTINUE)
        debugged.machine.restart()  # as a command of the monitor could
        before = debugged.machine.count
        assert b"exec:" in session.ask(CONTINUE)
        assert debugged.machine.count == before
        assert len(session.ask(b"g")) == NARROW_G
        session.send(b"k")

    debugged.run(script)


def test_compatibility_mode_under_a_64_bit_kernel_changes_nothing(debug: Callable[[str], Debugged]) -> None:
    """Selftest has code in compatibility mode; gdb would have to read the kernel's symbols at each system call."""

    def script(session: RspSession) -> None:
        session.ask(FEATURES)
        assert b"exec:" in session.ask(CONTINUE)
        assert session.ask(CONTINUE).startswith(b"W01")

    debug("selftest").run(script)


def test_the_end_of_the_guest_is_told_as_it_is(debug: Callable[[str], Debugged]) -> None:
    debugged = debug("hello")

    def script(session: RspSession) -> None:
        session.ask(FEATURES)
        session.ask(CONTINUE)
        session.send(CONTINUE)
        assert session.receive().startswith(b"O"), "halted"
        assert session.receive().startswith(b"T05")
        session.send(b"k")

    debugged.run(script)


def test_the_kernel_is_named_only_to_a_debugger_that_took_it_from_here(debug: Callable[[str], Debugged]) -> None:
    debugged = debug("modes")
    kernel = str(debugged.machine.kernel.resolve()).encode() if debugged.machine.kernel else b""

    def script(session: RspSession) -> None:
        session.ask(FEATURES)
        assert b"exec:" + b"16-bit code".hex().encode() in session.ask(CONTINUE)
        assert session.ask(b"vFile:open:" + kernel.hex().encode() + b",0,0").startswith(b"F")
        assert b"exec:" + kernel.hex().encode() in session.ask(CONTINUE)
        session.send(b"k")

    debugged.run(script)


def test_a_change_of_mode_does_not_end_tracing(debug: Callable[[str], Debugged]) -> None:
    debugged = debug("hello")
    experiment = debugged.machine.tracing.experiment
    experiment.define(Tracepoint(Key(1, 0x106000), Plan()), enabled=True)
    experiment.complete(Key(1, 0x106000))
    experiment.start()
    running: list[bool] = []

    def script(session: RspSession) -> None:
        session.ask(FEATURES)
        assert b"exec:" in session.ask(CONTINUE)
        running.append(experiment.running)
        session.send(b"k")

    debugged.run(script)
    assert running == [True]


def test_tracepoints_are_not_refused_when_the_debugger_has_left(booted: BootedMachine) -> None:
    machine = booted("hello")
    target = GdbTarget(machine)
    target.takes_exec_events = True
    assert "64-bit code" in machine.tracing.experiment.refusal
    target.let_go()
    assert machine.tracing.experiment.refusal == ""
