"""Commands of QEMU's monitor that people's scripts send, with output in QEMU's form (QEMU manual, "QEMU Monitor")."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NoReturn

from dbgvmm.commands.errors import CommandError
from dbgvmm.commands.output import Lines
from dbgvmm.commands.parameters import Address
from dbgvmm.commands.session import Session
from dbgvmm.commands.table import command
from dbgvmm.debug.stops import StopKind
from dbgvmm.hardware.paging import PTE
from dbgvmm.mmu.linear import NotMapped
from dbgvmm.mmu.mappings import Mapping, mappings
from dbgvmm.mmu.walk import FourLevel
from dbgvmm.version import VERSION

_UPPER_HALF: Final = 1 << 47
_CANONICAL: Final = (1 << 48) - 1
_PAGING_OFF: Final = "PG disabled"
_ENTRY_LETTERS: Final = (
    ("X", PTE.NX), ("G", PTE.G), ("P", PTE.PS), ("D", PTE.D), ("A", PTE.A), ("C", PTE.PCD), ("T", PTE.PWT), ("U", PTE.U),
    ("W", PTE.W),
)  # fmt: skip


@dataclass(frozen=True)
class PhysicalPlace:
    """A linear address and its guest-physical one, None if it has none."""

    address: int
    gpa: int | None

    def __str__(self) -> str:
        return "Unmapped" if self.gpa is None else f"gpa: {self.gpa:#x}"


@dataclass(frozen=True)
class Region:
    """A range of physical memory. kind: "ram" or "i/o"."""

    base: int
    size: int
    kind: str
    name: str

    def __str__(self) -> str:
        return f"  {self.base:016x}-{self.base + self.size - 1:016x} (prio 0, {self.kind}): {self.name}"


@dataclass(frozen=True)
class MemoryTree:
    """What is where in physical memory."""

    regions: tuple[Region, ...]

    def __str__(self) -> str:
        head = ("FlatView #0", ' AS "memory", root: system', " Root memory region: system")
        return "\n".join((*head, *map(str, self.regions)))


@dataclass(frozen=True)
class InterruptHardware:
    """Whether the CPU has a local APIC."""

    local_apic: bool

    def __str__(self) -> str:
        return "this CPU has no local APIC (CPUID says so to the guest): interrupts come from two 8259, see `info pic`"


@dataclass(frozen=True)
class InterruptCount:
    """How many interrupts of devices the CPU has taken."""

    taken: int

    def __str__(self) -> str:
        return f"IRQ statistics for i8259:\n all: {self.taken}"


@dataclass(frozen=True)
class Version:
    """dbgvmm's version."""

    version: str

    def __str__(self) -> str:
        return f"dbgvmm {self.version}"


@dataclass(frozen=True)
class VmStatus:
    """Whether the guest could run on ("paused") or has ended ("shutdown"), and why it stands still."""

    status: str
    reason: str

    def __str__(self) -> str:
        return f"VM status: {self.status} ({self.reason})"


@dataclass(frozen=True)
class CpuLine:
    """A CPU: where it is, and whether it waits in HLT."""

    index: int
    pc: int
    halted: bool

    def __str__(self) -> str:
        return f"* CPU #{self.index}: pc={self.pc:#018x}{' (halted)' if self.halted else ''}"


@dataclass(frozen=True)
class CpuList:
    """All of them."""

    cpus: tuple[CpuLine, ...]

    def __str__(self) -> str:
        return "\n".join(map(str, self.cpus))


def _mapped(session: Session) -> Iterator[Mapping] | None:
    """What the active page tables map; None if paging is off."""
    machine = session.machine
    form = machine.mmu.format
    return mappings(machine.ram, machine.cpu.cr3, form.reserved) if isinstance(form, FourLevel) else None


@command("info mem")
def info_mem(session: Session) -> Lines:
    """Show the ranges that the page tables map, and who may do what there.

    `START-END SIZE -rw`, as QEMU has it: `u` for user mode, `w` for writable. Whether code may run there is shown by
    `info tlb` (X: it may not) and `translate`.

    For example:

        info mem
    """
    return Lines(lambda: _ranges(_mapped(session)), lambda: _mapped(session) or ())


