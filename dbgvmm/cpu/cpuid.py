"""CPUID: what the guest is told about its CPU, made from what the engine and the VMM really do.

Source: Intel SDM vol. 2A CPUID; vol. 3A 18.7.3 (TSC frequency from leaf 15H). Leaves 40000000H and up follow the
hypervisor convention: signature at 40000000H, timing at 40000010H.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import gcd

from .bits import ApicBase
from .features import FEATURE_BITS, allowed_cr4, allowed_efer, choose_features
from .state import CpuLimits, VCpu

Regs = tuple[int, int, int, int]

_ZERO: Regs = (0, 0, 0, 0)
_MAX_BASIC = 0x16
_MAX_EXTENDED = 0x8000_0008
_HYPERVISOR = 0x4000_0000
_HYPERVISOR_TIMING = 0x4000_0010
_HYPERVISOR_SIGNATURE = b"dbgvmmdbgvmm"
_CRYSTAL_HZ = 25_000_000
_BUS_MHZ = 100
_LINEAR_BITS = 48
_CACHE_LINE = 64
_APIC_BIT = 1 << 9
# Family 6, model 6AH, stepping 6: a 64-bit server CPU that Linux knows no errata for that matter here.
_SIGNATURE = 0x0006_06A6


class CpuidTable:
    """The CPUID of one CPU model.

    measured: names of the features that the engine executes, None for all it could have. overrides: "+name", "-name".
    tsc_hz: TSC ticks per virtual second. physical_bits: MAXPHYADDR, 36..46. brand: up to 47 ASCII characters.
    Raises ValueError for what cannot be.
    """

    def __init__(
        self,
        measured: Iterable[str] | None = None,
        overrides: Iterable[str] = (),
        *,
        tsc_hz: int = 1_000_000_000,
        physical_bits: int = 40,
        brand: str = "dbgvmm virtual CPU",
    ) -> None:
        if not 36 <= physical_bits <= 46:
            raise ValueError(f"physical_bits is {physical_bits}: choose 36 to 46")
        if not 1_000_000 <= tsc_hz < 1 << 36:
            raise ValueError(f"tsc_hz is {tsc_hz}: choose 1 MHz or more, below 64 GHz")
        if len(brand) > 47 or not brand.isascii():
            raise ValueError(f"brand {brand!r} must be ASCII and at most 47 characters long")
        self.features: frozenset[str] = choose_features(measured, overrides)
        self.tsc_hz = tsc_hz
        self.physical_bits = physical_bits
        self._leaves: dict[int, Regs] = {}
        self._caches: tuple[Regs, ...] = (
            _cache(kind=1, level=1, size=32 << 10, ways=8),
            _cache(kind=2, level=1, size=32 << 10, ways=8),
            _cache(kind=3, level=2, size=1 << 20, ways=16),
        )
        self._build(brand)

    def limits(self) -> CpuLimits:
        """Return what a VCpu of this model lets the guest set."""
        return CpuLimits(
            cr4_allowed=allowed_cr4(self.features),
            efer_allowed=allowed_efer(self.features),
            physical_bits=self.physical_bits,
            signature=_SIGNATURE,
            has_apic="apic" in self.features,
        )

    def query(self, leaf: int, subleaf: int, cpu: VCpu) -> Regs:
        """Return (EAX, EBX, ECX, EDX). A leaf beyond the last answers as the last basic one, as on Intel CPUs."""
        if leaf == 1:
            eax, ebx, ecx, edx = self._leaves[1]
            if not cpu.apic_base & ApicBase.ENABLED:
                edx &= ~_APIC_BIT
            # CR4.OSXSAVE cannot be set, so ECX.OSXSAVE stays 0.
            return eax, ebx | (cpu.index & 0xFF) << 24, ecx, edx
        if leaf == 4:
            return self._caches[subleaf] if subleaf < len(self._caches) else _ZERO
        if leaf == 7 and subleaf:
            return _ZERO
        found = self._leaves.get(leaf)
        if found is not None:
            return found
        if leaf <= _MAX_BASIC or 0x8000_0000 <= leaf <= _MAX_EXTENDED:
            return _ZERO
        if "hypervisor" in self.features and _HYPERVISOR <= leaf <= _HYPERVISOR | 0xFF:
            return _ZERO
        return self._leaves[_MAX_BASIC]

    def cpuid(self, cpu: VCpu) -> None:
        """The CPUID instruction: EAX, ECX in; EAX, EBX, ECX, EDX out, upper halves cleared."""
        gpr = cpu.gpr
        gpr[0], gpr[3], gpr[1], gpr[2] = self.query(gpr[0] & 0xFFFF_FFFF, gpr[1] & 0xFFFF_FFFF, cpu)

    def _build(self, brand: str) -> None:
        leaves = self._leaves
        vendor = b"GenuineIntel"
        leaves[0] = (_MAX_BASIC, _word(vendor, 0), _word(vendor, 8), _word(vendor, 4))
        leaves[1] = (_SIGNATURE, 1 << 16 | _CACHE_LINE // 8 << 8, 0, 0)
        leaves[2] = (0xFF01, 0, 0, 0)  # descriptor FFH: the caches are in leaf 4
        leaves[7] = _ZERO
        common = gcd(_CRYSTAL_HZ, self.tsc_hz)
        leaves[0x15] = (_CRYSTAL_HZ // common, self.tsc_hz // common, _CRYSTAL_HZ, 0)
        mhz = self.tsc_hz // 1_000_000
        leaves[0x16] = (mhz & 0xFFFF, mhz & 0xFFFF, _BUS_MHZ, 0)
        leaves[0x8000_0000] = (_MAX_EXTENDED, 0, 0, 0)
        leaves[0x8000_0001] = _ZERO
        name = brand.encode("ascii").ljust(48, b"\0")
        for i in range(3):
            leaves[0x8000_0002 + i] = _four_words(name[16 * i :])
        leaves[0x8000_0006] = (0, 0, 1024 << 16 | 8 << 12 | _CACHE_LINE, 0)  # L2: 1 MiB, code 8: 16 ways
        leaves[0x8000_0007] = _ZERO
        leaves[0x8000_0008] = (self.physical_bits | _LINEAR_BITS << 8, 0, 0, 0)
        if "hypervisor" in self.features:
            signature = _HYPERVISOR_SIGNATURE
            words = _word(signature, 0), _word(signature, 4), _word(signature, 8)
            leaves[_HYPERVISOR] = (_HYPERVISOR_TIMING, *words)
            leaves[_HYPERVISOR_TIMING] = (self.tsc_hz // 1000, _BUS_MHZ * 1000, 0, 0)
        for feature in sorted(self.features):
            leaf, register, bit = FEATURE_BITS[feature]
            regs = list(leaves[leaf])
            regs[register] |= 1 << bit
            leaves[leaf] = (regs[0], regs[1], regs[2], regs[3])
        if "syscall" in self.features and "lm" not in self.features:
            # Intel CPUs show SYSCALL only together with 64-bit mode.
            eax, ebx, ecx, edx = leaves[0x8000_0001]
            leaves[0x8000_0001] = (eax, ebx, ecx, edx & ~(1 << 11))


def _word(data: bytes, offset: int) -> int:
    return int.from_bytes(data[offset : offset + 4], "little")


def _four_words(data: bytes) -> Regs:
    return _word(data, 0), _word(data, 4), _word(data, 8), _word(data, 12)


def _cache(kind: int, level: int, size: int, ways: int) -> Regs:
    """Return leaf 4 for one cache. kind: 1 data, 2 instruction, 3 unified. size: bytes."""
    sets = size // _CACHE_LINE // ways
    return kind | level << 5 | 1 << 8, (_CACHE_LINE - 1) | (ways - 1) << 22, sets - 1, 0
