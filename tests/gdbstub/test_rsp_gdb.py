"""A real gdb against the example machine."""

from __future__ import annotations

import shutil
import subprocess
import threading
from pathlib import Path

import pytest
from rsp_machine import DATA, INC_RAX, NOP, RAX, Machine, serve

from gdbstub import ONLY_THREAD, Listener

pytestmark = pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb is not installed")

INTERRUPT_SOON = (
    "python import os, signal, threading; threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()"
)


class Gdb:
    """Runs gdb sessions against a machine that is served from a thread."""

    def __init__(self, tmp_path: Path) -> None:
        self._address = f"unix:{tmp_path / 'gdb.sock'}"
        self.log: list[str] = []

    def __call__(
        self, machine: Machine, *commands: str, connect: str = "target remote", before: tuple[str, ...] = ()
    ) -> str:
        """All that gdb prints for `commands`, given after connecting and after those `before`."""
        with Listener(self._address) as listener:
            server = threading.Thread(target=serve, args=(listener, machine, self.log), daemon=True)
            server.start()
            arguments = ["gdb", "-nx", "-batch"]
            for command in ("set confirm off", *before, f"{connect} {listener.address}", *commands):
                arguments += ["-ex", command]
            result = subprocess.run(arguments, capture_output=True, text=True, timeout=30, check=False)
            server.join(10)
            assert not server.is_alive(), result.stdout + result.stderr
        return result.stdout + result.stderr


@pytest.fixture
def gdb(tmp_path: Path) -> Gdb:
    return Gdb(tmp_path)


def test_gdb_shows_registers_and_which_are_unavailable(gdb: Gdb, machine: Machine) -> None:
    text = gdb(machine, "info registers rip rbx", "print $st0", "show architecture")
    assert "0x1000" in text
    assert "0x2000" in text
    assert "<unavailable>" in text
    assert "i386:x86-64" in text


def test_gdb_reads_and_writes_memory_and_registers(gdb: Gdb, machine: Machine) -> None:
    text = gdb(
        machine,
        "x/4i $rip",
        f"set *(unsigned long *){DATA + 8:#x} = 0x1122334455667788",
        "set $rax = 0x77",
        f"x/xg {DATA + 8:#x}",
        "x/xb 0",
    )
    assert "mov    %al,(%rbx)" in text
    assert "inc    %rax" in text
    assert "0x1122334455667788" in text
    assert "Cannot access memory at address 0x0" in text
    assert machine.cpus[ONLY_THREAD].values[RAX] == 0x77


def test_gdb_writes_memory_in_bulk(gdb: Gdb, machine: Machine, tmp_path: Path) -> None:
    data = bytes(range(256)) * 12
    (tmp_path / "image").write_bytes(data)
    gdb(machine, f"restore {tmp_path / 'image'} binary {DATA:#x}")
    assert machine.read_memory(ONLY_THREAD, DATA, len(data)) == data


def test_gdb_stops_at_breakpoints_and_steps(gdb: Gdb, machine: Machine) -> None:
    text = gdb(
        machine,
        f"break *{NOP:#x}",
        f"tbreak *{INC_RAX:#x}",
        "continue",
        "info registers rip",
        "continue",
        "info registers rip",
        "stepi",
        "stepi",
        "info registers rip",
        "continue",
        "print $rax",
    )
    assert "Temporary breakpoint 2, 0x0000000000001002" in text
    assert text.count("Breakpoint 1, 0x0000000000001005") == 2
    assert "0x1000" in text
    assert "$1 = 2" in text


def test_gdb_stops_at_a_hardware_breakpoint(gdb: Gdb, machine: Machine) -> None:
    assert "Breakpoint 1, 0x0000000000001005" in gdb(machine, f"hbreak *{NOP:#x}", "continue")


def test_gdb_stops_at_watchpoints(gdb: Gdb, machine: Machine) -> None:
    text = gdb(machine, f"watch *(char *){DATA:#x}", "continue", "continue", "print $rax")
    assert "Old value = 0 '\\000'\nNew value = 1" in text
    assert "Old value = 1 '\\001'\nNew value = 2" in text
    assert "$1 = 2" in text
    text = gdb(Machine(bytes.fromhex("90 8a03 90 f4")), f"rwatch *(char *){DATA:#x}", "continue")
    assert "Value = 0" in text


def test_gdb_interrupts_a_running_machine(gdb: Gdb, machine: Machine) -> None:
    text = gdb(machine, INTERRUPT_SOON, "continue", "print $rax > 100")
    assert "received signal SIGINT" in text
    assert "$1 = 1" in text


def test_gdb_sees_the_machine_end(gdb: Gdb) -> None:
    assert "exited with code 01" in gdb(Machine(bytes.fromhex("48ffc0 f4")), "continue")


def test_gdb_sees_a_signal(gdb: Gdb) -> None:
    assert "received signal SIGILL" in gdb(Machine(b"\x0f\x0b"), "continue")


def test_gdb_shows_all_cpus_and_their_registers(gdb: Gdb) -> None:
    text = gdb(
        Machine(cpus=3),
        "info threads",
        "thread 2",
        "set $rax = 5",
        "thread apply all print $rax",
        "set scheduler-locking on",
        "stepi",
        "thread apply all -q info registers rip",
    )
    assert 'Thread 1.2 "CPU 1" (halted)' in text
    assert "Thread 1.3" in text
    assert "= 5" in text
    assert text.count("0x1002") >= 1
    assert text.count("0x1000") >= 2


def test_gdb_runs_monitor_commands(gdb: Gdb, machine: Machine) -> None:
    text = gdb(machine, "monitor echo hello there", "monitor repeat 70000")
    assert "hello there\n" in text
    assert "x" * 70000 in text
    assert "there is no command 'frob'" in gdb(Machine(), "monitor frob")


def test_gdb_reads_the_memory_map(gdb: Gdb, machine: Machine) -> None:
    text = gdb(machine, "info mem")
    assert "0x0000000000001000 0x0000000000003000 rw" in text


def test_gdb_detaches_when_it_quits(gdb: Gdb, machine: Machine) -> None:
    gdb(machine, f"break *{NOP:#x}", "continue")
    assert gdb.log == ["connected", "disconnected"]
    assert machine.detached == 1
    assert not machine.breakpoints


def test_gdb_kills_and_runs_again_in_extended_mode(gdb: Gdb, machine: Machine) -> None:
    text = gdb(
        machine,
        f"break *{NOP:#x}",
        "continue",
        "continue",
        "kill",
        "run",
        "print $rax",
        connect="target extended-remote",
    )
    assert "[Inferior 1 (process 1) killed]" in text
    assert "$1 = 1" in text


def test_gdb_works_with_the_oldest_packets_only(gdb: Gdb, machine: Machine) -> None:
    names = (
        "verbose-resume",
        "noack",
        "binary-download",
        "set-register",
        "fetch-register",
        "multiprocess-feature",
        "threads",
        "swbreak-feature",
    )
    text = gdb(
        machine,
        f"set *(char *){DATA:#x} = 1",
        "set $rax = 3",
        f"break *{NOP:#x}",
        "continue",
        "stepi",
        "print $rax",
        "info threads",
        before=tuple(f"set remote {name}-packet off" for name in names),
    )
    assert "$1 = 4" in text
    assert "CPU 0, halted" in text
