"""A small linear memory and ready-made guests for the tests of the CPU."""

from __future__ import annotations

from dbgvmm.cpu.bits import CR0, CR4, EFER, RFLAGS, PageFaultError, SegmentAttributes, SReg, Vector
from dbgvmm.cpu.boot_state import enter_flat_long, enter_flat_protected
from dbgvmm.cpu.cpuid import CpuidTable
from dbgvmm.cpu.descriptors import load_from, make_descriptor
from dbgvmm.cpu.faults import GuestFault
from dbgvmm.cpu.state import Mode, Segment, VCpu

P = SegmentAttributes.P
S = SegmentAttributes.S
L = SegmentAttributes.L
DB = SegmentAttributes.DB
G = SegmentAttributes.G
DPL3 = SegmentAttributes.DPL
CODE = 0xA  # execute/read, not accessed
DATA = 0x2  # read/write, not accessed
FLAT = 0xFFFF_FFFF

GDT, IDT, TSS, LDT = 0x1000, 0x2000, 0x4000, 0x6000
HANDLER = 0x1234_5000
RSP0, IST1, RSP1, KERNEL_STACK, USER_STACK = 0x9000, 0xA000, 0xB000, 0x8000, 0xC000

KCODE, KDATA, UCODE32, UDATA, UCODE64, TSS_SEL = 0x08, 0x10, 0x18, 0x20, 0x28, 0x30
KCODE32, ABSENT_CODE, EXEC_ONLY, CONFORMING, LDT_SEL = 0x40, 0x48, 0x50, 0x58, 0x60
READ_ONLY, UDATA16, GATE, ABSENT_DATA, BAD_CODE = 0x70, 0x78, 0x80, 0x90, 0x98
GDT_SIZE = 0x100


class FakeMemory:
    """Linear memory in which every page is present, unless it is said to be absent, read-only or supervisor's."""

    def __init__(self) -> None:
        self.pages: dict[int, bytearray] = {}
        self.absent: set[int] = set()
        self.read_only: set[int] = set()
        self.supervisor: set[int] = set()
        self.writes: list[int] = []

    def _byte(self, va: int, user: bool, write: bool) -> tuple[bytearray, int]:
        page = va >> 12
        kind = (PageFaultError.W if write else 0) | (PageFaultError.U if user else 0)
        if page in self.absent:
            raise GuestFault(Vector.PF, kind, va)
        if (user and page in self.supervisor) or (write and page in self.read_only):
            raise GuestFault(Vector.PF, kind | PageFaultError.P, va)
        return self.pages.setdefault(page, bytearray(4096)), va & 0xFFF

    def read(self, va: int, n: int, user: bool) -> bytes:
        found = bytearray()
        for i in range(n):
            page, offset = self._byte(va + i, user, False)
            found.append(page[offset])
        return bytes(found)

    def _write(self, va: int, data: bytes, user: bool) -> None:
        places = [self._byte(va + i, user, True) for i in range(len(data))]
        self.writes.append(va)
        for (page, offset), value in zip(places, data, strict=True):
            page[offset] = value

    def read_u8(self, va: int, user: bool) -> int:
        return self.read(va, 1, user)[0]

    def read_u16(self, va: int, user: bool) -> int:
        return int.from_bytes(self.read(va, 2, user), "little")

    def read_u32(self, va: int, user: bool) -> int:
        return int.from_bytes(self.read(va, 4, user), "little")

    def read_u64(self, va: int, user: bool) -> int:
        return int.from_bytes(self.read(va, 8, user), "little")

    def write_u16(self, va: int, value: int, user: bool) -> None:
        self._write(va, value.to_bytes(2, "little"), user)

    def write_u32(self, va: int, value: int, user: bool) -> None:
        self._write(va, value.to_bytes(4, "little"), user)

    def write_u64(self, va: int, value: int, user: bool) -> None:
        self._write(va, value.to_bytes(8, "little"), user)

    def qwords(self, va: int, count: int) -> list[int]:
        return [self.read_u64(va + 8 * i, False) for i in range(count)]

    def dwords(self, va: int, count: int) -> list[int]:
        return [self.read_u32(va + 4 * i, False) for i in range(count)]


def set_descriptor(mem: FakeMemory, selector: int, raw: int, table: int = GDT) -> None:
    mem.write_u64(table + (selector & 0xFFF8), raw, False)


def set_gate64(
    mem: FakeMemory, vector: int, *, offset: int = HANDLER, selector: int = KCODE, kind: int = 14, dpl: int = 0,
    ist: int = 0, present: int = 1,
) -> None:  # fmt: skip
    low = offset & 0xFFFF | selector << 16 | ist << 32 | (kind | dpl << 5 | present << 7) << 40
    mem.write_u64(IDT + 16 * vector, low | (offset >> 16 & 0xFFFF) << 48, False)
    mem.write_u64(IDT + 16 * vector + 8, offset >> 32, False)


def set_gate32(
    mem: FakeMemory, vector: int, *, offset: int = HANDLER, selector: int = KCODE, kind: int = 14, dpl: int = 0,
    present: int = 1,
) -> None:  # fmt: skip
    low = offset & 0xFFFF | selector << 16 | (kind | dpl << 5 | present << 7) << 40
    mem.write_u64(IDT + 8 * vector, low | (offset >> 16 & 0xFFFF) << 48, False)


