"""The guests in guests/: no system to speak of, but a name, a console, checks and a verdict."""

from __future__ import annotations

import re
from typing import Final

from dbgvmm.cpu.bits import is_canonical
from dbgvmm.guest_os.interface import GuestMachine, GuestOs, Listing, LogLine
from dbgvmm.guest_os.reading import printable, translate

_MARKS: Final = ("kmain", "console_putc", "boot_entry64", "kernel_stack_top", "text_start")
"""Symbols that guests/lib gives every guest."""
_ENTRY: Final = "boot_entry64"
_VERDICT: Final = re.compile(rb"^(?:PASS \d+ checks|FAIL \d+ of \d+ checks)\r?$", re.MULTILINE)
_USER_CPL: Final = 3


def detect_own_guest(machine: GuestMachine) -> GuestOs | None:
    """The guest of ours that runs, None if it is another kernel, or no symbols are known."""
    symbols = machine.symbols
    if any(symbols.find(name) is None for name in _MARKS):
        return None
    entry = symbols.find(_ENTRY)
    assert entry is not None
    code = machine.ram.bytes[entry.address : entry.end] if entry.end <= machine.ram.size else b""
    return OwnGuest(machine) if any(code) else None


class OwnGuest(GuestOs):
    """One of guests/, with its symbols loaded."""

    version = "guests/lib"

    def __init__(self, machine: GuestMachine) -> None:
        self._machine = machine

    @property
    def name(self) -> str:
        """The file's name without its suffix: "selftest"."""
        kernel = self._machine.kernel
        return "guest" if kernel is None else kernel.stem

    def present(self) -> bool:
        """Whether its symbols are still those of the machine."""
        return all(self._machine.symbols.find(name) is not None for name in _MARKS)

    def facts(self) -> tuple[tuple[str, str], ...]:
        """Privilege, checks so far, and the verdict."""
        verdict = _VERDICT.search(self._machine.serial_log)
        rows = [("privilege", "user code" if self._machine.cpu.cpl == _USER_CPL else "kernel code")]
        checks, failures = self._counter("checks"), self._counter("failures")
        if checks is not None and failures is not None:
            rows.append(("checks", f"{checks} made, {failures} failed"))
        rows.append(("verdict", verdict[0].decode().strip() if verdict else "none yet"))
        return tuple(rows)

    def _counter(self, name: str) -> int | None:
        """A 32-bit variable; None without the symbol, or before the page that holds it is mapped."""
        symbol, machine = self._machine.symbols.find(name), self._machine
        if symbol is None or not machine.cpu.long_mode_active or not is_canonical(symbol.address):
            return None
        gpa = translate(machine.ram, machine.cpu.cr3, symbol.address)
        return None if gpa is None else machine.ram.u32[gpa >> 2]

    def log(self) -> Listing[LogLine]:
        """What it has printed on its console."""
        lines = bytes(self._machine.serial_log).split(b"\n")
        return Listing(tuple(
            LogLine(printable(line.rstrip(b"\r")), number, None, None)
            for number, line in enumerate(lines if lines[-1] else lines[:-1])
        ))  # fmt: skip
