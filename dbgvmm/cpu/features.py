"""The features that the guest's CPU can have, by name, and how `--cpu` style overrides choose among them.

Names are those of Linux' /proc/cpuinfo. Where a feature is reported: Intel SDM vol. 2A CPUID, tables 3-8 to 3-11.
"""

from __future__ import annotations

from collections.abc import Iterable

from .bits import CR4, EFER

EAX, EBX, ECX, EDX = range(4)

# Instructions: the engine executes them or it does not, so they are measured. name -> (leaf, register, bit)
_ENGINE: dict[str, tuple[int, int, int]] = {
    "fpu": (1, EDX, 0),
    "cx8": (1, EDX, 8),
    "cmov": (1, EDX, 15),
    "clflush": (1, EDX, 19),
    "mmx": (1, EDX, 23),
    "fxsr": (1, EDX, 24),
    "sse": (1, EDX, 25),
    "sse2": (1, EDX, 26),
    "sse3": (1, ECX, 0),
    "pclmulqdq": (1, ECX, 1),
    "ssse3": (1, ECX, 9),
    "cx16": (1, ECX, 13),
    "sse4_1": (1, ECX, 19),
    "sse4_2": (1, ECX, 20),
    "movbe": (1, ECX, 22),
    "popcnt": (1, ECX, 23),
    "aes": (1, ECX, 25),
    "bmi1": (7, EBX, 3),
    "bmi2": (7, EBX, 8),
    "adx": (7, EBX, 19),
    "clflushopt": (7, EBX, 23),
    "clwb": (7, EBX, 24),
    "lahf_lm": (0x8000_0001, ECX, 0),
    "abm": (0x8000_0001, ECX, 5),
    "3dnowprefetch": (0x8000_0001, ECX, 8),
}

# What the VMM itself makes: paging, MSRs, privileged instructions, promises.
_VMM: dict[str, tuple[int, int, int]] = {
    "de": (1, EDX, 2),
    "pse": (1, EDX, 3),
    "tsc": (1, EDX, 4),
    "msr": (1, EDX, 5),
    "pae": (1, EDX, 6),
    "mce": (1, EDX, 7),
    "sep": (1, EDX, 11),
    "mtrr": (1, EDX, 12),
    "pge": (1, EDX, 13),
    "mca": (1, EDX, 14),
    "pat": (1, EDX, 16),
    "pse36": (1, EDX, 17),
    "pcid": (1, ECX, 17),
    "hypervisor": (1, ECX, 31),
    "fsgsbase": (7, EBX, 0),
    "tsc_adjust": (7, EBX, 1),
    "smep": (7, EBX, 7),
    "invpcid": (7, EBX, 10),
    "smap": (7, EBX, 20),
    "spec_ctrl": (7, EDX, 26),
    "arch_capabilities": (7, EDX, 29),
    "syscall": (0x8000_0001, EDX, 11),
    "nx": (0x8000_0001, EDX, 20),
    "pdpe1gb": (0x8000_0001, EDX, 26),
    "rdtscp": (0x8000_0001, EDX, 27),
    "lm": (0x8000_0001, EDX, 29),
    "nonstop_tsc": (0x8000_0007, EDX, 8),
}

# Off unless asked for. apic: needs the device. erms: REP MOVSB is said to be fast, and on this engine it is one byte at
# a time, so guests that believe it copy memory several times slower. rdpid: as rdtscp, rarely used.
_ON_REQUEST: dict[str, tuple[int, int, int]] = {
    "apic": (1, EDX, 9),
    "erms": (7, EBX, 9),
    "rdpid": (7, ECX, 22),
}

FEATURE_BITS: dict[str, tuple[int, int, int]] = {**_ENGINE, **_VMM, **_ON_REQUEST}
ENGINE_FEATURES = frozenset(_ENGINE)
VMM_FEATURES = frozenset(_VMM)

_ALIASES = {
    "clfsh": "clflush",
    "pni": "sse3",
    "pclmul": "pclmulqdq",
    "cmpxchg8b": "cx8",
    "cmpxchg16b": "cx16",
    "lzcnt": "abm",
    "prefetchw": "3dnowprefetch",
    "invtsc": "nonstop_tsc",
    "ibrs": "spec_ctrl",
    "1gb_pages": "pdpe1gb",
}

_NEVER = {
    "rdrand": "its results cannot be replayed",
    "rdseed": "its results cannot be replayed",
    "pku": "the engine does not check protection keys as hardware does",
    "la57": "the VMM keeps its own region in the upper address bits",
    "x2apic": "dbgvmm has no x2APIC",
    "umip": "code at CPL 3 may run untranslated, where SGDT and its relatives do not trap",
    "vme": "virtual-8086 mode is not emulated",
    "vmx": "nested virtualisation is not emulated",
    "svm": "nested virtualisation is not emulated",
    "monitor": "MONITOR and MWAIT are not emulated",
    **dict.fromkeys(
        ("xsave", "osxsave", "xsaveopt", "avx", "avx2", "fma", "f16c", "avx512f", "sha_ni", "vaes", "vpclmulqdq"),
        "the engine cannot execute it",
    ),
}