def _ranges(found: Iterator[Mapping] | None) -> Iterator[str]:
    if found is None:
        yield _PAGING_OFF
        return
    start = end = rights = 0
    for mapping in found:
        if mapping.va != end or mapping.rights & (PTE.W | PTE.U) != rights or start == end:
            if start != end:
                yield _range(start, end, rights)
            start, rights = mapping.va, mapping.rights & (PTE.W | PTE.U)
        end = mapping.va + mapping.size
    if start != end:
        yield _range(start, end, rights)


def _range(start: int, end: int, rights: int) -> str:
    letters = ("u" if rights & PTE.U else "-") + "r" + ("w" if rights & PTE.W else "-")
    last = end & (1 << 64) - 1 or _CANONICAL + 1  # QEMU does not extend the sign of what is behind the last page
    return f"{start:016x}-{last:016x} {end - start:016x} {letters}"


@command("info tlb")
def info_tlb(session: Session) -> Lines:
    """Show every page that the page tables map, and its entry's bits.

    `VIRTUAL: PHYSICAL XGPDACTUW`, as QEMU has it: no-execute, global, PS (or PAT), dirty, accessed, PCD, PWT, user,
    writable. `info shadow` and `translate` say more of one address.

    For example:

        info tlb
    """
    return Lines(lambda: _pages(_mapped(session)), lambda: _mapped(session) or ())


def _pages(found: Iterator[Mapping] | None) -> Iterator[str]:
    if found is None:
        yield _PAGING_OFF
        return
    for mapping in found:
        letters = "".join(letter if mapping.entry & bit else "-" for letter, bit in _ENTRY_LETTERS)
        yield f"{mapping.va:016x}: {mapping.gpa:016x} {letters}"


@command("gva2gpa")
def gva2gpa(session: Session, address: Address) -> PhysicalPlace:
    """Show the physical address of a linear ADDRESS, or `Unmapped`. `translate` shows how it comes about.

    For example:

        gva2gpa $rip
    """
    try:
        gpa = session.machine.memory.translate(address).gpa
    except NotMapped:
        gpa = None
    return PhysicalPlace(address, gpa)


@command("info mtree")
def info_mtree(session: Session, *, f: bool = False) -> MemoryTree:
    """Show what is where in physical memory (`-f`: the same, since there is but one view).

    For example:

        info mtree
    """
    machine = session.machine
    windows = (Region(base, size, "i/o", "device") for base, size in machine.board.mmio.windows())
    return MemoryTree((Region(0, machine.ram.size, "ram", "ram"), *windows))


@command("info lapic")
def info_lapic(session: Session) -> InterruptHardware:
    """Say that there is no local APIC.

    For example:

        info lapic
    """
    return InterruptHardware(False)


@command("info irq")
def info_irq(session: Session) -> InterruptCount:
    """Show how many interrupts the CPU has taken.

    For example:

        info irq
    """
    return InterruptCount(session.machine.dispatcher.ledger.interrupts)


@command("info version")
def info_version(session: Session) -> Version:
    """Show dbgvmm's version.

    For example:

        info version
    """
    return Version(VERSION)


@command("info status")
def info_status(session: Session) -> VmStatus:
    """Show whether the guest could run on.

    For example:

        info status
    """
    stop = session.machine.last_stop
    if stop is None:
        return VmStatus("paused", "prelaunch")
    return VmStatus("shutdown" if stop.kind.final and stop.kind is not StopKind.HALT else "paused", stop.text)


@command("info cpus")
def info_cpus(session: Session) -> CpuList:
    """Show the CPUs: where they are, and whether they wait in HLT.

    For example:

        info cpus
    """
    cpu = session.machine.cpu
    return CpuList((CpuLine(cpu.index, cpu.rip, cpu.halted),))


@command("system_powerdown")
def system_powerdown(session: Session) -> NoReturn:
    """Say why the power button cannot be pressed.

    For example:

        system_powerdown
    """
    raise CommandError("this PC has no power button (no ACPI): ask the guest to power off, or use `quit` (gdb: `kill`)")
