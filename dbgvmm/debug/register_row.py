"""`RegisterRow`: how a register is read and set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dbgvmm.cpu.bits import BitNames

if TYPE_CHECKING:
    from dbgvmm.machine import Machine

Read = Callable[["Machine"], int]
Write = Callable[["Machine", int], None]


class RegisterError(Exception):
    """A register cannot be set so. The message is one line that says why."""


@dataclass(frozen=True, slots=True)
class RegisterRow:
    """One register: its size in bits, how to read and to set it, and names for its bits where it has some."""

    name: str
    bits: int
    read: Read
    write: Write
    fields: type[BitNames] | None = None