# name -> what it cannot be without
_REQUIRES: dict[str, tuple[str, ...]] = {
    "sse": ("fxsr",),
    "sse2": ("sse",),
    "sse3": ("sse2",),
    "ssse3": ("sse3",),
    "sse4_1": ("ssse3",),
    "sse4_2": ("sse4_1",),
    "aes": ("sse2",),
    "pclmulqdq": ("sse2",),
    "lm": ("pae", "msr", "syscall"),
    "syscall": ("msr",),
    "sep": ("msr",),
    "nx": ("pae", "msr"),
    "pdpe1gb": ("lm",),
    "pcid": ("lm",),
    "invpcid": ("pcid",),
    "fsgsbase": ("lm",),
    "lahf_lm": ("lm",),
    "cx16": ("lm",),
    "rdtscp": ("tsc", "msr"),
    "rdpid": ("rdtscp",),
    "tsc_adjust": ("tsc", "msr"),
    "nonstop_tsc": ("tsc",),
    "mca": ("mce", "msr"),
    "mtrr": ("msr",),
    "pat": ("msr",),
    "pse36": ("pse",),
    "spec_ctrl": ("msr",),
    "arch_capabilities": ("msr",),
    "apic": ("msr",),
}

_CR4_OF_FEATURE = {
    "tsc": CR4.TSD,
    "de": CR4.DE,
    "pse": CR4.PSE,
    "pae": CR4.PAE,
    "mce": CR4.MCE,
    "pge": CR4.PGE,
    "fxsr": CR4.OSFXSR,
    "sse": CR4.OSXMMEXCPT,
    "fsgsbase": CR4.FSGSBASE,
    "pcid": CR4.PCIDE,
    "smep": CR4.SMEP,
    "smap": CR4.SMAP,
}
_EFER_OF_FEATURE = {"syscall": EFER.SCE, "lm": EFER.LME, "nx": EFER.NXE}


def canonical_name(name: str) -> str:
    """Return the name used here for any common spelling ("SSE4.1", "clfsh", "lzcnt").

    Raises ValueError for one that is unknown, or that dbgvmm never offers, saying why.
    """
    plain = name.strip().lower().replace(".", "_").replace("-", "_")
    plain = _ALIASES.get(plain, plain)
    if plain in _NEVER:
        raise ValueError(f"CPU feature {name!r} is never offered: {_NEVER[plain]}")
    if plain not in FEATURE_BITS:
        raise ValueError(f"unknown CPU feature {name!r}; known ones: {', '.join(sorted(FEATURE_BITS))}")
    return plain


def choose_features(measured: Iterable[str] | None, overrides: Iterable[str] = ()) -> frozenset[str]:
    """Return the features of a CPU.

    measured: names that the engine was found to execute (others in it, such as "rdrand", are passed over); None takes
    all of ENGINE_FEATURES. overrides: "+name" or "-name", later ones win; "+" brings what the feature requires, "-"
    takes away what requires it. Raises ValueError for a bad override or one the engine cannot execute.
    """
    if measured is None:
        engine = ENGINE_FEATURES
    else:
        plain = {name.lower().replace(".", "_").replace("-", "_") for name in measured}
        engine = frozenset(_ALIASES.get(name, name) for name in plain) & ENGINE_FEATURES
    chosen = set(VMM_FEATURES | engine)
    for name in sorted(chosen):
        if any(need not in chosen for need in _requirements(name)):
            chosen.discard(name)
    for override in overrides:
        sign, name = override[:1], canonical_name(override[1:]) if override[:1] in ("+", "-") else ""
        if not name:
            raise ValueError(f"CPU override {override!r} must start with + or -, as in +erms or -smap")
        if sign == "+":
            wanted = {name, *_requirements(name)}
            absent = sorted((wanted & ENGINE_FEATURES) - engine)
            if absent:
                raise ValueError(f"CPU override {override!r}: the engine cannot execute {', '.join(absent)}")
            chosen |= wanted
        else:
            chosen = {other for other in chosen if other != name and name not in _requirements(other)}
    return frozenset(chosen)


def allowed_cr4(features: frozenset[str]) -> int:
    """Return the CR4 bits that a CPU with `features` lets be set."""
    return CR4.PCE | sum(bit for name, bit in _CR4_OF_FEATURE.items() if name in features)


def allowed_efer(features: frozenset[str]) -> int:
    """Return the EFER bits that a CPU with `features` lets be set."""
    return sum(bit for name, bit in _EFER_OF_FEATURE.items() if name in features)


def _requirements(name: str) -> set[str]:
    """Return everything that `name` requires, at any depth."""
    found: set[str] = set()
    pending = list(_REQUIRES.get(name, ()))
    while pending:
        need = pending.pop()
        if need not in found:
            found.add(need)
            pending.extend(_REQUIRES.get(need, ()))
    return found
