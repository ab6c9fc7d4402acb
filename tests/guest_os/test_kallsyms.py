"""The kernel's table of names, in each layout that Linux has had."""

from __future__ import annotations

import struct

import pytest
from tiny_kernel import BANNER, IMAGE, TinyKernel

from dbgvmm.guest_os import GuestOsError
from dbgvmm.guest_os.linux.kallsyms import Kallsyms, read_kallsyms

COUNT = 700
LONG = "a_name_that_is_longer_than_a_length_of_one_byte_can_say_" * 3
TOKENS = [chr(code) if 32 <= code < 127 else f"tok{code}_" for code in range(256)]


def symbols() -> list[tuple[int, str]]:
    """(offset from the image's start, type letter and name), in the order of addresses."""
    found = [(0x1000 + 16 * number, f"{'TtDd'[number % 4]}name_{TOKENS[200]}{number}") for number in range(COUNT)]
    found.append((0x10_0000, "Tlinux_banner"))
    found.append((0x10_0100, f"t{LONG}"))
    return found


def packed_names() -> tuple[bytes, list[int]]:
    data, markers = b"", []
    for number, (_, name) in enumerate(symbols()):
        if not number % 256:
            markers.append(len(data))
        code = name.encode().replace(TOKENS[200].encode(), b"\xc8")
        length = len(code)
        data += bytes((length & 0x7F | 0x80, length >> 7)) if length > 127 else bytes((length,))
        data += code
    return data, markers


def aligned(data: bytes) -> bytes:
    return data + bytes(-len(data) % 8)


def tables(layout: str) -> bytes:
    """The tables one after the other, as scripts/kallsyms.c of that time writes them."""
    names, markers = packed_names()
    number = struct.pack("<Q", len(symbols()))
    tokens, index = b"", b""
    for token in TOKENS:
        index += struct.pack("<H", len(tokens))
        tokens += token.encode() + b"\0"
    offsets = [offset for offset, _ in symbols()]
    if layout == "percpu":  # an absolute symbol in front, the rest counted downwards
        numbers = struct.pack(f"<{len(offsets)}i", *(-1 - offset for offset in offsets))
    else:
        numbers = struct.pack(f"<{len(offsets)}I", *offsets)
    base = struct.pack("<Q", IMAGE)
    wide = "Q" if layout == "absolute" else "I"
    middle = aligned(number) + aligned(names) + aligned(struct.pack(f"<{len(markers)}{wide}", *markers))
    ends = aligned(tokens) + aligned(index)
    if layout == "absolute":
        return struct.pack(f"<{len(offsets)}Q", *(IMAGE + offset for offset in offsets)) + middle + ends
    if layout == "late":
        return middle + ends + aligned(numbers) + base + bytes(3 * len(offsets))
    if layout == "sequence":
        return aligned(numbers) + base + middle + aligned(bytes(3 * len(offsets))) + ends
    return aligned(numbers) + base + middle + ends


def kernel(layout: str) -> TinyKernel:
    tiny = TinyKernel()
    tiny.put(IMAGE + 0x10_0000, BANNER)
    tiny.put(IMAGE + 0x18_0000, tables(layout))
    return tiny


def read(tiny: TinyKernel) -> Kallsyms:
    return read_kallsyms(tiny.image(), tiny.space)


@pytest.mark.parametrize("layout", ["early", "percpu", "sequence", "late", "absolute"])
def test_the_table_is_found_and_decoded_whatever_the_order_of_its_parts(layout: str) -> None:
    table = read(kernel(layout))
    assert table.names == [name[1:] for _, name in symbols()]
    assert table.kinds == "".join(name[0] for _, name in symbols())
    assert table.addresses == [IMAGE + offset for offset, _ in symbols()]


def test_digits_that_are_no_token_table_are_passed_over() -> None:
    tiny = kernel("early")
    tiny.put(IMAGE + 0x10_2000, b"".join(bytes((digit, 0)) for digit in b"0123456789") + b"and so on")
    assert len(read(tiny).names) == len(symbols())


def test_a_kernel_without_the_table_is_told_from_one_whose_table_is_damaged() -> None:
    with pytest.raises(GuestOsError, match="CONFIG_KALLSYMS"):
        read(TinyKernel())
    tiny = kernel("early")
    tiny.put(IMAGE + 0x18_0000 + len(tables("early")) // 2, bytes(64))
    with pytest.raises(GuestOsError, match="damaged"):
        read(tiny)


def test_a_table_whose_banner_is_not_where_it_says_is_damaged() -> None:
    tiny = kernel("late")
    tiny.put(IMAGE + 0x10_0000, b"no banner here")
    with pytest.raises(GuestOsError, match="damaged"):
        read(tiny)
