"""ORC entries: found by address, decoded as their kernel's version has them."""

from __future__ import annotations

import struct

import pytest
from tiny_kernel import BtfBuilder

from dbgvmm.debug.unwind import Base, Registers, Rule, StackMemory
from dbgvmm.guest_os import GuestOsError
from dbgvmm.guest_os.linux.btf import Btf
from dbgvmm.guest_os.linux.orc import OrcBase, OrcFormat, OrcRule, OrcTable, Shape
from dbgvmm.guest_os.linux.orc_method import OrcMethod

TABLE_AT = 0xFFFF_FFFF_8200_0000
SP, PREV = OrcBase.SP, OrcBase.PREV_SP


def orc_format(late: bool) -> OrcFormat:
    """Entries of 6.1, or of 6.4 and later."""
    types = BtfBuilder()
    tail = [("type", types.u16, (40, 3)), ("signal", types.u16, (43, 1))] if late else [
        ("type", types.u16, (40, 2)), ("end", types.u16, (42, 1)),
    ]  # fmt: skip
    types.structure("orc_entry", 6, [
        ("sp_offset", types.u16, (0, 16)), ("bp_offset", types.u16, (16, 16)), ("sp_reg", types.u16, (32, 4)),
        ("bp_reg", types.u16, (36, 4)), *tail,
    ])  # fmt: skip
    return OrcFormat(Btf(types.build()))


def entry(sp: int, bp: int, sp_base: int, bp_base: int, flags: int) -> bytes:
    return struct.pack("<hhBB", sp, bp, sp_base | bp_base << 4, flags)


@pytest.mark.parametrize(
    ("late", "flags", "shape"),
    [
        (False, 0, Shape.CALL), (False, 1, Shape.REGS), (False, 2, Shape.REGS_PARTIAL), (False, 4, Shape.END),
        (True, 0, Shape.UNDEFINED), (True, 1, Shape.END), (True, 2, Shape.CALL), (True, 3, Shape.REGS),
        (True, 4, Shape.REGS_PARTIAL), (True, 2 | 8, Shape.CALL), (True, 7, Shape.UNDEFINED),
    ],
)  # fmt: skip
def test_an_entry_is_decoded_as_its_kernel_has_it(late: bool, flags: int, shape: Shape) -> None:
    assert orc_format(late).decode(entry(48, -16, SP, PREV, flags)) == OrcRule(SP, 48, PREV, -16, shape)


def test_a_register_that_there_is_not_makes_an_entry_that_knows_nothing() -> None:
    assert orc_format(True).decode(entry(8, 0, 14, 0, 2)).shape is Shape.UNDEFINED


def table(addresses: list[int], entries: list[bytes]) -> OrcTable:
    relative = [address - (TABLE_AT + 4 * number) for number, address in enumerate(addresses)]
    return OrcTable(struct.pack(f"<{len(relative)}i", *relative), TABLE_AT, b"".join(entries), orc_format(False).decode)


def test_an_address_has_the_last_entry_that_is_not_behind_it() -> None:
    start = 0xFFFF_FFFF_8100_0000
    found = table([start, start + 5, start + 9], [entry(size, 0, SP, 0, 0) for size in (8, 16, 24)])
    sizes = [rule.sp_offset if (rule := found.find(start + offset)) else None for offset in (-1, 0, 4, 5, 8, 9, 500)]
    assert sizes == [None, 8, 8, 16, 16, 24, 24]


def test_a_table_out_of_order_is_refused() -> None:
    with pytest.raises(GuestOsError, match="sorted"):
        table([0xFFFF_FFFF_8100_0009, 0xFFFF_FFFF_8100_0000], [entry(8, 0, SP, 0, 0)] * 2)


def test_a_kernel_without_orc_is_told() -> None:
    with pytest.raises(GuestOsError, match="CONFIG_UNWINDER_ORC"):
        OrcFormat(Btf(BtfBuilder().build()))


class Stack(StackMemory):
    """Words by address."""

    def __init__(self, words: dict[int, int]) -> None:
        self._content = words

    def word(self, address: int) -> int:
        return self._content[address]


@pytest.mark.parametrize(
    ("orc", "rule"),
    [
        (OrcRule(SP, 40, OrcBase.UNDEFINED, 0, Shape.CALL), Rule(Base.SP, 40)),
        (OrcRule(SP, 40, PREV, -16, Shape.CALL), Rule(Base.SP, 40, -16)),
        (OrcRule(OrcBase.BP, 16, PREV, -16, Shape.CALL), Rule(Base.BP, 16, -16)),
        (OrcRule(OrcBase.BP, 16, OrcBase.BP, 0, Shape.CALL), Rule(Base.BP, 16, -16)),
        (OrcRule(OrcBase.BP_INDIRECT, -8, PREV, -16, Shape.CALL), Rule(Base.COMPLEX)),
        (OrcRule(SP, 0, OrcBase.UNDEFINED, 0, Shape.REGS), Rule(Base.IRET, 128, -96)),
        (OrcRule(SP, 8, OrcBase.UNDEFINED, 0, Shape.REGS_PARTIAL), Rule(Base.IRET, 8)),
        (OrcRule(SP, 0, OrcBase.UNDEFINED, 0, Shape.END), Rule(Base.OUTERMOST)),
        (OrcRule(SP, 0, OrcBase.UNDEFINED, 0, Shape.UNDEFINED), None),
    ],
)
def test_an_entry_is_a_rule_of_the_unwinder(orc: OrcRule, rule: Rule | None) -> None:
    assert OrcMethod(lambda pc: orc).rule(Registers(0x5000, {7: 0x1000}, True, False), Stack({})) == rule


def test_pushed_registers_are_all_known_behind_an_exception() -> None:
    words = {0x1000 + 8 * number: 100 + number for number in range(21)} | {0x1000 + 8 * 17: 0x33}
    method = OrcMethod(lambda pc: OrcRule(SP, 0, OrcBase.UNDEFINED, 0, Shape.REGS))
    caller = method.caller(Registers(0x5000, {7: 0x1000}, True, False), Stack(words))
    assert caller is not None
    assert (caller.pc, caller.sp, caller.bp, caller.exact, caller.user) == (116, 119, 104, True, True)
    assert caller.values[3] == 105  # RBX
    assert caller.values[15] == 100


def test_a_stack_that_was_realigned_is_followed_through_memory() -> None:
    """`lea r10, [rsp+8]`, and r10 saved below RBP: the caller's stack pointer is read there."""
    method = OrcMethod(lambda pc: OrcRule(OrcBase.BP_INDIRECT, -8, PREV, -16, Shape.CALL))
    words = {0x2000 - 8: 0x3000, 0x3000 - 8: 0x77, 0x3000 - 16: 0x88}
    caller = method.caller(Registers(0x5000, {7: 0x1000, 6: 0x2000}, False, False), Stack(words))
    assert caller is not None
    assert (caller.pc, caller.sp, caller.bp) == (0x77, 0x3000, 0x88)
