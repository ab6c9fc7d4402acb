"""What a guest instruction or a delivery raises: faults, and the triple fault that ends them.

Source: Intel SDM vol. 3A sections 6.13 (error codes) and 6.15, tables 6-4 and 6-5 (double fault).
"""

from __future__ import annotations

from .bits import Vector


class GuestFault(Exception):
    """An exception of the guest's CPU, not yet delivered.

    vector: 0..255. error_code: what is pushed, or None for vectors without one. cr2: the faulting linear address of a
    #PF, else None. is_software: raised by INT n, INT3 or INTO. reason: for people, why it was raised ("").
    Whoever raises it leaves the CPU's registers as they were before the instruction.
    """

    __slots__ = ("vector", "error_code", "cr2", "is_software", "reason")

    def __init__(
        self,
        vector: int,
        error_code: int | None = None,
        cr2: int | None = None,
        is_software: bool = False,
        reason: str = "",
    ) -> None:
        self.vector = vector
        self.error_code = error_code
        self.cr2 = cr2
        self.is_software = is_software
        self.reason = reason

    def __str__(self) -> str:
        text = Vector.name_of(self.vector)
        if self.error_code is not None:
            text += f"({self.error_code:x}h)"
        if self.cr2 is not None:
            text += f" at {self.cr2:#x}"
        if self.reason:
            text += f": {self.reason}"
        return text


class TripleFault(Exception):
    """A fault during the delivery of #DF: the processor shuts down (SDM vol. 3A 6.15, interrupt 8).

    chain: the faults that led here, first cause first, the one met in delivering #DF last.
    """

    def __init__(self, chain: list[GuestFault]) -> None:
        self.chain = chain
        super().__init__("triple fault: " + ", then ".join(str(fault) for fault in chain))


class UnsupportedState(Exception):
    """The guest asks for a mode that dbgvmm does not emulate (virtual-8086). The message says what and where."""


def general_protection(error_code: int = 0, reason: str = "") -> GuestFault:
    """#GP with `error_code`."""
    return GuestFault(Vector.GP, error_code, reason=reason)


def invalid_opcode(reason: str = "") -> GuestFault:
    """#UD, which has no error code."""
    return GuestFault(Vector.UD, reason=reason)


def not_present(error_code: int, reason: str = "") -> GuestFault:
    """#NP with `error_code`."""
    return GuestFault(Vector.NP, error_code, reason=reason)


def stack_fault(error_code: int = 0, reason: str = "") -> GuestFault:
    """#SS with `error_code`."""
    return GuestFault(Vector.SS, error_code, reason=reason)


def invalid_tss(error_code: int, reason: str = "") -> GuestFault:
    """#TS with `error_code`."""
    return GuestFault(Vector.TS, error_code, reason=reason)


_CONTRIBUTORY = frozenset((Vector.DE, Vector.TS, Vector.NP, Vector.SS, Vector.GP, Vector.CP))
_PAGE_FAULTS = frozenset((Vector.PF, Vector.VE))


def makes_double_fault(first: int, second: int) -> bool:
    """True if exception `second`, met while delivering exception `first`, becomes #DF (SDM vol. 3A table 6-5).

    False means that the second is delivered in its own right. Interrupts are benign: do not ask for them.
    """
    if first in _CONTRIBUTORY:
        return second in _CONTRIBUTORY
    if first in _PAGE_FAULTS:
        return second in _CONTRIBUTORY or second in _PAGE_FAULTS
    return False
