from __future__ import annotations

import pytest

from dbgvmm.devices.bus import MmioBus, PortBus


class Recorder:
    """Answers with the port or offset it was asked for, and keeps what it was told."""

    def __init__(self) -> None:
        self.reads: list[tuple[int, int]] = []
        self.writes: list[tuple[int, int, int]] = []

    def read_port(self, port: int, size: int) -> int:
        self.reads.append((port, size))
        return port & 0xFF

    def write_port(self, port: int, value: int, size: int) -> None:
        self.writes.append((port, value, size))

    def read_mmio(self, offset: int, size: int) -> int:
        self.reads.append((offset, size))
        return -1

    def write_mmio(self, offset: int, value: int, size: int) -> None:
        self.writes.append((offset, value, size))


@pytest.mark.parametrize(("size", "ones"), [(1, 0xFF), (2, 0xFFFF), (4, 0xFFFF_FFFF)])
def test_unclaimed_ports_read_as_ones(size: int, ones: int) -> None:
    assert PortBus().read(0x1F0, size) == ones


def test_writes_to_unclaimed_ports_are_ignored() -> None:
    PortBus().write(0x1F0, 0xFFFF_FFFF, 4)


def test_a_wide_read_of_a_byte_device_is_split_low_byte_first() -> None:
    bus, device = PortBus(), Recorder()
    bus.register(0x40, 0x43, device)
    assert bus.read(0x40, 4) == 0x43424140
    assert device.reads == [(0x40, 1), (0x41, 1), (0x42, 1), (0x43, 1)]


def test_a_wide_write_to_a_byte_device_is_split_low_byte_first() -> None:
    bus, device = PortBus(), Recorder()
    bus.register(0x40, 0x43, device)
    bus.write(0x40, 0xAABB, 2)
    assert device.writes == [(0x40, 0xBB, 1), (0x41, 0xAA, 1)]


def test_a_wide_device_gets_wide_accesses_whole() -> None:
    bus, device = PortBus(), Recorder()
    bus.register(0x604, 0x607, device, widest=4)
    bus.write(0x604, 0x1_1234_5678, 4)
    assert device.writes == [(0x604, 0x1234_5678, 4)]


def test_an_access_over_the_end_of_a_device_reads_ones_there() -> None:
    bus, device = PortBus(), Recorder()
    bus.register(0x10, 0x10, device)
    assert bus.read(0x10, 2) == 0xFF10


def test_an_access_at_the_last_port_wraps_around() -> None:
    bus, device = PortBus(), Recorder()
    bus.register(0, 0, device)
    assert bus.read(0xFFFF, 2) == 0x00FF


def test_a_port_cannot_belong_to_two_devices() -> None:
    bus = PortBus()
    bus.register(0x60, 0x64, Recorder())
    with pytest.raises(ValueError, match="0x64 already belongs to Recorder"):
        bus.register(0x64, 0x64, Recorder())


def test_a_range_beyond_the_ports_is_refused() -> None:
    with pytest.raises(ValueError, match="not a range"):
        PortBus().register(0xFFFF, 0x10000, Recorder())


def test_the_owner_of_a_port_can_be_asked_for() -> None:
    bus, device = PortBus(), Recorder()
    bus.register(0x20, 0x21, device)
    assert bus.device_at(0x21) is device
    assert bus.device_at(0x22) is None


def test_mmio_is_told_the_offset_in_its_window() -> None:
    bus, device = MmioBus(), Recorder()
    bus.register(0xFEC0_0000, 0x1000, device)
    bus.write(0xFEC0_0010, 0x1FF, 1)
    assert device.writes == [(0x10, 0xFF, 1)]
    assert bus.read(0xFEC0_0FF8, 8) == (1 << 64) - 1


def test_mmio_outside_every_window_reads_as_ones() -> None:
    bus, device = MmioBus(), Recorder()
    bus.register(0x1000, 0x1000, device)
    assert bus.read(0xFFC, 4) == bus.read(0x1FFE, 4) == 0xFFFF_FFFF
    bus.write(0x2000, 1, 4)
    assert device.reads == []
    assert device.writes == []


def test_mmio_windows_are_listed_lowest_first_and_do_not_overlap() -> None:
    bus = MmioBus()
    bus.register(0x3000, 0x1000, Recorder())
    bus.register(0x1000, 0x1000, Recorder())
    with pytest.raises(ValueError, match="overlaps"):
        bus.register(0x1FFF, 1, Recorder())
    assert bus.windows() == [(0x1000, 0x1000), (0x3000, 0x1000)]
