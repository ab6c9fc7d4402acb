"""`GdbSession.serve`: the real gdb on a machine of the test's own process."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from dbgvmm import Machine, MachineConfig
from dbgvmm.debug.stops import StopKind
from dbgvmm.gdb import CommandFailed, GdbSession, Reason, SessionError, VmFailed

pytestmark = pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb is not installed")

Guest = Callable[[str], Path]


def booted(kernel: Path, output: list[bytes] | None = None) -> Machine:
    machine = Machine(MachineConfig(memory=32 << 20), output.append if output is not None else None)
    machine.boot(kernel)
    return machine


def test_gdb_and_the_script_see_the_same_machine(guest: Guest) -> None:
    machine = booted(guest("hello"))
    with GdbSession.serve(machine) as gdb:
        gdb.break_at("kmain")
        stop = gdb.continue_()
        assert machine.cpu.rip == stop.pc == gdb.register("rip")
        count = machine.count
        gdb.step_instruction(3)
        assert machine.count == count + 3
        gdb.set("$rbx", 77)
        assert machine.cpu.gpr[3] == 77


def test_the_count_at_a_breakpoint_is_that_of_a_run_without_gdb(guest: Guest) -> None:
    alone = booted(guest("selftest"))
    with GdbSession.serve(booted(guest("selftest")), symbols=guest("selftest").with_suffix(".elf64")) as gdb:
        address = gdb.break_at("test_strings").address
        gdb.continue_()
        text = gdb.monitor("info time")
    assert address is not None
    alone.breakpoints.add(address)
    assert alone.run().kind is StopKind.BREAKPOINT
    assert f"{alone.count:,}" in text


def test_afterwards_the_machine_is_the_scripts_again(guest: Guest) -> None:
    output: list[bytes] = []
    machine = booted(guest("cpubound-small"), output)
    with GdbSession.serve(machine) as gdb:
        gdb.break_at("verdict")
        gdb.continue_()
        with pytest.raises(SessionError, match="has not started the machine"):
            gdb.serial_output()
    assert machine.service is None and machine.idle is None
    stop = machine.run()
    assert (stop.kind, stop.exit_code) == (StopKind.EXIT, 1), "and gdb's breakpoint is gone"
    assert b"PASS 8 checks" in b"".join(output)


def test_a_session_that_ends_while_the_guest_runs_stops_it(guest: Guest) -> None:
    machine = booted(guest("cpubound"))
    with GdbSession.serve(machine) as gdb:
        gdb.resume()
    count = machine.count
    assert 0 < count == machine.count
    machine.step()
    assert machine.count == count + 1


def test_a_running_guest_is_interrupted_and_goes_to_its_end(guest: Guest) -> None:
    with GdbSession.serve(booted(guest("cpubound"))) as gdb:
        gdb.resume()
        assert gdb.interrupt().signal == "SIGINT"
        assert (end := gdb.continue_()).reason is Reason.EXITED and end.exit_code == 1
        with pytest.raises(CommandFailed):
            gdb.continue_()


def test_an_error_in_the_machine_is_handed_to_the_script(guest: Guest) -> None:
    machine = booted(guest("cpubound-small"))

    def fail(data: bytes) -> None:
        raise ZeroDivisionError("in the script's own serial_out")

    message = "ZeroDivisionError: in the script's own serial_out"
    with pytest.raises(VmFailed, match=message), GdbSession.serve(machine) as gdb:
        machine.serial_out = fail
        gdb.continue_()


def test_a_gdb_that_is_not_there_leaves_nothing(guest: Guest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    machine = booted(guest("hello"))
    with pytest.raises(SessionError, match="not installed"):
        GdbSession.serve(machine, gdb="gdb-that-is-not-there")
    assert list(tmp_path.iterdir()) == [] and machine.service is None
