from __future__ import annotations

import struct

from dbgvmm.boot.segments import code32, code64, data32, flat_registers, gdt_bytes, tss32


def test_flat_descriptors_are_those_of_the_manual() -> None:
    assert code32(8).descriptor == 0x00CF_9B00_0000_FFFF
    assert data32(8).descriptor == 0x00CF_9300_0000_FFFF
    assert code64(8).descriptor == 0x00AF_9B00_0000_FFFF


def test_a_small_limit_is_told_in_bytes() -> None:
    assert tss32(8).descriptor == 0x0000_8B00_0000_0067


def test_each_descriptor_is_where_its_selector_points() -> None:
    code, data = code64(0x10), data32(0x18)
    table = struct.unpack("<4Q", gdt_bytes([data, code]))
    assert table == (0, 0, code.descriptor, data.descriptor)


def test_cs_holds_code_and_the_others_data() -> None:
    registers = flat_registers(code32(8), data32(16))
    assert registers.pop("cs") == code32(8)
    assert set(registers) == {"ds", "es", "ss", "fs", "gs"}
    assert set(registers.values()) == {data32(16)}
