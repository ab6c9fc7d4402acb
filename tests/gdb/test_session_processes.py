"""`GdbSession` and its processes: what starts them, what ends them, and what is left; with the real gdb."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep

import pytest

from dbgvmm.gdb import CommandFailed, GdbGone, GdbSession, SessionError, TimedOut, VmFailed

pytestmark = pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb is not installed")

Guest = Callable[[str], Path]


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def ended(pid: int) -> bool:
    """Gone, or waiting for whoever inherited it to take note."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory for temporary files, of this test alone."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


# -- the machine


def test_options_reach_the_machine(guest: Guest, tmp_path: Path) -> None:
    statistics = tmp_path / "statistics.json"
    with GdbSession.run(
        guest("cpubound"), memory="48M", options=("--max-insns", "5000000", "--stats", str(statistics))
    ) as session:
        assert "instruction limit was reached" in session.continue_().output
        assert session.read_memory((48 << 20) - 1, 1) == b"\0"
        with pytest.raises(CommandFailed, match="Unable to read memory"):
            session.read_memory(48 << 20, 1)
    assert '"instructions": 5000000' in statistics.read_text(), "it is ended so that it can write them"


def test_the_command_line_and_the_initial_ram_disk_reach_the_kernel(guest: Guest, tmp_path: Path) -> None:
    """Multiboot information: the command line at 16, the number of modules at 20, their table at 24."""
    module = tmp_path / "module"
    module.write_bytes(b"sixteen bytes ..")
    with GdbSession.run(guest("hello"), append="one two", initrd=module) as session:
        session.break_at("kmain")
        session.continue_()
        line = session.integer("*(unsigned *) (information + 16UL)")
        assert session.read_memory(line, 40).split(b"\0")[0].endswith(b"one two")
        assert session.integer("*(unsigned *) (information + 20UL)") == 1
        start = session.integer("**(unsigned **) (information + 24UL) + 0UL")
        assert session.read_memory(start, 16) == module.read_bytes()


def test_a_guest_gets_what_is_typed(guest: Guest) -> None:
    with GdbSession.run(guest("cpubound")) as session:
        session.break_at("run_crc_bitwise")
        session.serial_input("abc")
        session.continue_()
        assert "3 characters in the FIFO" in session.monitor("info uart")


def test_a_guest_runs_until_it_has_printed_something(guest: Guest) -> None:
    with GdbSession.run(guest("cpubound")) as session:
        assert session.continue_to_output("ok  ").splitlines()[0] == "cpubound: scale 100"
        assert session.continue_to_output("table\r\n") == " crc32 by table\r\n"
        assert not session.running
        assert session.continue_to_output("ok  ").startswith("crc32 bit by bit"), "the second one"
        with pytest.raises(TimedOut, match="has not printed 'never' within 0.2 s"):
            session.continue_to_output("never", timeout=0.2)
        session.break_at("print")
        with pytest.raises(SessionError, match=r"has stopped \(breakpoint-hit\) without having printed 'never'"):
            session.continue_to_output("never")


def test_a_kernel_that_cannot_be_used_is_said_in_dbgvmms_words(temporary: Path) -> None:
    with pytest.raises(VmFailed, match=r"nothing\.elf.*No such file") as caught:
        GdbSession.run(temporary / "nothing.elf")
    assert caught.value.status == 66
    assert list(temporary.iterdir()) == []


# -- the end


def test_the_end_of_the_block_ends_both_processes_and_leaves_nothing(guest: Guest, temporary: Path) -> None:
    with GdbSession.run(guest("hello")) as session:
        pids = session.pids
        assert not any(map(gone, pids))
        assert list(temporary.iterdir()) != []
    assert len(pids) == 2 and all(map(gone, pids))
    assert list(temporary.iterdir()) == []
    session.close()
    with pytest.raises(GdbGone):
        session.evaluate("1")


def test_what_the_guest_has_printed_can_be_read_after_the_end(guest: Guest) -> None:
    with GdbSession.run(guest("hello")) as session:
        session.continue_()
    assert session.serial_output() == "Hello from long mode.\r\n"
    assert "gdb has connected" in session.messages()


def test_so_does_an_error_while_the_guest_runs(guest: Guest) -> None:
    with pytest.raises(ZeroDivisionError), GdbSession.run(guest("cpubound")) as session:
        session.resume()
        raise ZeroDivisionError
    assert all(map(gone, session.pids))


