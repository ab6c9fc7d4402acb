"""The operating system in the guest, as far as its memory tells: `machine.os`."""

from __future__ import annotations

from dbgvmm.guest_os.finder import DETECTORS, OsFinder, SystemSymbols
from dbgvmm.guest_os.interface import (
    ABILITIES,
    Area,
    GuestMachine,
    GuestOs,
    GuestOsError,
    Listing,
    LogLine,
    Module,
    Task,
)

__all__ = [
    "ABILITIES",
    "DETECTORS",
    "Area",
    "GuestMachine",
    "GuestOs",
    "GuestOsError",
    "Listing",
    "LogLine",
    "Module",
    "OsFinder",
    "SystemSymbols",
    "Task",
]
