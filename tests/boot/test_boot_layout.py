from __future__ import annotations

import pytest
from boot_images import MIB, Ram

from dbgvmm.boot.layout import Placement, memory_map
from dbgvmm.boot.state import BootError


def test_the_map_is_ram_below_640k_a_hole_and_ram_to_the_top() -> None:
    assert [(line.start, line.end, line.type) for line in memory_map(16 * MIB)] == [
        (0, 0xA0000, 1),
        (0x100000, 16 * MIB, 1),
    ]


def test_ram_below_2_mib_is_refused() -> None:
    with pytest.raises(BootError, match="--memory 2M"):
        memory_map(MIB)


def test_ram_is_not_told_where_the_apics_are() -> None:
    assert memory_map(4 << 30)[-1].end == 0xFEC0_0000


def test_a_claim_outside_of_ram_says_how_much_memory_it_takes() -> None:
    room = Placement(Ram(4 * MIB))
    with pytest.raises(BootError, match=r"segment at 0x300000-0x500001 .* 4 MiB of RAM: use --memory 6M"):
        room.claim(0x300000, 0x200001, "segment")


def test_a_claim_that_reaches_into_the_hole_is_refused() -> None:
    with pytest.raises(BootError, match="hole between 640 KiB and 1 MiB"):
        Placement(Ram()).claim(0x9F000, 0x2000, "segment")


def test_a_claim_at_a_higher_half_address_is_not_answered_with_more_memory() -> None:
    with pytest.raises(BootError, match="no RAM can be") as caught:
        Placement(Ram()).claim(0xFFFF_FFFF_8010_0000, 0x1000, "segment")
    assert "--memory" not in str(caught.value)


def test_overlapping_claims_are_refused() -> None:
    room = Placement(Ram())
    room.claim(0x100000, 0x2000, "first")
    with pytest.raises(BootError, match="second at 0x101000-0x103000 overlaps .* 0x100000-0x102000"):
        room.claim(0x101000, 0x2000, "second")


def test_low_room_avoids_page_zero_and_what_is_taken() -> None:
    room = Placement(Ram())
    room.claim(0x1000, 0x7001, "boot sector kernel")
    assert room.low(100, "table") == 0x8010
    assert room.low(100, "table", align=0x1000) == 0x9000


def test_full_low_memory_is_an_error() -> None:
    room = Placement(Ram())
    room.claim(0x1000, 0x9F000, "kernel")
    with pytest.raises(BootError, match="below 640 KiB for table"):
        room.low(16, "table")


def test_above_gives_the_next_free_page() -> None:
    room = Placement(Ram())
    room.claim(0x100000, 0x1001, "kernel")
    assert room.above(0x100000, 5, "initrd") == 0x102000


def test_above_says_how_much_memory_it_takes() -> None:
    with pytest.raises(BootError, match="initrd .* --memory 21M"):
        Placement(Ram()).above(MIB, 20 * MIB, "initrd")


def test_below_gives_the_highest_free_page() -> None:
    room = Placement(Ram())
    room.claim(15 * MIB, MIB, "top")
    assert room.below(1 << 32, 0x1001, "initrd") == 15 * MIB - 0x2000


def test_below_says_how_much_memory_it_takes() -> None:
    room = Placement(Ram())
    room.claim(MIB, 9 * MIB, "kernel")
    with pytest.raises(BootError, match="initrd .* --memory 17M"):
        room.below(1 << 32, 7 * MIB, "initrd")


def test_below_does_not_offer_more_memory_against_the_kernels_own_limit() -> None:
    room = Placement(Ram())
    room.claim(MIB, MIB, "kernel")
    with pytest.raises(BootError, match="kernel's limit") as caught:
        room.below(4 * MIB, 4 * MIB, "initrd")
    assert "--memory" not in str(caught.value)
