"""The files that a debugger can read from a machine: its kernel, and what is known of the run.

`/dbgvmm/statistics.json`, `/dbgvmm/serial.log` (the newest MiB that the guest has printed), `/dbgvmm/cmdline`, and the
traces that gdb's `tsave -r` has put under `/dbgvmm/traces/`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from dbgvmm.debug.elf_view import as_elf64
from gdbstub import TargetError

if TYPE_CHECKING:
    from dbgvmm.machine import Machine

TRACES: Final = "/dbgvmm/traces/"
MOST_TRACES: Final = 16
"""Files."""


class MachineFiles:
    """Implements `gdbstub.Files` and `gdbstub.ExecFile` for a machine."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.kernel_was_read = False
        """The debugger has taken the kernel from here; it has no file of its own."""

    def exec_file(self) -> str:
        """The kernel, if it is an ELF file: others have no symbols that a debugger could read."""
        kernel = self._machine.kernel
        if kernel is None:
            return ""
        try:
            with kernel.open("rb") as file:
                is_elf = file.read(4) == b"\x7fELF"
        except OSError:
            return ""
        return str(kernel.resolve()) if is_elf else ""

    def read_file(self, name: str) -> bytes | None:
        """One of the files above; None for any other of the host's."""
        machine = self._machine
        match name:
            case "/dbgvmm/statistics.json":
                return (json.dumps(machine.stats(), indent=2) + "\n").encode()
            case "/dbgvmm/serial.log":
                return bytes(machine.serial_log)
            case _ if name in machine.tracing.saved:
                return machine.tracing.saved[name]
            case "/dbgvmm/cmdline":
                return machine.cmdline.encode("utf-8", "surrogateescape") + b"\n"
            case _ if name and machine.kernel is not None and name == self.exec_file():
                self.kernel_was_read = True
                try:
                    return as_elf64(machine.kernel.read_bytes())
                except OSError:
                    return None
        return None

    def save_trace(self, name: str, data: bytes) -> None:
        """Keep a trace in memory, in place of one with the same name. Raises TargetError."""
        saved = self._machine.tracing.saved
        if not name.startswith(TRACES) or name == TRACES:
            raise TargetError(f"a trace is saved as {TRACES}NAME, from where `remote get` fetches it; not as {name!r}")
        if len(saved) == MOST_TRACES and name not in saved:
            raise TargetError(f"{MOST_TRACES} traces are kept already: save this one as one of {', '.join(saved)}")
        saved[name] = data
