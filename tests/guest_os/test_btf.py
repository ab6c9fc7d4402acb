"""BTF: fields by name, whatever the structure looks like."""

from __future__ import annotations

import pytest
from tiny_kernel import BtfBuilder

from dbgvmm.guest_os import GuestOsError
from dbgvmm.guest_os.linux.btf import Btf, Field


@pytest.fixture
def btf() -> Btf:
    types = BtfBuilder()
    pair = types.structure("pair", 16, [("first", types.u64, 0), ("second", types.typedef("word", types.u32), 8)])
    choice = types.structure("", 8, [("number", types.u64, 0), ("letter", types.u8, 0)], kind=5)
    types.structure("whole", 128, [
        ("head", types.u32, 0), ("list", pair, 8), ("", choice, 24), ("items", types.array(pair, 3), 32),
        ("next", types.pointer, 80), ("name", types.array(types.u8, 16), 88),
    ])  # fmt: skip
    types.structure("bits", 2, [("low", types.u16, (0, 4)), ("middle", types.u16, (4, 3)), ("crossing", types.u16, (7, 4))])
    types.enum("state", {"LIVE": 0, "GONE": -2})
    return Btf(types.build())


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("head", Field(0, 4)),
        ("list.second", Field(16, 4)),
        ("letter", Field(24, 1)),
        ("items[2].first", Field(64, 8)),
        ("next", Field(80, 8)),
        ("name", Field(88, 16)),
    ],
)
def test_a_field_has_an_offset_and_a_size(btf: Btf, path: str, field: Field) -> None:
    assert btf.field("whole", path) == field


def test_bit_fields_have_their_bits(btf: Btf) -> None:
    assert btf.field("bits", "low") == Field(0, 1, 0, 4)
    assert btf.field("bits", "middle") == Field(0, 1, 4, 3)
    assert btf.field("bits", "crossing") == Field(0, 2, 7, 4)


def test_sizes_lengths_and_constants(btf: Btf) -> None:
    assert btf.size("whole") == 128
    assert btf.array_length("whole", "items") == 3
    assert btf.enumerators("state") == {"LIVE": 0, "GONE": -2}
    assert btf.has("whole", "list.first")
    assert not btf.has("whole", "list.third")
    assert not btf.has("whole", "items[3].first")


@pytest.mark.parametrize(("name", "path"), [("whole", "missing"), ("nothing", "head"), ("whole", "head.deeper")])
def test_what_is_not_there_is_said_in_one_line(btf: Btf, name: str, path: str) -> None:
    with pytest.raises(GuestOsError, match="version") as caught:
        btf.field(name, path)
    assert "\n" not in str(caught.value)


def test_a_typedef_of_itself_ends() -> None:
    types = BtfBuilder()
    types.structure("s", 8, [("a", 7, 0)])
    types.typedef("t", 7)
    with pytest.raises(GuestOsError, match="by itself"):
        Btf(types.build()).field("s", "a")


@pytest.mark.parametrize("damage", [b"", b"\0" * 100, b"\x9f\xeb\1\0" + b"\xff" * 60])
def test_damaged_blocks_are_refused(damage: bytes) -> None:
    with pytest.raises(GuestOsError, match="damaged"):
        Btf(damage)


def test_every_flipped_byte_gives_a_field_or_a_clear_message() -> None:
    types = BtfBuilder()
    inner = types.structure("pair", 16, [("first", types.u64, 0), ("second", types.u32, 8)])
    types.structure("whole", 48, [("items", types.array(inner, 2), 0), ("low", types.u16, (256, 4))])
    good = types.build()
    refused = 0
    for at in range(len(good)):
        data = bytearray(good)
        data[at] ^= 0xFF
        try:
            damaged = Btf(bytes(data))
            damaged.field("whole", "items[1].second")
            damaged.field("whole", "low")
        except GuestOsError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > len(good) // 3
