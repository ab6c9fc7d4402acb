"""The physical address map that kernels are told about, and finding room in it.

The map is the PC's: RAM below 640 KiB, a hole for video memory and ROMs up to 1 MiB, RAM from there to the top.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from dbgvmm.boot.state import BootError, Memory

KIB = 1 << 10
MIB = 1 << 20
PAGE = 4 * KIB
LOW_RAM_START = PAGE
"""Where room is looked for in low memory. Page 0 holds the real-mode vectors and the BIOS data area, and is a null
pointer's target besides: nothing is put there."""
LOW_RAM_END = 640 * KIB
HIGH_RAM_START = MIB
RAM_LIMIT = 0xFEC0_0000
"""From here on up to 4 GiB the I/O APIC, the local APICs and the firmware have their addresses."""


class RangeType(IntEnum):
    """What an address range is, in the numbers of the BIOS call E820 (ACPI 6.4, 15.1)."""

    RAM = 1
    RESERVED = 2


@dataclass(frozen=True, slots=True)
class MemoryRange:
    """One line of the memory map. Multiboot, PVH and Linux all tell the same lines in formats of their own."""

    start: int
    size: int
    type: RangeType = RangeType.RAM

    @property
    def end(self) -> int:
        """The first address behind the range."""
        return self.start + self.size


def memory_map(ram_bytes: int) -> list[MemoryRange]:
    """The ranges of RAM in a machine with `ram_bytes` of it. Raises BootError when that is below 2 MiB."""
    if ram_bytes < 2 * MIB:
        raise BootError(f"{ram_bytes // KIB} KiB of RAM is too little for any kernel: use --memory 2M or more")
    top = min(ram_bytes, RAM_LIMIT) // PAGE * PAGE
    return [MemoryRange(0, LOW_RAM_END), MemoryRange(HIGH_RAM_START, top - HIGH_RAM_START)]


def memory_option(needed_bytes: int) -> str:
    """The --memory option that gives at least `needed_bytes` of RAM."""
    return f"--memory {-(-needed_bytes // MIB)}M"


class Placement:
    """Keeps account of what is where in guest RAM, so that nothing a loader puts there lands on something else.

    Addresses are guest-physical, sizes in bytes.
    """

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.ranges = memory_map(memory.size)
        self._taken: list[tuple[int, int]] = []

    @property
    def top(self) -> int:
        """The first address behind RAM."""
        return self.ranges[-1].end

    @property
    def end(self) -> int:
        """The first address behind everything taken so far (1 MiB if that is lower)."""
        return max((end for _, end in self._taken), default=HIGH_RAM_START)

    def claim(self, start: int, size: int, what: str) -> None:
        """Takes exactly [start, start + size) for `what`. Raises BootError when it is not all free RAM."""
        end = start + size
        place = f"{what} at {start:#x}-{end:#x}"
        if any(known.start <= start and end <= known.end for known in self.ranges):
            taken = self._overlap(start, end)
            if taken is not None:
                raise BootError(f"{place} overlaps what is loaded at {taken[0]:#x}-{taken[1]:#x}: link them apart")
            self._taken.append((start, end))
            return
        if end > RAM_LIMIT:
            raise BootError(f"{place} lies where no RAM can be: give it a load address below {RAM_LIMIT:#x}")
        if start < HIGH_RAM_START and end > LOW_RAM_END:
            raise BootError(f"{place} lies in the hole between 640 KiB and 1 MiB: link the kernel at 1 MiB or above")
        raise BootError(f"{place} lies outside the {self.memory.size // MIB} MiB of RAM: use {memory_option(end)}")

    def low(self, size: int, what: str, align: int = 16) -> int:
        """Takes the lowest free room below 640 KiB; gives its address."""
        start = LOW_RAM_START
        while start + size <= LOW_RAM_END:
            taken = self._overlap(start, start + size)
            if taken is None:
                self._taken.append((start, start + size))
                return start
            start = _round_up(taken[1], align)
        raise BootError(f"no {size} free bytes below 640 KiB for {what}: link the kernel at 1 MiB or above")

    def above(self, floor: int, size: int, what: str) -> int:
        """Takes the lowest free whole pages at or above `floor`; gives their address."""
        start = _round_up(max(floor, HIGH_RAM_START), PAGE)
        while (taken := self._overlap(start, start + size)) is not None:
            start = _round_up(taken[1], PAGE)
        if start + size > self.top:
            needed = memory_option(start + size)
            raise BootError(f"{what} ({size} bytes) does not fit into RAM behind the kernel: use {needed}")
        self._taken.append((start, start + size))
        return start

    def below(self, ceiling: int, size: int, what: str) -> int:
        """Takes the highest free whole pages that end at or below `ceiling`; gives their address."""
        start = _round_down(min(ceiling, self.top) - size, PAGE)
        while start >= HIGH_RAM_START and (taken := self._overlap(start, start + size)) is not None:
            start = _round_down(taken[0] - size, PAGE)
        if start < HIGH_RAM_START:
            needed = _round_up(self.end, PAGE) + _round_up(size, PAGE)
            if needed > ceiling:
                raise BootError(f"{what} ({size} bytes) does not fit below {ceiling:#x}, the kernel's limit: shrink it")
            more = memory_option(needed)
            raise BootError(f"{what} ({size} bytes) does not fit into RAM beside the kernel: use {more}")
        self._taken.append((start, start + size))
        return start

    def _overlap(self, start: int, end: int) -> tuple[int, int] | None:
        return next(((first, last) for first, last in self._taken if start < last and first < end), None)


def _round_up(value: int, align: int) -> int:
    return -(-value // align) * align


def _round_down(value: int, align: int) -> int:
    return value // align * align