def test_a_machine_that_dies_is_noticed_at_once(guest: Guest) -> None:
    with GdbSession.run(guest("cpubound")) as session:
        session.resume()
        os.kill(session.pids[1], signal.SIGKILL)
        before = monotonic()
        with pytest.raises(VmFailed, match="was killed by signal 9"):
            session.wait_for_stop()
        assert monotonic() - before < 10
        with pytest.raises(VmFailed, match="was killed by signal 9"):
            session.registers("rip")
    assert all(map(gone, session.pids))


def test_a_machine_that_hangs_is_ended_all_the_same(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dbgvmm.gdb.vm._END_SECONDS", 0.3)
    with GdbSession.run(guest("hello"), command_timeout=20) as session:
        os.kill(session.pids[1], signal.SIGSTOP)
        session.command_timeout = 0.5
        with pytest.raises(TimedOut, match="gdb has not answered"):
            session.read_memory(0x300000, 4)
    assert all(map(gone, session.pids))


def test_a_gdb_that_hangs_is_ended_all_the_same(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dbgvmm.gdb.channel._LAST_WORDS_SECONDS", 0.3)
    with GdbSession.run(guest("hello")) as session:
        os.kill(session.pids[0], signal.SIGSTOP)
        session.command_timeout = 0.3
        with pytest.raises(TimedOut, match="gdb has not answered"):
            session.evaluate("1")
    assert all(map(gone, session.pids))


def test_a_script_that_forgets_the_end_leaves_nothing(guest: Guest) -> None:
    script = f"from dbgvmm.gdb import GdbSession\ns = GdbSession.run({str(guest('cpubound'))!r})\ns.resume()\nprint(*s.pids)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert all(gone(int(pid)) for pid in done.stdout.split())


@pytest.mark.parametrize("running", [True, False])
def test_a_script_that_is_killed_leaves_no_process(guest: Guest, running: bool) -> None:
    script = f"""
import time
from dbgvmm.gdb import GdbSession
gdb = GdbSession.run({str(guest("hello"))!r})
gdb.break_at("kmain", temporary=True)
gdb.continue_()
gdb.write_memory("$pc", b"\\xeb\\xfe")  # jumps to itself: this guest does not end
if {running}:
    gdb.resume()
print(*gdb.pids, flush=True)
time.sleep(1000)
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    pids = [int(pid) for pid in process.stdout.readline().split()]
    process.kill()
    process.communicate()
    deadline = monotonic() + 20
    while not all(map(ended, pids)) and monotonic() < deadline:
        sleep(0.05)
    assert len(pids) == 2 and all(map(ended, pids))


# -- a machine that runs already


@pytest.mark.parametrize("options", [("--wait",), ()])
def test_a_session_attaches_to_a_machine_and_lets_it_go(guest: Guest, tmp_path: Path, options: tuple[str, ...]) -> None:
    """To one that waits and to one that runs already."""
    socket = tmp_path / "gdb"
    line = [sys.executable, "-m", "dbgvmm", "run", str(guest("cpubound")), f"--gdb=unix:{socket}", *options]
    vm = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert vm.stderr is not None and "gdb: target remote" in vm.stderr.readline()
        with GdbSession.attach(f"unix:{socket}") as session:
            session.break_at("verdict")
            stop = session.continue_()
            assert stop.frame is not None and stop.frame.function == "verdict"
            with pytest.raises(SessionError, match="has not started the machine"):
                session.serial_output()
        output, _ = vm.communicate(timeout=30)
        assert "PASS 8 checks" in output
        assert vm.returncode == 1
    finally:
        vm.kill()
        vm.wait()


def test_attaching_by_port(guest: Guest) -> None:
    line = [sys.executable, "-m", "dbgvmm", "run", str(guest("hello")), "--gdb=0", "--wait"]
    vm = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        assert vm.stderr is not None
        address = vm.stderr.readline().split()[-1]
        with GdbSession.attach(address) as session:
            assert session.register("rip") == session.integer("&boot_entry32")
    finally:
        vm.kill()
        vm.communicate()


def test_symbols_that_cannot_be_read_are_said(guest: Guest, tmp_path: Path) -> None:
    with pytest.raises(SessionError, match="symbols .*nothing: No such file"):
        GdbSession.attach("unix:nobody", symbols=tmp_path / "nothing")


def test_symbols_of_another_file_are_used(guest: Guest) -> None:
    twin = guest("selftest").with_suffix(".elf64")
    with GdbSession.run(guest("selftest"), symbols=twin) as session:
        session.break_at("kmain")
        stop = session.continue_()
        assert stop.frame is not None and stop.frame.function == "kmain"
        assert str(twin) in session.execute("info files")
        assert "kmain" in session.monitor("disassemble")


def test_an_address_where_nobody_listens_is_said(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="No such file or directory"):
        GdbSession.attach(f"unix:{tmp_path / 'nobody'}")
