"""Memory as scripts use it: `memory[address]`, `memory[start:end]`, `memory.u32[address]`, `memory.cstring(address)`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final, overload

from dbgvmm.hardware.memory import PhysicalMemory

MOST_BYTES: Final = 1 << 30
"""What one slice may have: more is an address that went wrong."""


PhysicalWrite = Callable[[int, bytes], None]
"""Stores bytes at a guest-physical address in RAM."""


class NotMapped(LookupError):
    """A debugger's access to an address that the guest does not map to RAM. The message says why."""


class Words:
    """Little-endian unsigned numbers of `size` bytes, by their address; aligned or not."""

    def __init__(self, memory: SlicedMemory, size: int) -> None:
        self._memory = memory
        self._size = size

    def __getitem__(self, address: int) -> int:
        return int.from_bytes(self._memory.peek(address, self._size), "little")

    def __setitem__(self, address: int, value: int) -> None:
        bits = 8 * self._size
        if not -1 << bits - 1 <= value < 1 << bits:
            raise ValueError(f"{value:#x} does not fit into {self._size} bytes")
        self._memory.poke(address, (value & (1 << bits) - 1).to_bytes(self._size, "little"))


class SlicedMemory(ABC):
    """Bytes by address. One is an int, a slice is `bytes`; both can be assigned, a slice with as many bytes as it has.

    `memory[start:]` may be assigned too: it is as long as what it gets. Raises NotMapped, with nothing written; ValueError for
    a slice that has no length, a step, or another length than its value.
    """

    def __init__(self) -> None:
        self.u8: Final = Words(self, 1)
        self.u16: Final = Words(self, 2)
        self.u32: Final = Words(self, 4)
        self.u64: Final = Words(self, 8)

    @abstractmethod
    def peek(self, va: int, n: int) -> bytes:
        """`n` bytes from an address. Raises NotMapped."""

    @abstractmethod
    def peek_some(self, va: int, n: int) -> bytes:
        """As many of `n` bytes as there are without a gap. Raises NotMapped if there is none."""

    @abstractmethod
    def poke(self, va: int, data: bytes) -> None:
        """Store bytes at an address. Raises NotMapped, with nothing written."""

    @overload
    def __getitem__(self, key: int) -> int: ...
    @overload
    def __getitem__(self, key: slice[int, int, None]) -> bytes: ...
    def __getitem__(self, key: int | slice[int, int, None]) -> int | bytes:
        if isinstance(key, slice):
            start, length = _range(key)
            return self.peek(start, length)
        return self.peek(key, 1)[0]

    @overload
    def __setitem__(self, key: int, value: int) -> None: ...
    @overload
    def __setitem__(self, key: slice[int, int | None, None], value: bytes) -> None: ...
    def __setitem__(self, key: int | slice[int, int | None, None], value: int | bytes) -> None:
        if not isinstance(key, slice):
            if isinstance(value, bytes):
                raise TypeError("one byte is an int: to write several use memory[start:] = bytes")
            self.u8[key] = value
            return
        data = bytes(memoryview(value)) if not isinstance(value, int) else None
        if data is None:
            raise TypeError("a slice of memory takes bytes; a number goes to memory.u8, .u16, .u32 or .u64")
        start, length = _range(slice(key.start, key.start + len(data)) if key.stop is None else key)
        if length != len(data):
            raise ValueError(f"{len(data)} bytes do not fit into a slice of {length}: memory does not move")
        self.poke(start, data)

    def cstring(self, address: int, limit: int = 4096) -> str:
        """The text at an address up to its NUL, at most `limit` bytes, as Latin-1. Raises NotMapped if it does not end
        before a gap."""
        data = self.peek_some(address, limit)
        end = data.find(b"\0")
        if end < 0 and len(data) < limit:
            self.peek(address, len(data) + 1)  # raises, and says why there is no more
        return data[: end if end >= 0 else limit].decode("latin-1")


def _range(key: slice[int, int | None, None]) -> tuple[int, int]:
    start, stop = key.start, key.stop
    if key.step is not None or not isinstance(start, int) or not isinstance(stop, int):
        raise ValueError("a slice of memory is memory[start:end], both of them addresses")
    if not 0 <= stop - start <= MOST_BYTES:
        raise ValueError(f"memory[{start:#x}:{stop:#x}] has {stop - start:,} bytes: from 0 to {MOST_BYTES:,} can be had")
    return start, stop - start


class PhysicalSlices(SlicedMemory):
    """The guest's RAM by guest-physical address. Stores are seen as the guest's own are: page tables and code included."""

    def __init__(self, ram: PhysicalMemory, write: PhysicalWrite) -> None:
        super().__init__()
        self._ram = ram
        self._write = write

    def _check(self, gpa: int, n: int) -> None:
        if not 0 <= gpa <= gpa + n <= self._ram.size:
            raise NotMapped(f"guest-physical {gpa:#x} to {gpa + n:#x} is not in RAM, which ends at {self._ram.size:#x}")

    def peek(self, va: int, n: int) -> bytes:
        """`n` bytes from a guest-physical address. Raises NotMapped."""
        self._check(va, n)
        return bytes(self._ram.bytes[va : va + n])

    def peek_some(self, va: int, n: int) -> bytes:
        """As many of `n` bytes as are in RAM. Raises NotMapped if there is none."""
        self._check(va, min(n, 1))
        return bytes(self._ram.bytes[va : min(va + n, self._ram.size)])

    def poke(self, va: int, data: bytes) -> None:
        """Store bytes at a guest-physical address. Raises NotMapped, with nothing written."""
        self._check(va, len(data))
        self._write(va, data)
