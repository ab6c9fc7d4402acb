"""The battery-backed memory beside the real-time clock, filled in as PC firmware leaves it.

Layout: the IBM PC/AT's, with the memory sizes where boot loaders and kernels look for them.
"""
from __future__ import annotations

from typing import Final

CMOS_SIZE: Final = 128
KIB: Final = 1 << 10
MIB: Final = 1 << 20
_BASE_KIB: Final = 640


class CmosByte:
    """Addresses of the bytes that the firmware sets. Words are little-endian, low byte at the address given."""

    EQUIPMENT: Final = 0x14
    BASE_KIB: Final = 0x15
    EXTENDED_KIB: Final = 0x17
    CHECKSUM_HIGH: Final = 0x2E
    CHECKSUM_LOW: Final = 0x2F
    ACTUAL_EXTENDED_KIB: Final = 0x30
    ABOVE_16_MIB: Final = 0x34


_EQUIPMENT_FPU: Final = 0x02
_CHECKSUMMED: Final = range(0x10, 0x2E)


class Cmos:
    """The memory bytes. Addresses that belong to the clock (00h-0Dh, 32h) are answered by the clock itself."""

    def __init__(self, memory_size: int) -> None:
        self._bytes = bytearray(CMOS_SIZE)
        self._bytes[CmosByte.EQUIPMENT] = _EQUIPMENT_FPU
        self._put_word(CmosByte.BASE_KIB, min(memory_size // KIB, _BASE_KIB))
        extended_kib = min(max(memory_size - MIB, 0) // KIB, 0xFFFF)
        self._put_word(CmosByte.EXTENDED_KIB, extended_kib)
        self._put_word(CmosByte.ACTUAL_EXTENDED_KIB, extended_kib)
        # In units of 64 KiB; 16 bits reach to 4 GiB, and what lies above is for the boot protocol to tell.
        self._put_word(CmosByte.ABOVE_16_MIB, min(max(memory_size - 16 * MIB, 0) // (64 * KIB), 0xFFFF))
        checksum = sum(self._bytes[index] for index in _CHECKSUMMED)
        self._bytes[CmosByte.CHECKSUM_HIGH] = checksum >> 8
        self._bytes[CmosByte.CHECKSUM_LOW] = checksum & 0xFF

    def read(self, index: int) -> int:
        """The byte at `index`."""
        return self._bytes[index]

    def write(self, index: int, value: int) -> None:
        """Set the byte at `index`."""
        self._bytes[index] = value

    def state(self) -> bytes:
        """All bytes."""
        return bytes(self._bytes)

    def load_state(self, state: bytes) -> None:
        """Take over all bytes."""
        self._bytes[:] = state

    def _put_word(self, index: int, value: int) -> None:
        self._bytes[index : index + 2] = value.to_bytes(2, "little")
