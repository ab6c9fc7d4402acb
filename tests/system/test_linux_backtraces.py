"""A process under Debian's Linux: the symbols that it has mapped, and a backtrace from the kernel into it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dbgvmm import Machine, MachineConfig
from dbgvmm.commands import CommandTable, Session
from dbgvmm.commands.backtrace import backtrace
from dbgvmm.commands.parameters import Count
from dbgvmm.commands.symbols import symbols_add, symbols_command, symbols_find

REPOSITORY = Path(__file__).parent.parent.parent
LINUX = Path(os.environ.get("DBGVMM_LINUX", REPOSITORY / "build" / "linux"))
COMMAND_LINE = "cryptomgr.notests=1 console=ttyS0 pci=off acpi=off noapic nolapic quiet reboot=k"
BUSYBOX = Path("/usr/bin/busybox")
SHELL = b"/ # "
LONGEST = 2_500_000_000
"""Instructions to the shell, and a good deal more."""

pytestmark = [
    pytest.mark.xdist_group("linux-backtraces"),  # one boot for all of them
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(not (LINUX / "vmlinux").exists(), reason=f"no Linux in {LINUX}: run scripts/linux.sh {LINUX}"),
]


@pytest.fixture(scope="module")
def shell() -> Session:
    """Linux at its shell's prompt, then in the first write that the shell makes for `echo`."""
    machine = Machine(MachineConfig(memory=256 << 20))
    machine.boot(LINUX / "vmlinux", COMMAND_LINE, LINUX / "initramfs.cpio")
    while SHELL not in machine.serial_log and machine.count < LONGEST:
        machine.run(steps=10_000_000)
    assert SHELL in machine.serial_log, bytes(machine.serial_log[-500:])
    session = Session(machine)
    assert machine.os.name == "Linux"
    write = machine.symbols.find("ksys_write")
    assert write is not None
    machine.breakpoints.add(write.address)
    machine.serial_input(b"echo found\n")
    machine.run()
    assert machine.cpu.rip == write.address
    machine.breakpoints.remove(write.address)
    return session


def test_the_vdso_and_the_program_are_found_in_the_process_memory(shell: Session) -> None:
    found = symbols_find(shell).sources
    vdso = next(row for row in found if "linux-vdso.so.1" in row.source)
    assert vdso.symbols > 5
    assert len(vdso.build_id) == 40
    gettime = shell.symbols.find("__vdso_gettimeofday")
    assert gettime is not None
    assert shell.symbols.describe(gettime.address + 1) == "__vdso_gettimeofday+0x1"
    assert shell.symbols.describe(gettime.address, 0x1000) == "", "only in that address space"
    program = next(row for row in found if "at 0x400000" in row.source)
    assert program.symbols == 0
    assert "no symbols (static or stripped)" in str(program)


def test_a_backtrace_leads_from_the_kernel_into_the_program(shell: Session) -> None:
    """The kernel by its ORC tables, the program by the .eh_frame of its file, which its build id has found.

    It need not reach the outermost frame: parts of Debian's busybox are built without call frames.
    """
    symbols_add(shell, directory=BUSYBOX.parent)
    (added,) = symbols_add(shell, directory=BUSYBOX.parent).sources
    assert added.source == str(BUSYBOX)
    assert added.match.startswith("matches: build id")
    assert [row.source for row in symbols_command(shell).sources].count(str(BUSYBOX)) == 1, "not once more each time"
    report = backtrace(shell, Count(64))
    kernel = [row for row in report.frames if not row.user]
    user = [row for row in report.frames if row.user]
    names = [row.symbol.partition("+")[0] for row in kernel]
    assert names[0] == "ksys_write"
    assert "do_syscall_64" in names
    assert {row.how for row in kernel[1:]} == {"ORC"}
    assert len(user) > 3, str(report)
    assert {row.how for row in user[1:]} == {"cfi"}, str(report)
    assert shell.machine.unwinder.quick() == tuple(row.pc for row in report.frames)


def test_what_was_read_from_a_process_that_is_gone_is_said_to_be(shell: Session, table: CommandTable) -> None:
    found = symbols_find(shell).sources
    assert all(row.state != "differs" for row in symbols_command(shell).sources)
    machine = shell.machine
    root = found[0].space[0]
    saved = bytes(machine.ram.bytes[root : root + 2048])
    machine.ram.bytes[root : root + 2048] = bytes(2048)
    try:
        states = {row.source: row.state for row in symbols_command(shell).sources if row.space}
        assert any("linux-vdso" in source and state == "differs" for source, state in states.items())
    finally:
        machine.ram.bytes[root : root + 2048] = saved
