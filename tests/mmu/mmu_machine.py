"""A bare machine for MMU tests: RAM, the real engine, a shadow MMU, and a builder of guest tables. No guest."""

from __future__ import annotations

from dataclasses import dataclass, field

from dbgvmm.cpu.bits import CR0, CR4, EFER
from dbgvmm.hardware.context import HFlags
from dbgvmm.hardware.engine import CR0_RUNNING, Engine
from dbgvmm.hardware.layout import MONITOR_PA, TC_OFFSET, TC_VA
from dbgvmm.hardware.memory import PhysicalMemory
from dbgvmm.hardware.paging import PTE
from dbgvmm.mmu.inspect import ShadowTranslation, shadow_walk
from dbgvmm.mmu.mmu import ShadowMmu

RAM_SIZE = 64 << 20
CR3 = 0x1000
RW = PTE.P | PTE.W
USER_RW = PTE.P | PTE.W | PTE.U


@dataclass
class Registers:
    """What the MMU reads of a virtual CPU: long mode with paging, WP and NXE on."""

    cr0: int = CR0.PG | CR0.PE | CR0.WP
    cr3: int = CR3
    cr4: int = CR4.PAE | CR4.PGE
    efer: int = EFER.LME | EFER.LMA | EFER.NXE
    cpl: int = 0


@dataclass
class Devices:
    """Remembers MMIO accesses of the engine."""

    reads: list[tuple[int, int]] = field(default_factory=list)
    writes: list[tuple[int, int, int]] = field(default_factory=list)

    def read(self, gpa: int, size: int) -> int:
        self.reads.append((gpa, size))
        return 0x5A

    def write(self, gpa: int, size: int, value: int) -> None:
        self.writes.append((gpa, size, value))


class MmuMachine:
    """`validate` and the like go to ShadowMmu; `cpu` may be changed before `start`."""

    def __init__(self, cpu: Registers | None = None, **options: object) -> None:
        self.cpu = cpu or Registers()
        self.ram = PhysicalMemory(RAM_SIZE)
        self.devices = Devices()
        self.engine = Engine(self.ram, mmio_read=self.devices.read, mmio_write=self.devices.write)
        self.next_table = 0x2000
        self.ac = False
        self.forced: list[int] = []
        self.mmu = ShadowMmu(self.engine, self.cpu, **options)  # type: ignore[arg-type] # options vary by test
        self.mmu.read_ac = lambda: self.ac

    # -- guest tables

    def table(self) -> int:
        self.next_table += 0x1000
        return self.next_table - 0x1000

    def entry_gpa(self, va: int, level: int, cr3: int = CR3, rights: int = USER_RW) -> int:
        """Where the level's entry for `va` lies, making the tables above it."""
        table = cr3
        for above in range(4, level, -1):
            at = table + 8 * (va >> 3 + 9 * above & 511)
            if not self.ram.u64[at >> 3] & PTE.P:
                self.ram.u64[at >> 3] = self.table() | rights
            table = self.ram.u64[at >> 3] & PTE.ADDRESS
        return table + 8 * (va >> 3 + 9 * level & 511)

    def map(self, va: int, entry: int, level: int = 1, cr3: int = CR3, rights: int = USER_RW) -> int:
        """Put `entry` into the table of `level` (no MMU involved). Returns the entry's address."""
        at = self.entry_gpa(va, level, cr3, rights)
        self.ram.u64[at >> 3] = entry
        return at

    def entry(self, va: int, level: int = 1) -> int:
        return self.ram.u64[self.entry_gpa(va, level) >> 3]

    # -- the shadow

    def shadow(self, va: int) -> ShadowTranslation | None:
        return shadow_walk(self.engine.frames, self.mmu.root, va)

    def touch(self, va: int, error_code: int = 0, user: bool = False) -> int:
        """A page fault as the hardware reports it."""
        return self.mmu.on_page_fault(va, error_code, user)

    # -- real execution

    def put_code(self, code: bytes, tc_page: int) -> int:
        """Write code to a TC page; returns its address."""
        at = TC_OFFSET + tc_page * 4096
        self.engine.frames.block.bytes[at : at + len(code)] = code
        address = TC_VA + tc_page * 4096
        self.engine.forget_code(address, address + 4096)
        return address

    def open_forever(self, tc_page: int, user: bool) -> None:
        """Make a TC page executable without any guest mapping."""
        tables = self.mmu.roots.by_key[next(reversed(self.mmu.roots.by_key))].monitor
        slot = self.mmu.monitor.tc_slot(tables, tc_page)
        entry = MONITOR_PA + TC_OFFSET + tc_page * 4096 | PTE.P | PTE.A | (PTE.U if user else 0)
        self.engine.frames.u64[slot] = entry
        self.forced.append(slot)

    def close_forced(self) -> None:
        """Take back what `open_forever` did: the MMU knows nothing of it."""
        for slot in self.forced:
            self.engine.frames.u64[slot] = 0

    def load(self, rip: int, cpl: int) -> None:
        """Put the context into 64-bit mode at `rip` with the MMU's root."""
        context = self.engine.context
        context.q[context.cr_q] = CR0_RUNNING
        context.q[context.cr_q + 3] = self.mmu.root
        context.d[context.hflags_d] = context.d[context.hflags_d] & ~3 | cpl | HFlags.CS64 | HFlags.LMA
        context.set_segment(1, 8 | cpl, 0, 0xFFFF_FFFF, 0x00AF_9B00 | cpl << 13)
        context.set_segment(2, 16 | cpl, 0, 0xFFFF_FFFF, 0x00CF_9300 | cpl << 13)
        for index in (0, 3):
            context.set_segment(index, 16 | cpl, 0, 0xFFFF_FFFF, 0x00CF_9300 | 3 << 13)
        context.q[context.rip_q] = rip
        self.engine.needs_flush = True

    def run(self, on_exit: object, limit: int = 100) -> list[tuple[int, int, int]]:
        """Run; `on_exit(vector, cr2, error)` returns whether to go on. Returns all exits as (vector, cr2, error)."""
        context = self.engine.context
        exits: list[tuple[int, int, int]] = []

        def handler(vector: int) -> None:
            found = vector, context.q[context.cr_q + 2], context.s[context.error_code_d]
            exits.append(found)
            if len(exits) >= limit or not on_exit(*found):  # type: ignore[operator] # any callable
                self.engine.stop()

        self.engine.handler = handler
        self.engine.run()
        return exits
