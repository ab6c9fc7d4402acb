"""The instruction mix is exact and complete."""

from __future__ import annotations

import pytest
from iced_x86 import Decoder

from dbgvmm import Machine
from dbgvmm.bt.counting import CodeKey
from dbgvmm.profile.counts import ExecutionCounts
from dbgvmm.profile.mix import instruction_class, instruction_mix


def counts_of(code: str, times: int, user: bool = False) -> ExecutionCounts:
    data = bytes.fromhex(code)
    length = sum(1 for _ in Decoder(64, data))
    return ExecutionCounts({CodeKey(0x1000, user, (1,), data, length, 64): {length: times}}, times * length)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("74 00", "conditional branch"), ("e2 00", "conditional branch"), ("eb 00", "jump"), ("ff e0", "indirect jump"),
        ("e8 00 00 00 00", "call"), ("ff d0", "indirect call"), ("c3", "return"), ("0f 05", "system"), ("cd 80", "system"),
        ("0f 0b", "system"), ("f4", "system"), ("0f 20 c0", "system"), ("fa", "system"), ("ec", "system"),
        ("90", "no operation"),
        ("48 8d 03", "address"), ("48 89 c3", "move"), ("0f 44 c3", "move"), ("48 39 c3", "compare"), ("0f 94 c0", "compare"),
        ("48 01 c3", "arithmetic"), ("f7 f3", "arithmetic"), ("48 31 c0", "logic"), ("c1 e0 02", "shift"), ("0f a3 c3", "bit"),
        ("50", "stack"), ("9d", "flags"), ("f8", "flags"), ("f3 a4", "string"), ("aa", "string"), ("66 0f ef c0", "vector"),
        ("0f 28 c1", "vector"), ("f2 0f 58 c1", "vector"), ("d9 e8", "x87"), ("0f ae f0", "fence"),
        ("f0 48 0f b1 0b", "arithmetic"),
    ],
)  # fmt: skip
def test_every_kind_of_instruction_has_its_class(code: str, kind: str) -> None:
    assert instruction_class(Decoder(64, bytes.fromhex(code)).decode()) == kind


def test_memory_accesses_and_locks_are_counted_by_instruction() -> None:
    mix = instruction_mix(counts_of("48 8b 03 48 89 03 48 01 03 f0 48 01 03 48 87 03 48 8d 03", 7))
    assert (mix.loads, mix.stores, mix.locked) == (4 * 7, 4 * 7, 2 * 7)
    assert mix.total == 42


def test_kernel_and_user_are_told_apart_and_sums_are_the_total(counted: Machine) -> None:
    mix = instruction_mix(counted.counters.counts())
    for table in (mix.classes, mix.mnemonics):
        assert sum(row.times for row in table) == mix.total == counted.count
        assert sum(row.user for row in table) == mix.user_total > 0
        assert list(table) == sorted(table, key=lambda row: (-row.times, row.name))
