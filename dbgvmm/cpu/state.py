"""The architectural state of one virtual CPU.

Everything is a plain int in a slot: reading or changing one costs nothing but an attribute access.
Source: Intel SDM vol. 3A chapter 2 (system registers), 3.4 (segments), table 10-1 (state after reset).
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, Protocol

from .bits import CR0, CR4, DR6, DR7, EFER, RFLAGS, ApicBase, MiscEnable, SegmentAttributes, SReg


class Mode(enum.Enum):
    """Operating mode, which decides decoding and segmentation (SDM vol. 3A 2.2). PROTECTED*: CR0.PE, no long mode."""

    REAL = "real"
    PROTECTED16 = "protected16"
    PROTECTED32 = "protected32"
    COMPAT16 = "compat16"
    COMPAT32 = "compat32"
    LONG64 = "long64"


class RegisterFile(Protocol):
    """Sixteen 64-bit general registers: a list, or a memoryview of format 'Q' on the engine's context."""

    def __getitem__(self, index: int, /) -> int: ...

    def __setitem__(self, index: int, value: int, /) -> None: ...

    def __len__(self) -> int: ...


class Segment:
    """A segment register with its hidden part.

    base: bytes. limit: in bytes, granularity already applied. attributes: see SegmentAttributes; P=0 means unusable
    (a null selector). In 64-bit mode the CPU uses base of FS and GS only; the other fields keep what was loaded.
    """

    __slots__ = ("selector", "base", "limit", "attributes")

    def __init__(self, selector: int = 0, base: int = 0, limit: int = 0, attributes: int = 0) -> None:
        self.selector = selector
        self.base = base
        self.limit = limit
        self.attributes = attributes

    def set(self, selector: int, base: int, limit: int, attributes: int) -> None:
        """Replace all four fields."""
        self.selector = selector
        self.base = base
        self.limit = limit
        self.attributes = attributes

    def fields(self) -> list[int]:
        """Return [selector, base, limit, attributes]."""
        return [self.selector, self.base, self.limit, self.attributes]

    @property
    def dpl(self) -> int:
        """Descriptor privilege level, 0..3."""
        return (self.attributes >> 5) & 3

    @property
    def present(self) -> bool:
        """True if the register holds a usable segment."""
        return bool(self.attributes & SegmentAttributes.P)

    def __repr__(self) -> str:
        flags = SegmentAttributes.describe(self.attributes)
        return f"Segment({self.selector:#06x} base={self.base:#x} limit={self.limit:#x} {flags})"


class TableRegister:
    """GDTR or IDTR: base is a linear address, limit the last valid byte's offset (0..FFFFH)."""

    __slots__ = ("base", "limit")

    def __init__(self, base: int = 0, limit: int = 0xFFFF) -> None:
        self.base = base
        self.limit = limit


class CpuLimits:
    """What this CPU model lets the guest set: derived from its CPUID (see CpuidTable.limits).

    cr4_allowed, efer_allowed: bits that may be 1. physical_bits: MAXPHYADDR. signature: CPUID.1:EAX, in EDX at reset.
    has_apic: the local APIC exists and is enabled at reset.
    """

    __slots__ = ("cr4_allowed", "efer_allowed", "physical_bits", "signature", "has_apic")

    def __init__(
        self, cr4_allowed: int, efer_allowed: int, physical_bits: int, signature: int, has_apic: bool = False
    ) -> None:
        self.cr4_allowed = cr4_allowed
        self.efer_allowed = efer_allowed
        self.physical_bits = physical_bits
        self.signature = signature
        self.has_apic = has_apic


def _ignore_cr3(cpu: VCpu, old: int, new: int) -> None:
    """No one listens to CR3."""


def _ignore(cpu: VCpu) -> None:
    """No one listens."""


_SCALARS = (
    "rip", "rflags", "cpl", "cr0", "cr2", "cr3", "cr4", "cr8", "efer",
    "star", "lstar", "cstar", "sfmask", "kernel_gs_base", "sysenter_cs", "sysenter_esp", "sysenter_eip",
    "tsc_aux", "tsc_offset", "pat", "misc_enable", "apic_base",
    "interrupt_shadow", "nmi_blocked", "halted",
)  # fmt: skip


