"""RDMSR and WRMSR: a table of every MSR that this CPU has, each with what may be written to it.

An access to any other MSR raises #GP(0) and is counted in `unknown_msrs`, so that it can be listed.
Source: Intel SDM vol. 4 chapter 2; vol. 3A 11.11 (MTRR), 11.12 (PAT), 17.17 (TSC); vol. 2B RDMSR, WRMSR, RDTSC.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter

from .bits import CR0, CR4, EFER, GPR, MASK32, MASK64, MSR, ApicBase, MiscEnable, MtrrDefType, MtrrPhysMask, SReg, is_canonical
from .cpuid import CpuidTable
from .faults import GuestFault, general_protection
from .privilege import require_cpl0
from .state import VCpu

Reader = Callable[[VCpu], int]
Writer = Callable[[VCpu, int], None]

_VARIABLE_MTRRS = 8
_MTRR_TYPES = frozenset((0, 1, 4, 5, 6))
_PAT_TYPES = frozenset((0, 1, 4, 5, 6, 7))
_FIXED_MTRRS = (
    MSR.MTRR_FIX64K_00000,
    MSR.MTRR_FIX16K_80000,
    MSR.MTRR_FIX16K_A0000,
    *range(MSR.MTRR_FIX4K_C0000, MSR.MTRR_FIX4K_F8000 + 1),
)
_MISC_ENABLE_READ_ONLY = MiscEnable.PERFORMANCE_MONITORING | MiscEnable.NO_BRANCH_TRACE | MiscEnable.NO_PEBS
_BUS_MHZ = 100
# Not affected by: Meltdown, L1TF on VM entry, SSB, MDS, page size change MCE, TAA, the three MMIO stale data kinds,
# PBRSB, GDS, RFDS. All true of an interpreter of instructions. IBRS_ALL (bit 1) goes with spec_ctrl.
_ARCH_CAPABILITIES = sum(1 << bit for bit in (0, 3, 4, 5, 6, 8, 13, 14, 15, 24, 26, 27))
_SPEC_CTRL_WRITABLE = 0b011  # IBRS, STIBP


class MsrTable:
    """The MSRs of one CPU model.

    cpuid: decides which MSRs exist. clock: returns the virtual time in TSC ticks; the TSC is that plus cpu.tsc_offset.
    unknown_msrs: number of accesses per MSR that the guest tried and that does not exist.
    """

    def __init__(self, cpuid: CpuidTable, clock: Callable[[], int]) -> None:
        self.unknown_msrs: dict[int, int] = {}
        self._clock = clock
        self._features = cpuid.features
        self._table: dict[int, tuple[Reader | None, Writer | None]] = {}
        self._add_system(cpuid)
        self._add_time_and_identity(cpuid)
        if "mtrr" in cpuid.features:
            self._add_mtrrs(cpuid.physical_bits)

    def read(self, cpu: VCpu, index: int) -> int:
        """Return MSR `index`. Raises #GP(0) if it does not exist or cannot be read."""
        reader = self._table.get(index, (None, None))[0]
        if reader is None:
            raise self._refuse(index)
        return reader(cpu)

    def write(self, cpu: VCpu, index: int, value: int) -> None:
        """Set MSR `index` to a 64-bit `value`. Raises #GP(0) if it does not exist or may not hold the value."""
        writer = self._table.get(index, (None, None))[1]
        if writer is None:
            raise self._refuse(index)
        writer(cpu, value)

    def rdmsr(self, cpu: VCpu) -> None:
        """RDMSR: EDX:EAX from the MSR in ECX. Raises #GP(0)."""
        require_cpl0(cpu)
        value = self.read(cpu, cpu.gpr[GPR.RCX] & MASK32)
        cpu.gpr[GPR.RAX] = value & MASK32
        cpu.gpr[GPR.RDX] = value >> 32

    def wrmsr(self, cpu: VCpu) -> None:
        """WRMSR: EDX:EAX to the MSR in ECX. Raises #GP(0)."""
        require_cpl0(cpu)
        value = cpu.gpr[GPR.RAX] & MASK32 | (cpu.gpr[GPR.RDX] & MASK32) << 32
        self.write(cpu, cpu.gpr[GPR.RCX] & MASK32, value)

    def tsc(self, cpu: VCpu) -> int:
        """Return the time stamp counter."""
        return (self._clock() + cpu.tsc_offset) & MASK64

    def rdtsc(self, cpu: VCpu) -> None:
        """RDTSC: EDX:EAX. Raises #GP(0) above CPL 0 with CR4.TSD."""
        if cpu.cr4 & CR4.TSD and cpu.cpl and cpu.cr0 & CR0.PE:
            raise general_protection(0, "RDTSC above CPL 0 with CR4.TSD set")
        value = self.tsc(cpu)
        cpu.gpr[GPR.RAX] = value & MASK32
        cpu.gpr[GPR.RDX] = value >> 32

    def rdtscp(self, cpu: VCpu) -> None:
        """RDTSCP: RDTSC, and ECX from TSC_AUX. Raises #GP(0), and #UD if CPUID does not have it."""
        if "rdtscp" not in self._features:
            raise GuestFault(6, reason="RDTSCP, which CPUID does not offer")
        self.rdtsc(cpu)
        cpu.gpr[GPR.RCX] = cpu.tsc_aux

    def rdpmc(self, cpu: VCpu) -> None:
        """RDPMC raises #GP(0): this CPU has no performance counters."""
        raise general_protection(0, "RDPMC on a CPU without performance counters")

    def _refuse(self, index: int) -> GuestFault:
        if index not in self._table:
            self.unknown_msrs[index] = self.unknown_msrs.get(index, 0) + 1
            return general_protection(0, f"MSR {index:x}h does not exist")
        return general_protection(0, f"MSR {MSR.name_of(index)} does not allow this access")

    def _add_system(self, cpuid: CpuidTable) -> None:
        table = self._table
        features = cpuid.features
        table[MSR.EFER] = attrgetter("efer"), _write_efer
        if "syscall" in features:
            table[MSR.STAR] = attrgetter("star"), _plain("star")
            table[MSR.LSTAR] = attrgetter("lstar"), _canonical("lstar")
            table[MSR.CSTAR] = attrgetter("cstar"), _canonical("cstar")
            table[MSR.SFMASK] = attrgetter("sfmask"), _limited("sfmask", MASK32)
        if "lm" in features:
            table[MSR.FS_BASE] = _base_reader(SReg.FS), _base_writer(SReg.FS)
            table[MSR.GS_BASE] = _base_reader(SReg.GS), _base_writer(SReg.GS)
            table[MSR.KERNEL_GS_BASE] = attrgetter("kernel_gs_base"), _canonical("kernel_gs_base")
        if "sep" in features:
            table[MSR.SYSENTER_CS] = attrgetter("sysenter_cs"), _limited("sysenter_cs", MASK32)
            table[MSR.SYSENTER_ESP] = attrgetter("sysenter_esp"), _canonical("sysenter_esp")
            table[MSR.SYSENTER_EIP] = attrgetter("sysenter_eip"), _canonical("sysenter_eip")
        if "pat" in features:
            table[MSR.PAT] = attrgetter("pat"), _write_pat
        if "mca" in features:
            # No banks: there is nothing that could fail.
            table[MSR.MCG_CAP] = _constant(0), None
            table[MSR.MCG_STATUS] = _constant(0), _only_zero
        if "spec_ctrl" in features:
            table[MSR.SPEC_CTRL] = _stored_reader(MSR.SPEC_CTRL), _stored(MSR.SPEC_CTRL, _SPEC_CTRL_WRITABLE)
            table[MSR.PRED_CMD] = None, _write_pred_cmd
        if "arch_capabilities" in features:
            ibrs_all = 1 << 1 if "spec_ctrl" in features else 0
            table[MSR.ARCH_CAPABILITIES] = _constant(_ARCH_CAPABILITIES | ibrs_all), None
        table[MSR.DEBUGCTL] = _constant(0), _only_zero
        table[MSR.MISC_FEATURES_ENABLES] = _constant(0), _only_zero

    def _add_time_and_identity(self, cpuid: CpuidTable) -> None:
        table = self._table
        table[MSR.TSC] = self.tsc, self._write_tsc
        if "tsc_adjust" in cpuid.features:
            table[MSR.TSC_ADJUST] = attrgetter("tsc_offset"), _plain("tsc_offset")
        if "rdtscp" in cpuid.features:
            table[MSR.TSC_AUX] = attrgetter("tsc_aux"), _limited("tsc_aux", MASK32)
        table[MSR.MISC_ENABLE] = attrgetter("misc_enable"), _write_misc_enable
        table[MSR.APIC_BASE] = attrgetter("apic_base"), _apic_base_writer(cpuid)
        table[MSR.FEATURE_CONTROL] = _constant(1), None  # locked, nothing enabled
        table[MSR.PLATFORM_INFO] = _constant(max(1, cpuid.tsc_hz // (_BUS_MHZ * 1_000_000)) << 8), None
        # Microcode revision 1, whatever is written: software writes 0, runs CPUID, then reads.
        table[MSR.BIOS_SIGN_ID] = _constant(1 << 32), _accept_any

    def _write_tsc(self, cpu: VCpu, value: int) -> None:
        cpu.tsc_offset = (value - self._clock()) & MASK64

    def _add_mtrrs(self, physical_bits: int) -> None:
        table = self._table
        table[MSR.MTRRCAP] = _constant(_VARIABLE_MTRRS | 1 << 8 | 1 << 10), None
        table[MSR.MTRR_DEF_TYPE] = _stored_reader(MSR.MTRR_DEF_TYPE), _write_mtrr_def_type
        for index in _FIXED_MTRRS:
            table[index] = _stored_reader(index), _fixed_mtrr_writer(index)
        address = (1 << physical_bits) - 0x1000
        for index in range(MSR.MTRR_PHYSBASE0, MSR.MTRR_PHYSBASE0 + 2 * _VARIABLE_MTRRS, 2):
            table[index] = _stored_reader(index), _mtrr_base_writer(index, address | 0xFF)
            table[index + 1] = _stored_reader(index + 1), _stored(index + 1, address | MtrrPhysMask.VALID)


def set_firmware_mtrrs(cpu: VCpu) -> None:
    """Set the MTRRs as firmware leaves them: all memory write-back, the VGA window A0000H..BFFFFH uncached."""
    write_back = 0x0606_0606_0606_0606
    for index in _FIXED_MTRRS:
        cpu.msrs[index] = 0 if index == MSR.MTRR_FIX16K_A0000 else write_back
    cpu.msrs[MSR.MTRR_DEF_TYPE] = MtrrDefType.ENABLED | MtrrDefType.FIXED_ENABLED | 6


def _constant(value: int) -> Reader:
    return lambda cpu: value


def _accept_any(cpu: VCpu, value: int) -> None:
    """A write that changes nothing."""


def _only_zero(cpu: VCpu, value: int) -> None:
    if value:
        raise general_protection(0, "MSR has no bit that can be set")


def _plain(name: str) -> Writer:
    def write(cpu: VCpu, value: int) -> None:
        setattr(cpu, name, value)

    return write


def _limited(name: str, mask: int) -> Writer:
    def write(cpu: VCpu, value: int) -> None:
        if value & ~mask:
            raise general_protection(0, f"reserved bits of {name.upper()}")
        setattr(cpu, name, value)

    return write


def _canonical(name: str) -> Writer:
    def write(cpu: VCpu, value: int) -> None:
        if not is_canonical(value):
            raise general_protection(0, f"{name.upper()} must be canonical")
        setattr(cpu, name, value)

    return write


def _stored_reader(index: int) -> Reader:
    return lambda cpu: cpu.msrs.get(index, 0)


def _stored(index: int, mask: int) -> Writer:
    def write(cpu: VCpu, value: int) -> None:
        if value & ~mask:
            raise general_protection(0, f"reserved bits of MSR {index:x}h")
        cpu.msrs[index] = value

    return write


def _base_reader(segment: int) -> Reader:
    return lambda cpu: cpu.segs[segment].base


def _base_writer(segment: int) -> Writer:
    def write(cpu: VCpu, value: int) -> None:
        if not is_canonical(value):
            raise general_protection(0, "segment base must be canonical")
        cpu.segs[segment].base = value
        cpu.on_segments_changed(cpu)

    return write


def _write_efer(cpu: VCpu, value: int) -> None:
    old = cpu.efer
    # LMA is read-only: writes of it are ignored.
    if value & ~(cpu.limits.efer_allowed | EFER.LMA):
        raise general_protection(0, "reserved bits of EFER")
    value = value & ~EFER.LMA | old & EFER.LMA
    if (value ^ old) & EFER.LME and cpu.cr0 & CR0.PG:
        raise general_protection(0, "EFER.LME changed with paging on")
    cpu.efer = value
    if (value ^ old) & (EFER.NXE | EFER.LME):
        cpu.on_paging_mode_changed(cpu)


def _write_pat(cpu: VCpu, value: int) -> None:
    if any((value >> shift & 0xFF) not in _PAT_TYPES for shift in range(0, 64, 8)):
        raise general_protection(0, "PAT field with a reserved memory type")
    cpu.pat = value


def _write_pred_cmd(cpu: VCpu, value: int) -> None:
    if value & ~1:
        raise general_protection(0, "reserved bits of PRED_CMD")


def _write_misc_enable(cpu: VCpu, value: int) -> None:
    read_only = cpu.misc_enable & _MISC_ENABLE_READ_ONLY
    if value & ~(MiscEnable.FAST_STRINGS | _MISC_ENABLE_READ_ONLY):
        raise general_protection(0, "bits of MISC_ENABLE that this CPU does not have")
    cpu.misc_enable = value & MiscEnable.FAST_STRINGS | read_only


def _apic_base_writer(cpuid: CpuidTable) -> Writer:
    allowed = (1 << cpuid.physical_bits) - 0x1000 | ApicBase.BSP
    if "apic" in cpuid.features:
        allowed |= ApicBase.ENABLED

    def write(cpu: VCpu, value: int) -> None:
        if value & ~allowed:
            raise general_protection(0, "reserved bits of APIC_BASE, or enabling an APIC that this CPU does not have")
        cpu.apic_base = value

    return write


def _write_mtrr_def_type(cpu: VCpu, value: int) -> None:
    if value & ~(0xFF | MtrrDefType.ENABLED | MtrrDefType.FIXED_ENABLED) or value & 0xFF not in _MTRR_TYPES:
        raise general_protection(0, "reserved bits or memory type of MTRR_DEF_TYPE")
    cpu.msrs[MSR.MTRR_DEF_TYPE] = value


def _fixed_mtrr_writer(index: int) -> Writer:
    def write(cpu: VCpu, value: int) -> None:
        if any((value >> shift & 0xFF) not in _MTRR_TYPES for shift in range(0, 64, 8)):
            raise general_protection(0, "fixed-range MTRR with a reserved memory type")
        cpu.msrs[index] = value

    return write


def _mtrr_base_writer(index: int, mask: int) -> Writer:
    def write(cpu: VCpu, value: int) -> None:
        if value & ~mask or value & 0xFF not in _MTRR_TYPES:
            raise general_protection(0, "reserved bits or memory type of a variable-range MTRR")
        cpu.msrs[index] = value

    return write
