"""The real gdb on a guest, under dbgvmm and under QEMU: what it prints."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

GDB = shutil.which("gdb")
END = "-- the end --"
QEMU = shutil.which("qemu-system-x86_64")


def _gdb(socket: Path, kernel: Path, commands: tuple[str, ...]) -> str:
    arguments = ["gdb", "-nx", "-q", "-batch", "-ex", "set confirm off", "-ex", "set width 0"]
    for command in (f"target remote {socket}", *commands, f"echo {END}\\n", "kill"):
        arguments += ["-ex", command]
    symbols = kernel.with_suffix(".elf64")
    if symbols.is_file():
        arguments.append(str(symbols))
    result = subprocess.run(
        arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, check=False
    )
    return result.stdout.decode("utf-8", "replace").replace("\r\n", "\n")


def under_dbgvmm(kernel: Path, socket: Path, *commands: str, options: tuple[str, ...] = ()) -> str:
    """What gdb prints on the guest from its first instruction on."""
    line = [sys.executable, "-m", "dbgvmm", "run", str(kernel), "--memory", "32M", f"--gdb=unix:{socket}", "--wait", *options]
    dbgvmm = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        assert dbgvmm.stderr is not None
        announced = dbgvmm.stderr.readline()
        assert "waits for gdb" in announced, announced
        return _gdb(socket, kernel, commands)
    finally:
        dbgvmm.kill()
        dbgvmm.communicate()


def under_qemu(kernel: Path, socket: Path, *commands: str) -> str:
    """The same under QEMU's TCG, from its reset vector on: software breakpoints cannot be set before the kernel is there."""
    line = [
        "qemu-system-x86_64", "-M", "pc", "-cpu", "max", "-accel", "tcg", "-m", "32", "-kernel", str(kernel), "-display",
        "none", "-no-reboot", "-serial", "null", "-monitor", "none", "-device", "isa-debug-exit,iobase=0xf4,iosize=4",
        "-S", "-gdb", f"unix:{socket},server=on,wait=off",
    ]  # fmt: skip
    qemu = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 20
        while not socket.exists() and time.monotonic() < end:
            time.sleep(0.05)
        return _gdb(socket, kernel, commands)
    finally:
        qemu.kill()
        qemu.wait()
