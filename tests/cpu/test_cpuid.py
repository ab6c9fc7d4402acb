"""CPUID and the choice of features."""

from __future__ import annotations

import pytest

from dbgvmm.cpu.bits import CR4, EFER
from dbgvmm.cpu.cpuid import CpuidTable
from dbgvmm.cpu.features import ENGINE_FEATURES, FEATURE_BITS, choose_features
from dbgvmm.cpu.state import VCpu


def query(table: CpuidTable, leaf: int, subleaf: int = 0, index: int = 0) -> tuple[int, int, int, int]:
    return table.query(leaf, subleaf, VCpu([0] * 16, table.limits(), index))


def text(*words: int) -> bytes:
    return b"".join(word.to_bytes(4, "little") for word in words)


def test_vendor_and_brand() -> None:
    table = CpuidTable()
    eax, ebx, ecx, edx = query(table, 0)
    assert (eax, text(ebx, edx, ecx)) == (0x16, b"GenuineIntel")
    brand = b"".join(text(*query(table, leaf)) for leaf in range(0x8000_0002, 0x8000_0005))
    assert brand.rstrip(b"\0") == b"dbgvmm virtual CPU" and len(brand) == 48


def test_every_feature_shows_at_its_bit_and_nowhere_else() -> None:
    with_all = CpuidTable()
    for name in sorted(with_all.features):
        leaf, register, bit = FEATURE_BITS[name]
        assert query(with_all, leaf)[register] >> bit & 1, name
        without = CpuidTable(overrides=[f"-{name}"])
        if name != "hypervisor":
            assert not query(without, leaf)[register] >> bit & 1, name


def test_what_the_vmm_cannot_do_is_not_offered() -> None:
    table = CpuidTable()
    _, _, ecx, edx = query(table, 1)
    for bit in (3, 12, 21, 24, 26, 27, 28, 29, 30):  # monitor fma x2apic deadline xsave osxsave avx f16c rdrand
        assert not ecx >> bit & 1
    assert not edx >> 9 & 1  # apic
    _, ebx, ecx, _ = query(table, 7)
    for bit in (5, 16, 18, 9):  # avx2 avx512f rdseed erms
        assert not ebx >> bit & 1
    for bit in (2, 3, 16):  # umip pku la57
        assert not ecx >> bit & 1


def test_apic_shows_only_while_apic_base_enables_it() -> None:
    table = CpuidTable(overrides=["+apic"])
    cpu = VCpu([0] * 16, table.limits(), 3)
    _, ebx, _, edx = table.query(1, 0, cpu)
    assert edx >> 9 & 1 and ebx >> 24 == 3
    cpu.apic_base &= ~(1 << 11)
    assert not table.query(1, 0, cpu)[3] >> 9 & 1


@pytest.mark.parametrize("hz", [1_000_000_000, 2_394_123_000, 25_000_000])
def test_leaf_15_gives_the_exact_tsc_frequency(hz: int) -> None:
    eax, ebx, ecx, _ = query(CpuidTable(tsc_hz=hz), 0x15)
    assert ecx * ebx == hz * eax


def test_address_widths() -> None:
    assert query(CpuidTable(physical_bits=39), 0x8000_0008)[0] == 39 | 48 << 8


def test_caches_end_with_an_empty_subleaf() -> None:
    table = CpuidTable()
    kinds = [query(table, 4, i)[0] & 0x1F for i in range(5)]
    assert kinds == [1, 2, 3, 0, 0]
    _, ebx, ecx, _ = query(table, 4, 0)
    assert ((ebx & 0xFFF) + 1) * ((ebx >> 22) + 1) * (ecx + 1) == 32 << 10


def test_leaves_beyond_the_end_answer_as_the_last_basic_one() -> None:
    table = CpuidTable()
    assert query(table, 0x17) == query(table, 0x8000_0009) == query(table, 0x16)
    assert query(table, 0xB) == (0, 0, 0, 0)
    assert query(table, 7, 1) == (0, 0, 0, 0)


def test_instruction_uses_eax_and_ecx() -> None:
    table = CpuidTable()
    cpu = VCpu([0] * 16, table.limits())
    cpu.gpr[0], cpu.gpr[1] = 0xFFFF_FFFF_0000_0004, 0xFFFF_FFFF_0000_0002
    table.cpuid(cpu)
    assert (cpu.gpr[0], cpu.gpr[3], cpu.gpr[1], cpu.gpr[2]) == query(table, 4, 2)


def test_measured_features_limit_the_engines_ones_only() -> None:
    features = choose_features(["SSE4.1", "sse", "sse2", "pni", "ssse3", "fxsr", "rdrand", "avx2"])
    assert features & ENGINE_FEATURES == {"sse4_1", "sse", "sse2", "sse3", "ssse3", "fxsr"}
    assert {"lm", "nx", "smap"} <= features


def test_a_measured_feature_without_its_basis_is_dropped() -> None:
    assert "sse4_2" not in choose_features(["sse4_2", "fxsr", "sse", "sse2"])


def test_minus_takes_dependants_away_and_plus_brings_requirements() -> None:
    features = choose_features(None, ["-sse2"])
    assert not features & {"sse2", "sse3", "sse4_2", "aes"} and "sse" in features
    assert {"lm", "pcid"} <= choose_features(None, ["-lm", "+pcid"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+rdrand", "cannot be replayed"),
        ("+avx2", "engine cannot execute"),
        ("+sse9", "unknown CPU feature"),
        ("smap", "must start with"),
    ],
)
def test_bad_overrides_say_what_is_wrong(override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CpuidTable(overrides=[override])


def test_plus_cannot_add_what_was_not_measured() -> None:
    with pytest.raises(ValueError, match="cannot execute aes"):
        choose_features(["sse", "sse2", "fxsr"], ["+aes"])


def test_limits_follow_the_features() -> None:
    limits = CpuidTable(overrides=["-nx", "-pcid"]).limits()
    assert not limits.efer_allowed & EFER.NXE and not limits.cr4_allowed & CR4.PCIDE
    assert limits.cr4_allowed & CR4.SMEP


@pytest.mark.parametrize("bad", [{"physical_bits": 52}, {"tsc_hz": 0}])
def test_impossible_parameters_are_refused(bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="choose"):
        CpuidTable(physical_bits=bad.get("physical_bits", 40), tsc_hz=bad.get("tsc_hz", 10**9))
