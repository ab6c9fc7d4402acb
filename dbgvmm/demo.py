"""`dbgvmm demo`: a small guest, the real gdb on it, and what only the monitor can show."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from dbgvmm.commands import CommandTable, Session, command_table
from dbgvmm.commands.monitor import Monitor
from dbgvmm.debug.gdb_server import GdbServer
from dbgvmm.debug.symbols import load_symbols
from dbgvmm.devices.serial_backend import NullSerial
from dbgvmm.exit_status import ExitStatus
from dbgvmm.machine import Machine, MachineConfig
from dbgvmm.outside import Outside
from dbgvmm.supervisor import Supervisor

_MEMORY: Final = 64 << 20
_GDB_START_SECONDS: Final = 30
_POLL_SECONDS: Final = 0.2
_GDB_SCRIPT: Final = (
    ("gdb sees the CPU before the kernel's first instruction", ("info registers rip cr0", "info threads")),
    ("a breakpoint: the guest's memory is not changed", ("break kmain", "continue", "backtrace")),
    ("the system registers, by the names of their bits", ("info registers cr0 cr4 efer",)),
    ("stepping and disassembling, as with any program", ("stepi", "x/3i $rip", "next")),
    ("what only a hypervisor knows: the page walk", ("monitor translate kmain",)),
    ("... and the shadow page table that the hardware uses instead", ("monitor info shadow rip",)),
    ("deeper in the guest", ("break print", "continue", "backtrace", "print format", "delete")),
    ("guest code, and what it became in the translation cache", ("monitor disassemble tc kernel_entry",)),
    ("to the end: the guest halts", ("continue",)),
    ("why the guest's code was left for the monitor, and when", ("monitor info exits", "monitor info time")),
)
_REPL_SCRIPT: Final = (
    "info registers", "break kmain", "continue", "info control", "stepi", "disassemble", "translate kmain",
    "info shadow rip", "break print", "continue", "x/s rdi", "disassemble tc kernel_entry", "delete", "continue",
    "info exits", "info time",
)  # fmt: skip


def demo() -> int:
    """Run it; the exit status."""
    kernel = find_guest()
    if not kernel.is_file():
        sys.stdout.flush()
        print(f"dbgvmm: {_how_to_build(kernel)}", file=sys.stderr)
        return ExitStatus.UNUSABLE_FILE
    machine = Machine(MachineConfig(memory=_MEMORY))
    machine.boot(kernel)
    with_symbols = kernel.with_suffix(".elf64")
    session = Session(machine, load_symbols(with_symbols))
    gdb = shutil.which("gdb")
    if gdb is None:
        print("gdb is not installed, so here are the commands of `dbgvmm run --repl` instead.\n")
        return _with_commands(session, command_table())
    return _with_gdb(session, gdb, with_symbols)


def find_guest() -> Path:
    """Where the demo's guest is in a checkout."""
    return Path(__file__).resolve().parent.parent / "guests" / "build" / "hello.elf"


def _how_to_build(kernel: Path) -> str:
    guests = kernel.parent.parent
    if (guests / "Makefile").is_file():
        return f"the demo's guest has not been built: `make -C {guests}` does it (with gcc, GNU binutils and make)"
    return "the demo's guest is not part of this installation: run `make -C guests` and the demo in the source tree"


def _with_commands(session: Session, table: CommandTable) -> int:
    session.machine.serial_out = lambda data: print(data.decode("ascii", "replace"), end="", flush=True)
    for line in _REPL_SCRIPT:
        print(f"(dbgvmm) {line}\n{table.execute(session, line)}\n", flush=True)
    return ExitStatus.OK


def _with_gdb(session: Session, gdb: str, with_symbols: Path) -> int:
    machine = session.machine
    printed = bytearray()
    with tempfile.TemporaryDirectory(prefix="dbgvmm-demo-") as directory:
        socket = Path(directory) / "gdb"
        server = GdbServer(machine, f"unix:{socket}", Monitor(session, command_table()))
        outside = Outside(machine, NullSerial(), server)
        machine.serial_out = printed.extend
        script = Path(directory) / "script"
        script.write_text(_gdb_script(socket))
        command = [gdb, "-nx", "-q", "-batch", "-x", str(script), str(with_symbols)]
        print(
            "This is the real gdb. By hand: `dbgvmm run --gdb --wait KERNEL`, then `target remote :1234`.\n", flush=True
        )
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT)
        try:
            if not _wait_for(server, process):
                print("dbgvmm: gdb did not connect: the demo needs one that knows x86-64", file=sys.stderr)
                return ExitStatus.UNSUPPORTED
            Supervisor(machine, command_table(), outside, server).main()
            process.wait(_GDB_START_SECONDS)
        finally:
            outside.close()
            process.kill()
            process.wait()
    print(
        f"\n# what the guest has printed on its serial line\n{printed.decode('ascii', 'replace').rstrip()}", flush=True
    )
    return ExitStatus.OK


def _gdb_script(socket: Path) -> str:
    lines = ["set confirm off", "set pagination off", "set width 0", f"target remote {socket}"]
    for title, commands in _GDB_SCRIPT:
        lines.append(f"echo \\n# {title}\\n")
        for command in commands:
            lines += [f"echo (gdb) {command}\\n", command]
    return "\n".join([*lines, "kill"]) + "\n"


def _wait_for(server: GdbServer, process: subprocess.Popen[bytes]) -> bool:
    for _ in range(int(_GDB_START_SECONDS / _POLL_SECONDS)):
        if server.wait_for_debugger(_POLL_SECONDS):
            return True
        if process.poll() is not None:
            return False
    return False