class VCpu:
    """One virtual CPU's architectural state.

    gpr: the caller's register file, in encoding order (see GPR). cpl: current privilege level, kept by whatever loads
    CS. segs: ES CS SS DS FS GS. dr: DR0..DR7 (4 and 5 unused). msrs: rarely used MSRs by number (see msr.py).
    tsc_offset: added to the clock to give the TSC. interrupt_shadow: STI or a load of SS has just run. nmi_blocked:
    an NMI handler has not executed IRET yet. halted: HLT waits for an event.

    Hooks, called after the change (the owner replaces them): on_cr3(cpu, old, new) at each write of CR3, even of the
    same value; on_paging_mode_changed(cpu) when CR0.PG/WP, CR4's paging bits or EFER.NXE/LME/LMA change;
    on_segments_changed(cpu) when a segment register, the CPL or the mode changes; on_debug_registers_changed(cpu).
    """

    __slots__ = (
        "index", "limits", "gpr", "segs", "ldtr", "tr", "gdtr", "idtr", "dr", "msrs", *_SCALARS,
        "on_cr3", "on_paging_mode_changed", "on_segments_changed", "on_debug_registers_changed",
    )  # fmt: skip

    rip: int
    rflags: int
    cpl: int
    cr0: int
    cr2: int
    cr3: int
    cr4: int
    cr8: int
    efer: int
    star: int
    lstar: int
    cstar: int
    sfmask: int
    kernel_gs_base: int
    sysenter_cs: int
    sysenter_esp: int
    sysenter_eip: int
    tsc_aux: int
    tsc_offset: int
    pat: int
    misc_enable: int
    apic_base: int
    interrupt_shadow: bool
    nmi_blocked: bool
    halted: bool

    def __init__(self, gpr: RegisterFile, limits: CpuLimits, index: int = 0) -> None:
        """A CPU in its state after reset. index: 0 is the bootstrap processor; it is also the initial APIC ID."""
        if len(gpr) != 16:
            raise ValueError(f"a vCPU needs 16 general registers in encoding order, but got {len(gpr)}")
        self.index = index
        self.limits = limits
        self.gpr = gpr
        self.segs = [Segment() for _ in range(6)]
        self.ldtr = Segment()
        self.tr = Segment()
        self.gdtr = TableRegister()
        self.idtr = TableRegister()
        self.dr = [0] * 8
        self.msrs: dict[int, int] = {}
        self.on_cr3: Callable[[VCpu, int, int], None] = _ignore_cr3
        self.on_paging_mode_changed: Callable[[VCpu], None] = _ignore
        self.on_segments_changed: Callable[[VCpu], None] = _ignore
        self.on_debug_registers_changed: Callable[[VCpu], None] = _ignore
        self.reset()

    def reset(self) -> None:
        """Load the state after RESET (SDM vol. 3A table 10-1). Calls no hooks: the owner starts afresh."""
        for name in _SCALARS:
            setattr(self, name, 0)
        self.interrupt_shadow = self.nmi_blocked = self.halted = False
        for i in range(16):
            self.gpr[i] = 0
        self.gpr[2] = self.limits.signature
        self.rip = 0xFFF0
        self.rflags = RFLAGS.FIXED
        self.cr0 = CR0.CD | CR0.NW | CR0.ET
        data = SegmentAttributes.P | SegmentAttributes.S | SegmentAttributes.WRITABLE | SegmentAttributes.ACCESSED
        for segment in self.segs:
            segment.set(0, 0, 0xFFFF, data)
        self.segs[SReg.CS].set(0xF000, 0xFFFF_0000, 0xFFFF, data | SegmentAttributes.CODE)
        self.ldtr.set(0, 0, 0xFFFF, SegmentAttributes.P | 2)
        self.tr.set(0, 0, 0xFFFF, SegmentAttributes.P | 11)
        self.gdtr.base, self.gdtr.limit = 0, 0xFFFF
        self.idtr.base, self.idtr.limit = 0, 0xFFFF
        self.dr[:] = [0, 0, 0, 0, 0, 0, DR6.fixed_ones, DR7.fixed_ones]
        self.pat = 0x0007_0406_0007_0406
        self.misc_enable = MiscEnable.FAST_STRINGS | MiscEnable.NO_BRANCH_TRACE | MiscEnable.NO_PEBS
        bsp, enabled = 0 if self.index else ApicBase.BSP, ApicBase.ENABLED if self.limits.has_apic else 0
        self.apic_base = 0xFEE0_0000 | bsp | enabled
        self.msrs.clear()

    @property
    def long_mode_active(self) -> bool:
        """EFER.LMA: 64-bit or compatibility mode."""
        return bool(self.efer & EFER.LMA)

    @property
    def mode(self) -> Mode:
        """The mode that CR0.PE, EFER.LMA and CS say."""
        attributes = self.segs[1].attributes
        if self.efer & EFER.LMA:
            if attributes & SegmentAttributes.L:
                return Mode.LONG64
            return Mode.COMPAT32 if attributes & SegmentAttributes.DB else Mode.COMPAT16
        if not self.cr0 & CR0.PE:
            return Mode.REAL
        return Mode.PROTECTED32 if attributes & SegmentAttributes.DB else Mode.PROTECTED16

    @property
    def in_64bit_code(self) -> bool:
        """True in Mode.LONG64."""
        return bool(self.efer & EFER.LMA and self.segs[1].attributes & SegmentAttributes.L)

    def save(self) -> dict[str, Any]:
        """Return the whole state as ints, bools, lists and dicts of them, fit for JSON but for `msrs`' int keys."""
        state: dict[str, Any] = {name: getattr(self, name) for name in _SCALARS}
        state["gpr"] = [self.gpr[i] for i in range(16)]
        state["segs"] = [segment.fields() for segment in self.segs]
        state["ldtr"] = self.ldtr.fields()
        state["tr"] = self.tr.fields()
        state["gdtr"] = [self.gdtr.base, self.gdtr.limit]
        state["idtr"] = [self.idtr.base, self.idtr.limit]
        state["dr"] = list(self.dr)
        state["msrs"] = dict(sorted(self.msrs.items()))
        return state

    def load(self, state: dict[str, Any]) -> None:
        """Put back what save() returned. Calls no hooks: the owner rebuilds what it derives from the state.

        Raises ValueError, with nothing changed, if a part is missing.
        """
        parts = (*_SCALARS, "gpr", "segs", "ldtr", "tr", "gdtr", "idtr", "dr", "msrs")
        missing = [name for name in parts if name not in state]
        if missing:
            raise ValueError(f"not a saved vCPU state: {', '.join(missing)} missing; pass what VCpu.save() returned")
        for name in _SCALARS:
            setattr(self, name, state[name])
        for i, value in enumerate(state["gpr"]):
            self.gpr[i] = value
        for segment, fields in zip(self.segs, state["segs"], strict=True):
            segment.set(*fields)
        self.ldtr.set(*state["ldtr"])
        self.tr.set(*state["tr"])
        self.gdtr.base, self.gdtr.limit = state["gdtr"]
        self.idtr.base, self.idtr.limit = state["idtr"]
        self.dr[:] = state["dr"]
        self.msrs.clear()
        self.msrs.update({int(index): value for index, value in state["msrs"].items()})

    def describe(self) -> str:
        """Return mode, privilege and control registers in words, one line each."""
        return "\n".join(
            (
                f"rip={self.rip:#x} cpl={self.cpl} mode={self.mode.value}",
                f"rflags={RFLAGS.describe(self.rflags)}",
                f"cr0={CR0.describe(self.cr0)} cr3={self.cr3:#x} cr4={CR4.describe(self.cr4)}",
                f"efer={EFER.describe(self.efer)} cr2={self.cr2:#x} cr8={self.cr8}",
            )
        )
