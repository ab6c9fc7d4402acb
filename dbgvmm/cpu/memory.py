"""The guest's linear memory as this package sees it. The MMU implements it; tests use a fake."""

from __future__ import annotations

from typing import Protocol


class LinearMemory(Protocol):
    """Little-endian access at linear addresses, through the guest's paging.

    va: a linear address, already within 64 (in long mode, canonical) or 32 bits. user: True for an access with user
    privilege (CPL 3), False for one with supervisor privilege; reads and writes of GDT, LDT, IDT and TSS, and of the
    stack of a handler at CPL 0..2, are supervisor accesses whatever the CPL is (SDM vol. 3A 4.6.1).
    Raises GuestFault #PF with the exact error code and cr2; what was written before a fault stays written.
    """

    def read_u8(self, va: int, user: bool) -> int: ...

    def read_u16(self, va: int, user: bool) -> int: ...

    def read_u32(self, va: int, user: bool) -> int: ...

    def read_u64(self, va: int, user: bool) -> int: ...

    def write_u16(self, va: int, value: int, user: bool) -> None: ...

    def write_u32(self, va: int, value: int, user: bool) -> None: ...

    def write_u64(self, va: int, value: int, user: bool) -> None: ...

    def read(self, va: int, n: int, user: bool) -> bytes: ...
