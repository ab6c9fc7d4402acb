"""`GuestMemory`: guest memory at linear addresses, for emulated instructions and for people.

The read and write methods act as the guest's own accesses do: permissions, A and D bits, exact page faults, traces, MMIO.
`peek`, `poke` and `translate` are the debugger's: no permissions and no A or D bits; a poke honours traces.
"""

from __future__ import annotations

from collections.abc import Callable

from dbgvmm.cpu.bits import CR4, Vector, is_canonical
from dbgvmm.cpu.faults import GuestFault, general_protection
from dbgvmm.hardware.layout import MASK64, PAGE_OFFSET_MASK, PAGE_SIZE
from dbgvmm.hardware.paging import PTE
from dbgvmm.mmu.access import IMPLICIT, READ, USER, WRITE
from dbgvmm.mmu.mmu import ShadowMmu
from dbgvmm.mmu.slices import NotMapped, PhysicalSlices, SlicedMemory
from dbgvmm.mmu.walk import Unpaged, WalkReport


class GuestMemory(SlicedMemory):
    """Implements `dbgvmm.cpu.memory.LinearMemory`. Slices and words are the debugger's accesses, as `peek` and `poke` are.

    va: a linear address; user: whether the access has user privilege. A supervisor access while the CPL is 3 is an
    implicit one (SDM vol. 3A, 4.6.1). Raises GuestFault: #PF with the exact error code and CR2, or #GP(0) for a
    non-canonical address (a stack access must turn that into #SS). A write that faults has written nothing.

    Translations are kept until the guest flushes its TLB, as in one.
    """

    def __init__(self, mmu: ShadowMmu) -> None:
        super().__init__()
        self.physical = PhysicalSlices(mmu.ram, mmu.guest_write)
        """RAM by guest-physical address."""
        self._mmu = mmu
        self._tlb = mmu.tlb
        self._cpu = mmu.cpu
        self._ram = mmu.ram
        self._q = mmu.ram.u64
        self._bytes = mmu.ram.bytes
        self._size = mmu.ram.size
        self._cache: dict[int, int] = {}
        self._generation = -1
        self.on_access: Callable[[int, int, bool], None] | None = None
        """Called with (linear address, size, whether it writes) for each access that is made for the guest."""

    @property
    def generation(self) -> int:
        """Grows when the guest flushes its TLB: translations that somebody has kept are good no longer."""
        return self._tlb.generation

    # -- translation

    def physical_address(self, va: int, access: int) -> int:
        """The guest-physical address of `va` for READ or WRITE, possibly with USER; A and D bits are set."""
        if self._generation != self._tlb.generation:
            self._generation = self._tlb.generation
            self._cache.clear()
        page = self._cache.get(va & ~PAGE_OFFSET_MASK | access)
        if page is None:
            return self._translate(va, access)
        return page | va & PAGE_OFFSET_MASK

    def _translate(self, va: int, access: int) -> int:
        mmu = self._mmu
        if not is_canonical(va) and not isinstance(mmu.format, Unpaged):
            raise general_protection(0, f"non-canonical address {va:#x}")
        supervisor = not access & USER
        walk = mmu.walk(va, access | IMPLICIT if supervisor and self._cpu.cpl == 3 else access)
        if walk is None:
            raise GuestFault(Vector.PF, mmu.format.error, cr2=va)
        gpa, e4, e3, e2, e1 = walk
        # Under SMAP a supervisor's right to a user page changes with EFLAGS.AC: that is asked every time.
        if not (supervisor and self._cpu.cr4 & CR4.SMAP and e4 & e3 & (e2 or PTE.U) & (e1 or PTE.U) & PTE.U):
            self._cache[va & ~PAGE_OFFSET_MASK | access] = gpa & ~PAGE_OFFSET_MASK
        return gpa

    def _pieces(self, va: int, n: int, access: int) -> list[tuple[int, int]]:
        """(gpa, size) of each page's part, all of them checked."""
        pieces = []
        while n > 0:
            size = min(n, PAGE_SIZE - (va & PAGE_OFFSET_MASK))
            pieces.append((self.physical_address(va, access), size))
            va = va + size & MASK64
            n -= size
        return pieces

    # -- reading

    def read(self, va: int, n: int, user: bool) -> bytes:
        """`n` bytes."""
        if self.on_access is not None:
            self.on_access(va, n, False)
        parts = []
        for gpa, size in self._pieces(va, n, USER if user else READ):
            if gpa + size <= self._size:
                parts.append(bytes(self._bytes[gpa : gpa + size]))
            else:
                parts.append(self._device_read(gpa, size))
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _read_int(self, va: int, size: int, user: bool) -> int:
        if va & PAGE_OFFSET_MASK <= PAGE_SIZE - size and self.on_access is None:
            gpa = self.physical_address(va, USER if user else READ)
            if gpa < self._size:
                return int.from_bytes(self._bytes[gpa : gpa + size], "little")
            return self._mmu.mmio_read(gpa, size)
        return int.from_bytes(self.read(va, size, user), "little")

    def read_u8(self, va: int, user: bool) -> int:
        """One byte."""
        return self._read_int(va, 1, user)

    def read_u16(self, va: int, user: bool) -> int:
        """Two bytes, little-endian."""
        return self._read_int(va, 2, user)

    def read_u32(self, va: int, user: bool) -> int:
        """Four bytes, little-endian."""
        return self._read_int(va, 4, user)

    def read_u64(self, va: int, user: bool) -> int:
        """Eight bytes, little-endian."""
        if not va & 7 and self.on_access is None:
            gpa = self.physical_address(va, USER if user else READ)
            if gpa < self._size:
                return self._q[gpa >> 3]
        return self._read_int(va, 8, user)

    # -- writing

    def write(self, va: int, data: bytes, user: bool) -> None:
        """Store bytes."""
        at = 0
        if self.on_access is not None:
            self.on_access(va, len(data), True)
        for gpa, size in self._pieces(va, len(data), WRITE | USER if user else WRITE):
            part = data[at : at + size]
            if gpa + size <= self._size:
                self._mmu.guest_write(gpa, part)
            else:
                self._device_write(gpa, part)
            at += size

    def write_int(self, va: int, value: int, size: int, user: bool) -> None:
        """Store `size` (1, 2, 4, 8) bytes of a value that has no more."""
        if va & PAGE_OFFSET_MASK <= PAGE_SIZE - size and self.on_access is None:
            gpa = self.physical_address(va, WRITE | USER if user else WRITE)
            if gpa < self._size:
                self._mmu.guest_write_int(gpa, value, size)
            else:
                self._mmu.mmio_write(gpa, size, value)
        else:
            self.write(va, value.to_bytes(size, "little"), user)

    def write_u8(self, va: int, value: int, user: bool) -> None:
        """Store one byte."""
        self.write_int(va, value & 0xFF, 1, user)

    def write_u16(self, va: int, value: int, user: bool) -> None:
        """Store two bytes, little-endian."""
        self.write_int(va, value & 0xFFFF, 2, user)

    def write_u32(self, va: int, value: int, user: bool) -> None:
        """Store four bytes, little-endian."""
        self.write_int(va, value & 0xFFFF_FFFF, 4, user)

    def write_u64(self, va: int, value: int, user: bool) -> None:
        """Store eight bytes, little-endian."""
        self.write_int(va, value & MASK64, 8, user)

    # -- MMIO, in naturally aligned accesses as a bus would carry them

    def _device_read(self, gpa: int, n: int) -> bytes:
        data = b""
        while n:
            size = _bus_width(gpa, n)
            data += self._mmu.mmio_read(gpa, size).to_bytes(size, "little")
            gpa += size
            n -= size
        return data

    def _device_write(self, gpa: int, data: bytes) -> None:
        while data:
            size = _bus_width(gpa, len(data))
            self._mmu.mmio_write(gpa, size, int.from_bytes(data[:size], "little"))
            gpa += size
            data = data[size:]

    # -- for people

    def translate(self, va: int) -> WalkReport:
        """Every level of the guest's walk of `va`. Raises NotMapped for a non-canonical address."""
        if not is_canonical(va) and not isinstance(self._mmu.format, Unpaged):
            raise NotMapped(f"{va:#x} is not a canonical address")
        return self._mmu.walk_report(va)

    def _debug_piece(self, va: int, n: int) -> tuple[int, int]:
        """(gpa, size) of what of `n` bytes is in one page and in RAM. Raises NotMapped if not even the first byte is."""
        report = self.translate(va)
        if report.gpa is None:
            raise NotMapped(f"{va:#x} is not mapped: {report.problem}")
        if report.gpa >= self._size:
            raise NotMapped(f"{va:#x} is mapped to {report.gpa:#x}, which is not RAM")
        page = report.page_size or PAGE_SIZE
        return report.gpa, min(n, page - (va & page - 1), self._size - report.gpa)

    def _debug_pieces(self, va: int, n: int) -> list[tuple[int, int]]:
        pieces = []
        while n > 0:
            gpa, size = self._debug_piece(va, n)
            pieces.append((gpa, size))
            va = va + size & MASK64
            n -= size
        return pieces

    def peek(self, va: int, n: int) -> bytes:
        """`n` bytes as a debugger reads them. Raises NotMapped."""
        return b"".join([self._bytes[gpa : gpa + size] for gpa, size in self._debug_pieces(va, n)])

    def peek_some(self, va: int, n: int) -> bytes:
        """As many of `n` bytes as there are without a gap. Raises NotMapped if there is none."""
        parts: list[memoryview] = []
        while n > 0:
            try:
                gpa, size = self._debug_piece(va, n)
            except NotMapped:
                if not parts:
                    raise
                break
            parts.append(self._bytes[gpa : gpa + size])
            va = va + size & MASK64
            n -= size
        return b"".join(parts)

    def poke(self, va: int, data: bytes) -> None:
        """Store as a debugger does, read-only pages included; traces apply. Raises NotMapped, with nothing written."""
        at = 0
        for gpa, size in self._debug_pieces(va, len(data)):
            self._mmu.guest_write(gpa, data[at : at + size])
            at += size


def _bus_width(gpa: int, n: int) -> int:
    """The largest of 8, 4, 2, 1 that is no more than `n` and divides `gpa`."""
    return next(size for size in (8, 4, 2, 1) if size <= n and not gpa % size)


__all__ = ["GuestMemory", "NotMapped"]
