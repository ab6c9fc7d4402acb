"""A Linux that has booted to its shell, and what it says about itself, for tests."""

from __future__ import annotations

import os
from pathlib import Path

from dbgvmm import Machine, MachineConfig
from dbgvmm.debug.stops import StopKind

REPOSITORY = Path(__file__).parent.parent.parent
LINUX = Path(os.environ.get("DBGVMM_LINUX", REPOSITORY / "build" / "linux"))
MOVED = "cryptomgr.notests=1 console=ttyS0 pci=off acpi=off noapic nolapic pti=on reboot=k"
"""Kernel options that leave KASLR and mitigations as the kernel decides, with page table isolation."""
MODULES = ("irqbypass", "tcp_veno")
_SLICE = 300_000


class LinuxGuest:
    """A shell on the serial line. After each method the machine stands still."""

    def __init__(self, initrd: Path) -> None:
        initrd.write_bytes((LINUX / "initramfs.cpio").read_bytes() + (LINUX / "modules.cpio").read_bytes())
        self.output = bytearray()
        self.machine = Machine(MachineConfig(memory=256 << 20), self.output.extend)
        self.machine.boot(LINUX / "vmlinuz", MOVED, initrd)
        self._commands = 0
        self._until(b"dbgvmm: shell ready")
        self.machine.run(max_count=self.machine.count + 20_000_000)
        self.shell("export PS1=; stty -echo")
        for module in MODULES:
            self.shell(f"insmod /modules/{module}.ko")

    def _until(self, text: bytes, start: int = 0) -> int:
        while (at := self.output.find(text, start)) < 0:
            stop = self.machine.run(max_count=self.machine.count + _SLICE)
            assert stop.kind is StopKind.LIMIT, (stop, bytes(self.output[-1000:]))
        return at

    def type(self, line: str) -> None:
        """Send a line to the shell, and do not run."""
        self.machine.serial_input(line.encode() + b"\n")

    def shell(self, line: str) -> str:
        """What a command prints."""
        self._commands += 1
        start = len(self.output)
        self.type(f"{line}; echo end''{self._commands}.")  # an echo of what is typed does not look like what is printed
        end = self._until(f"end{self._commands}.".encode(), start)
        return bytes(self.output[start:end]).decode().replace("\r\n", "\n")

    def until_breakpoint(self, *addresses: int) -> int:
        """Run until one of these instructions is reached, and tell which."""
        breakpoints = self.machine.breakpoints
        for address in addresses:
            breakpoints.add(address)
        stop = self.machine.run(max_count=self.machine.count + 100_000_000)
        for address in addresses:
            breakpoints.remove(address)
        assert stop.kind is StopKind.BREAKPOINT, stop
        return self.machine.cpu.rip
