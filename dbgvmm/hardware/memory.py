"""Physical memory: guest RAM and the monitor's own, as shared anonymous mappings that Python reads and writes directly.

The engine gets the mappings by pointer, so a store of the guest is a store into these views and the other way round.
"""

from __future__ import annotations

import ctypes
import mmap

from dbgvmm.hardware.layout import FRAMES_OFFSET, MONITOR_PA, MONITOR_SIZE, PAGE_SIZE, MonitorPhysical


class MemoryBlock:
    """One contiguous block of physical memory, seen as bytes and as little-endian words of every width."""

    def __init__(self, base: int, size: int) -> None:
        if size <= 0 or size % PAGE_SIZE:
            raise ValueError(f"memory must be a positive multiple of {PAGE_SIZE} bytes, not {size}")
        self.base = base
        self.size = size
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
        self._mapping = mmap.mmap(-1, size, flags=flags)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self._mapping))
        self.bytes = memoryview(self._mapping)
        self.u16 = self.bytes.cast("H")
        self.u32 = self.bytes.cast("I")
        self.u64 = self.bytes.cast("Q")

    def clear(self) -> None:
        """Give all pages back to the host; they read as zeros again."""
        self._mapping.madvise(mmap.MADV_DONTNEED)


class PhysicalMemory:
    """Guest RAM from guest-physical 0 upwards (sizes and addresses in bytes)."""

    def __init__(self, size: int) -> None:
        self.block = MemoryBlock(0, size)
        self.size = size
        self.bytes = self.block.bytes
        self.u16 = self.block.u16
        self.u32 = self.block.u32
        self.u64 = self.block.u64

    def read(self, gpa: int, length: int) -> bytes:
        """`length` bytes from `gpa`. Raises IndexError outside RAM."""
        if gpa < 0 or gpa + length > self.size:
            raise IndexError(f"guest-physical {gpa:#x}..{gpa + length:#x} is outside RAM (size {self.size:#x})")
        return bytes(self.bytes[gpa : gpa + length])

    def write(self, gpa: int, data: bytes) -> None:
        """Store `data` at `gpa`. Raises IndexError outside RAM."""
        if gpa < 0 or gpa + len(data) > self.size:
            raise IndexError(f"guest-physical {gpa:#x}..{gpa + len(data):#x} is outside RAM (size {self.size:#x})")
        self.bytes[gpa : gpa + len(data)] = data


class OutOfFrames(Exception):
    """The monitor's memory is used up: shadow tables must be dropped."""


class FramePool:
    """Frames of monitor memory for page tables and lookup tables."""

    def __init__(self) -> None:
        self.block = MemoryBlock(MONITOR_PA, MONITOR_SIZE)
        self.u64 = self.block.u64
        self._next = FRAMES_OFFSET
        self._free: list[int] = []
        self._zero = bytes(PAGE_SIZE)

    @property
    def in_use(self) -> int:
        """Frames handed out and not given back."""
        return (self._next - FRAMES_OFFSET) // PAGE_SIZE - len(self._free)

    def is_free(self, frame: int) -> bool:
        """Whether the frame at a physical address is not handed out (a slow look, for checks)."""
        offset = frame - MONITOR_PA
        return not FRAMES_OFFSET <= offset < self._next or offset in self._free

    def allocate(self) -> MonitorPhysical:
        """A zeroed frame's physical address."""
        if self._free:
            offset = self._free.pop()
            self.block.bytes[offset : offset + PAGE_SIZE] = self._zero
        else:
            offset = self._next
            if offset >= MONITOR_SIZE:
                raise OutOfFrames(f"all {MONITOR_SIZE >> 20} MiB of monitor memory are in use")
            self._next += PAGE_SIZE
        return MonitorPhysical(MONITOR_PA + offset)

    def release(self, frame: MonitorPhysical) -> None:
        """Give a frame back; nothing may point at it any more."""
        self._free.append(frame - MONITOR_PA)

    def index(self, frame: int) -> int:
        """The index of the frame's first quadword in `u64`."""
        return (frame - MONITOR_PA) >> 3
