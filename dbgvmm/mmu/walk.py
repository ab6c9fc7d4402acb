"""The guest's page tables as its CPU reads them: one class per paging mode, and a walk report for people.

`FourLevel` is 4-level paging (Intel SDM vol. 3A, 4.5), `Unpaged` is CR0.PG=0. A further mode (32-bit, PAE) is one more
class with the methods of `PagingMode`; a walk's result always holds five numbers, unused levels being 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from dbgvmm.cpu.bits import CR0, CR4, EFER, PageFaultError
from dbgvmm.hardware.memory import PhysicalMemory
from dbgvmm.hardware.paging import PTE
from dbgvmm.mmu.access import FETCH, IMPLICIT, PHYSICAL_BITS, READ, USER, WRITE

_RESERVED_ADDRESS: Final = (1 << 52) - (1 << PHYSICAL_BITS)
_RESERVED_2M: Final = 0x1F_E000
_RESERVED_1G: Final = 0x3FFF_E000
_OFFSET_1G: Final = (1 << 30) - 1
_OFFSET_2M: Final = (1 << 21) - 1
_TABLE: Final = 0xF_FFFF_FFFF_F000
_UNREACHABLE: Final = (1 << 64) - 1
"""What a table outside RAM reads as."""

Walk = tuple[int, int, int, int, int]
"""A successful walk: guest-physical address, then the entries of levels 4 to 1 (0 below the leaf), A and D set."""


class PagingRegisters(Protocol):
    """The part of the virtual CPU that paging depends on."""

    cpl: int
    cr0: int
    cr3: int
    cr4: int
    efer: int


@dataclass(frozen=True)
class WalkLevel:
    """One step of a walk: which table, which entry, what it holds."""

    name: str
    table_gpa: int
    index: int
    entry: int

    @property
    def entry_gpa(self) -> int:
        """Where the entry lies in guest-physical memory."""
        return self.table_gpa + 8 * self.index


@dataclass(frozen=True)
class WalkReport:
    """A walk without side effects. `gpa` is None where the walk ends early; `problem` says why ("" if it does not)."""

    va: int
    levels: tuple[WalkLevel, ...]
    gpa: int | None
    page_size: int
    writable: bool
    user: bool
    executable: bool
    is_global: bool
    problem: str


class PagingMode(Protocol):
    """One format of guest page tables."""

    error: int
    failed_table: int
    failed_at: tuple[int, int]

    def configure(self, cpu: PagingRegisters) -> None: ...

    def walk(self, cr3: int, va: int, access: int) -> Walk | None: ...

    def report(self, cr3: int, va: int) -> WalkReport: ...


class FourLevel:
    """4-level paging with 4 KiB, 2 MiB and 1 GiB pages.

    After a walk that failed, `error` is the exact error code and `failed_table` the frame of the last table read;
    `failed_at`: the index of the entry in RAM's quadwords at which it ended (-1: outside RAM), and that entry.
    """

    def __init__(self, ram: PhysicalMemory, read_ac: Callable[[], bool]) -> None:
        self._q = ram.u64
        self._read_ac = read_ac
        self.error = 0
        self.failed_table = 0
        self.failed_at = -1, 0
        self.ad_updates = 0
        """Walks that set A or D bits."""
        self.reserved = _RESERVED_ADDRESS
        self._want_supervisor = 0
        self._smap = self._smep = False
        self._fetch_error = 0

    def configure(self, cpu: PagingRegisters) -> None:
        """Take over CR0.WP, EFER.NXE, CR4.SMEP and CR4.SMAP."""
        nxe = cpu.efer & EFER.NXE
        self.reserved = _RESERVED_ADDRESS | (0 if nxe else PTE.NX)
        self._want_supervisor = WRITE if cpu.cr0 & CR0.WP else 0
        self._smap = bool(cpu.cr4 & CR4.SMAP)
        self._smep = bool(cpu.cr4 & CR4.SMEP)
        self._fetch_error = FETCH if nxe or self._smep else 0

    def walk(self, cr3: int, va: int, access: int) -> Walk | None:
        """Translate a canonical `va` for `access`, setting A and D as the CPU does; None if it faults."""
        q = self._q
        bad = self.reserved
        e4 = e3 = e2 = e1 = 0
        i4 = (cr3 & _TABLE) >> 3 | va >> 39 & 511
        path: tuple[int, ...]
        try:
            e4 = q[i4]
            if not e4 & 1 or e4 & (bad | PTE.PS):
                return self._fail(access, i4, e4, e4 & (bad | PTE.PS))
            i3 = (e4 & _TABLE) >> 3 | va >> 30 & 511
            e3 = q[i3]
            if not e3 & 1 or e3 & bad:
                return self._fail(access, i3, e3, e3 & bad)
            if e3 & PTE.PS:
                if e3 & _RESERVED_1G:
                    return self._fail(access, i3, e3, 1)
                gpa = e3 & 0xF_FFFF_C000_0000 | va & _OFFSET_1G
                leaf, path = e3, (i4, i3)
                rights, forbidden = e4 & e3, e4 | e3
            else:
                i2 = (e3 & _TABLE) >> 3 | va >> 21 & 511
                e2 = q[i2]
                if not e2 & 1 or e2 & bad:
                    return self._fail(access, i2, e2, e2 & bad)
                if e2 & PTE.PS:
                    if e2 & _RESERVED_2M:
                        return self._fail(access, i2, e2, 1)
                    gpa = e2 & 0xF_FFFF_FFE0_0000 | va & _OFFSET_2M
                    leaf, path = e2, (i4, i3, i2)
                    rights, forbidden = e4 & e3 & e2, e4 | e3 | e2
                else:
                    i1 = (e2 & _TABLE) >> 3 | va >> 12 & 511
                    e1 = q[i1]
                    if not e1 & 1 or e1 & bad:
                        return self._fail(access, i1, e1, e1 & bad)
                    gpa = e1 & _TABLE | va & 0xFFF
                    leaf, path = e1, (i4, i3, i2, i1)
                    rights, forbidden = e4 & e3 & e2 & e1, e4 | e3 | e2 | e1
        except IndexError:
            return self._fail(access, -1, _UNREACHABLE, 1)

        if access & USER:
            if access & (WRITE | USER) & ~rights:
                return self._deny(access, path[-1])
        else:
            if access & self._want_supervisor & ~rights:
                return self._deny(access, path[-1])
            if rights & PTE.U and (self._smap or self._smep) and self._user_page_denied(access):
                return self._deny(access, path[-1])
        if access & FETCH and forbidden & PTE.NX:
            return self._deny(access, path[-1])

        if not rights & PTE.A or access & WRITE and not leaf & PTE.D:
            return self._mark(gpa, access, path)
        return gpa, e4, e3, e2, e1

    def _user_page_denied(self, access: int) -> bool:
        """SMEP and SMAP, for a supervisor access to a user page."""
        if access & FETCH:
            return self._smep
        return self._smap and (bool(access & IMPLICIT) or not self._read_ac())

    def _mark(self, gpa: int, access: int, path: tuple[int, ...]) -> Walk:
        """Set A at every level and D in the leaf of a write."""
        self.ad_updates += 1
        q = self._q
        for i in path:
            q[i] |= PTE.A
        if access & WRITE:
            q[path[-1]] |= PTE.D
        # Read back: a table that maps itself is met at several levels.
        entries = [q[i] for i in path] + [0, 0]
        return gpa, entries[0], entries[1], entries[2], entries[3]

    def _fail(self, access: int, index: int, entry: int, reserved: int) -> Walk | None:
        """The walk met an entry that is not present, or has a reserved bit set."""
        self.failed_table = index >> 9
        self.failed_at = index, entry
        self.error = self._error(access)
        if entry & 1 and reserved:
            self.error |= PageFaultError.P | PageFaultError.RSVD
        return None

    def _deny(self, access: int, index: int) -> Walk | None:
        """The translation exists, but not for this access."""
        self.failed_table = index >> 9
        self.failed_at = index, self._q[index]
        self.error = PageFaultError.P | self._error(access)
        return None

    def _error(self, access: int) -> int:
        return access & (WRITE | USER) | (self._fetch_error if access & FETCH else 0)

    def report(self, cr3: int, va: int) -> WalkReport:
        """Walk as a debugger does: no permissions, no A or D bits."""
        levels: list[WalkLevel] = []
        table = cr3 & _TABLE
        rights, forbidden, entry, problem = PTE.W | PTE.U, 0, 0, ""
        gpa: int | None = None
        page_size = 0
        for name, shift, misaligned in (
            ("PML4E", 39, PTE.PS), ("PDPTE", 30, _RESERVED_1G), ("PDE", 21, _RESERVED_2M), ("PTE", 12, 0),
        ):  # fmt: skip
            index = va >> shift & 511
            at = table >> 3 | index
            entry = self._q[at] if at < len(self._q) else _UNREACHABLE
            levels.append(WalkLevel(name, table, index, entry))
            if not entry & PTE.P:
                problem = f"{name} not present"
                break
            large = shift < 39 and (shift == 12 or bool(entry & PTE.PS))
            if entry & (self.reserved | (misaligned if large or shift == 39 else 0)):
                problem = f"{name} has reserved bits set"
                break
            rights &= entry
            forbidden |= entry
            if large:
                page_size = 1 << shift
                gpa = entry & _TABLE & -page_size | va & page_size - 1
                break
            table = entry & _TABLE
        found = gpa is not None
        return WalkReport(
            va, tuple(levels), gpa, page_size, found and bool(rights & PTE.W), found and bool(rights & PTE.U),
            found and not forbidden & PTE.NX, found and bool(entry & PTE.G), problem,
        )  # fmt: skip


class Unpaged:
    """CR0.PG=0: linear addresses are physical addresses, 32 bits of them."""

    error: int = READ
    failed_table: int = -1
    failed_at: tuple[int, int] = (-1, 0)

    def configure(self, cpu: PagingRegisters) -> None:
        """Nothing depends on the control registers."""

    def walk(self, cr3: int, va: int, access: int) -> Walk | None:
        """Every address is mapped, for every access."""
        return va & 0xFFFF_FFFF, 0, 0, 0, 0

    def report(self, cr3: int, va: int) -> WalkReport:
        """The identity."""
        return WalkReport(va, (), va & 0xFFFF_FFFF, 1 << 32, True, True, True, False, "")
