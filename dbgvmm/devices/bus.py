"""The I/O port bus and the memory-mapped I/O bus.

Nobody home reads as all ones and ignores writes, as an ISA bus with pull-ups does. An access wider than the
device takes is split into byte accesses to consecutive ports, low byte first (8-bit ISA cycles).
"""
from __future__ import annotations

from bisect import bisect_right
from time import perf_counter
from typing import Final, NamedTuple, Protocol

PORT_COUNT: Final = 0x10000
ACCESS_SIZES: Final = (1, 2, 4, 8)
_ONES: Final = {size: (1 << (8 * size)) - 1 for size in ACCESS_SIZES}


class PortDevice(Protocol):
    """A device on the port bus. `size` is 1, 2 or 4 bytes, never more than it was registered for."""

    def read_port(self, port: int, size: int) -> int: ...

    def write_port(self, port: int, value: int, size: int) -> None: ...


class MmioDevice(Protocol):
    """A device in guest-physical memory. `offset` counts from the start of its window."""

    def read_mmio(self, offset: int, size: int) -> int: ...

    def write_mmio(self, offset: int, value: int, size: int) -> None: ...


class _PortClaim(NamedTuple):
    device: PortDevice
    last: int
    widest: int


class PortBus:
    """The 64 Ki I/O ports (Intel SDM vol. 1, chapter 19)."""

    def __init__(self) -> None:
        self._claims: dict[int, _PortClaim] = {}
        self.seconds = 0.0
        """Host time spent in `read` and `write`, for the statistics."""

    def register(self, first: int, last: int, device: PortDevice, *, widest: int = 1) -> None:
        """Give the ports `first` to `last` (inclusive) to `device`, which takes accesses up to `widest` bytes.

        Raises ValueError when the range is not one of ports or belongs to another device already.
        """
        if not 0 <= first <= last < PORT_COUNT:
            raise ValueError(f"{first:#x}..{last:#x} is not a range of I/O ports (0..0xffff)")
        if widest not in (1, 2, 4):
            raise ValueError(f"a port device is 1, 2 or 4 bytes wide, not {widest}")
        ports = range(first, last + 1)
        for port in ports:
            if port in self._claims:
                owner = type(self._claims[port].device).__name__
                raise ValueError(f"port {port:#x} already belongs to {owner}")
        claim = _PortClaim(device, last, widest)
        self._claims.update(dict.fromkeys(ports, claim))

    def device_at(self, port: int) -> PortDevice | None:
        """Who answers at `port`, or None."""
        claim = self._claims.get(port)
        return None if claim is None else claim.device

    def ranges(self) -> list[tuple[int, int, PortDevice]]:
        """Every run of ports of one device as (first, last, device), lowest first."""
        found: list[tuple[int, int, PortDevice]] = []
        for port in sorted(self._claims):
            device = self._claims[port].device
            if found and found[-1][1] == port - 1 and found[-1][2] is device:
                found[-1] = found[-1][0], port, device
            else:
                found.append((port, port, device))
        return found

    def read(self, port: int, size: int) -> int:
        """`in`: `size` is 1, 2 or 4 bytes."""
        start = perf_counter()
        value = self._read(port, size)
        self.seconds += perf_counter() - start
        return value

    def write(self, port: int, value: int, size: int) -> None:
        """`out`: `size` is 1, 2 or 4 bytes; bits of `value` above it are ignored."""
        start = perf_counter()
        self._write(port, value, size)
        self.seconds += perf_counter() - start

    def _read(self, port: int, size: int) -> int:
        claim = self._claims.get(port)
        if claim is not None and size <= claim.widest and port + size - 1 <= claim.last:
            return claim.device.read_port(port, size) & _ONES[size]
        if size == 1:
            return 0xFF
        value = 0
        for index in range(size):
            value |= self._read((port + index) & (PORT_COUNT - 1), 1) << (8 * index)
        return value

    def _write(self, port: int, value: int, size: int) -> None:
        claim = self._claims.get(port)
        if claim is not None and size <= claim.widest and port + size - 1 <= claim.last:
            claim.device.write_port(port, value & _ONES[size], size)
        elif size > 1:
            for index in range(size):
                self._write((port + index) & (PORT_COUNT - 1), value >> (8 * index) & 0xFF, 1)


class _Window(NamedTuple):
    base: int
    end: int
    device: MmioDevice


class MmioBus:
    """Device windows in guest-physical memory."""

    def __init__(self) -> None:
        self._bases: list[int] = []
        self._windows: list[_Window] = []

    def register(self, base: int, size: int, device: MmioDevice) -> None:
        """Give the `size` bytes at guest-physical `base` to `device`; ValueError when they overlap a window."""
        if base < 0 or size <= 0:
            raise ValueError(f"an MMIO window needs a base >= 0 and a size > 0, not {base:#x} and {size:#x}")
        end = base + size
        for window in self._windows:
            if base < window.end and window.base < end:
                owner = type(window.device).__name__
                raise ValueError(f"MMIO {base:#x}..{end - 1:#x} overlaps {owner} at {window.base:#x}")
        place = bisect_right(self._bases, base)
        self._bases.insert(place, base)
        self._windows.insert(place, _Window(base, end, device))

    def windows(self) -> list[tuple[int, int]]:
        """Every window as (base, size), lowest first."""
        return [(window.base, window.end - window.base) for window in self._windows]

    def read(self, gpa: int, size: int) -> int:
        """Read `size` (1, 2, 4 or 8) bytes; all ones where no window covers the whole access."""
        window = self._find(gpa, size)
        if window is None:
            return _ONES[size]
        return window.device.read_mmio(gpa - window.base, size) & _ONES[size]

    def write(self, gpa: int, value: int, size: int) -> None:
        """Write `size` (1, 2, 4 or 8) bytes; ignored where no window covers the whole access."""
        window = self._find(gpa, size)
        if window is not None:
            window.device.write_mmio(gpa - window.base, value & _ONES[size], size)

    def _find(self, gpa: int, size: int) -> _Window | None:
        place = bisect_right(self._bases, gpa) - 1
        if place < 0:
            return None
        window = self._windows[place]
        return window if gpa + size <= window.end else None