def set_cs(cpu: VCpu, mem: FakeMemory, selector: int) -> None:
    load_from(cpu.segs[SReg.CS], selector, mem.read_u64(GDT + (selector & 0xFFF8), False))
    cpu.cpl = selector & 3


def set_ss(cpu: VCpu, mem: FakeMemory, selector: int) -> None:
    load_from(cpu.segs[SReg.SS], selector, mem.read_u64(GDT + (selector & 0xFFF8), False))


def _common_descriptors(mem: FakeMemory, code_bits: int) -> None:
    for selector, base, limit, attributes in (
        (KCODE, 0, FLAT, CODE | S | P | code_bits | G),
        (KDATA, 0, FLAT, DATA | S | P | DB | G),
        (UCODE32, 0, FLAT, CODE | S | P | DB | G | DPL3),
        (UDATA, 0, FLAT, DATA | S | P | DB | G | DPL3),
        (UCODE64, 0, FLAT, CODE | S | P | code_bits | G | DPL3),
        (KCODE32, 0, FLAT, CODE | S | P | DB | G),
        (ABSENT_CODE, 0, FLAT, CODE | S | code_bits | G),
        (EXEC_ONLY, 0, FLAT, 0x8 | S | P | code_bits | G),
        (CONFORMING, 0, FLAT, 0xE | S | P | code_bits | G),
        (READ_ONLY, 0, FLAT, 0x0 | S | P | DB | G),
        (UDATA16, 0, 0xFFFF, DATA | S | P | DPL3),
        (ABSENT_DATA, 0, FLAT, DATA | S | DB | G),
        (BAD_CODE, 0, FLAT, CODE | S | P | L | DB | G),
    ):
        set_descriptor(mem, selector, make_descriptor(base, limit, attributes))
    set_descriptor(mem, TSS_SEL, make_descriptor(TSS, 0x67, 9 | P))
    set_descriptor(mem, LDT_SEL, make_descriptor(LDT, 0xFF, 2 | P))


def new_cpu(*overrides: str) -> VCpu:
    return VCpu([0] * 16, CpuidTable(overrides=overrides).limits())


def long_guest(cpl: int = 0) -> tuple[VCpu, FakeMemory]:
    """A kernel in 64-bit mode: GDT, IDT with gates for all exceptions, TSS with RSP0, RSP1 and IST1."""
    mem, cpu = FakeMemory(), new_cpu()
    _common_descriptors(mem, L)
    mem.write_u64(TSS + 4, RSP0, False)
    mem.write_u64(TSS + 12, RSP1, False)
    mem.write_u64(TSS + 36, IST1, False)
    for vector in range(32):
        set_gate64(mem, vector, offset=HANDLER + vector)
    enter_flat_long(cpu, 0x40_0000, 0x7000)
    cpu.cr0 |= CR0.WP
    cpu.cr4 |= CR4.FSGSBASE
    cpu.efer |= EFER.SCE | EFER.NXE
    cpu.gdtr.base, cpu.gdtr.limit = GDT, GDT_SIZE - 1
    cpu.idtr.base, cpu.idtr.limit = IDT, 0xFFF
    cpu.tr = Segment(TSS_SEL, TSS, 0x67, 11 | P)
    set_cs(cpu, mem, UCODE64 | 3 if cpl else KCODE)
    set_ss(cpu, mem, UDATA | 3 if cpl else KDATA)
    cpu.gpr[4] = USER_STACK if cpl else KERNEL_STACK
    cpu.rflags = RFLAGS.FIXED | RFLAGS.IF
    return cpu, mem


def protected_guest(cpl: int = 0) -> tuple[VCpu, FakeMemory]:
    """A kernel in flat 32-bit protected mode with GDT, IDT with gates for all exceptions, and a TSS."""
    mem, cpu = FakeMemory(), new_cpu()
    _common_descriptors(mem, DB)
    mem.write_u32(TSS + 4, RSP0, False)
    mem.write_u16(TSS + 8, KDATA, False)
    for vector in range(32):
        set_gate32(mem, vector, offset=HANDLER + vector)
    enter_flat_protected(cpu, 0x40_0000)
    cpu.gdtr.base, cpu.gdtr.limit = GDT, GDT_SIZE - 1
    cpu.idtr.base, cpu.idtr.limit = IDT, 0x7FF
    cpu.tr = Segment(TSS_SEL, TSS, 0x67, 11 | P)
    set_cs(cpu, mem, UCODE32 | 3 if cpl else KCODE)
    set_ss(cpu, mem, UDATA | 3 if cpl else KDATA)
    for index in (SReg.DS, SReg.ES, SReg.FS, SReg.GS):
        selector = UDATA | 3 if cpl else KDATA
        load_from(cpu.segs[index], selector, mem.read_u64(GDT + (selector & 0xFFF8), False))
    cpu.gpr[4] = USER_STACK if cpl else KERNEL_STACK
    cpu.rflags = RFLAGS.FIXED | RFLAGS.IF
    return cpu, mem


def mode(cpu: VCpu) -> Mode:
    """cpu.mode, which the type checker must not take for a constant between two asserts."""
    return cpu.mode
