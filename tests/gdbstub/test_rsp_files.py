"""Files, searching and sums, and QEMU's own packets."""

from __future__ import annotations

import pytest
from rsp_client import Client
from rsp_machine import BASE, DATA, LOOP, SIZE, Machine


def hexed(text: str) -> str:
    return text.encode().hex()


def crc32_msb_first(data: bytes) -> int:
    """As gdb computes it, bit by bit."""
    value = 0xFFFF_FFFF
    for byte in data:
        value ^= byte << 24
        for _ in range(8):
            value = value << 1 ^ 0x04C1_1DB7 if value >> 31 else value << 1
            value &= 0xFFFF_FFFF
    return value


class TestFiles:
    def test_a_file_is_opened_read_and_closed(self, client: Client) -> None:
        assert client.ask("vFile:setfs:0") == b"F0"
        assert client.ask(f"vFile:open:{hexed('/program')},0,1c0") == b"F3"
        assert client.ask("vFile:pread:3,1000,0") == b"F%x;" % len(LOOP) + LOOP
        assert client.ask("vFile:pread:3,2,1") == b"F2;" + LOOP[1:3]
        assert client.ask("vFile:pread:3,10,ffff") == b"F0;"
        assert client.ask("vFile:close:3") == b"F0"
        assert client.ask("vFile:pread:3,1,0") == b"F-1,9"

    def test_a_big_file_comes_in_parts(self, client: Client) -> None:
        client.ask(f"vFile:open:{hexed('/big')},0,0")
        length, _, data = client.ask("vFile:pread:3,fffff,0").partition(b";")
        assert 0x8000 < len(data) == int(length[1:], 16) < 0x10000

    def test_its_status_has_its_size(self, client: Client) -> None:
        client.ask(f"vFile:open:{hexed('/program')},0,0")
        for packet in ("vFile:fstat:3", f"vFile:stat:{hexed('/program')}", f"vFile:lstat:{hexed('/program')}"):
            reply = client.ask(packet)
            assert reply.startswith(b"F40;")
            assert int.from_bytes(reply[4 + 28 : 4 + 36], "big") == len(LOOP)

    @pytest.mark.parametrize(
        ("packet", "reply"),
        [
            (f"vFile:open:{hexed('/none')},0,0", b"F-1,2"), (f"vFile:open:{hexed('/program')},1,0", b"F-1,1e"),
            ("vFile:close:7", b"F-1,9"), ("vFile:fstat:7", b"F-1,9"), (f"vFile:stat:{hexed('/none')}", b"F-1,2"),
            (f"vFile:readlink:{hexed('/program')}", b"F-1,16"), (f"vFile:readlink:{hexed('/none')}", b"F-1,2"),
            ("vFile:pwrite:3,0,x", b"F-1,1e"), (f"vFile:unlink:{hexed('/program')}", b"F-1,1e"),
        ],
    )  # fmt: skip
    def test_what_cannot_be_is_an_error_number(self, client: Client, packet: str, reply: bytes) -> None:
        assert client.ask(packet) == reply

    @pytest.mark.parametrize(
        "packet", ["vFile:open:zz,0,0", "vFile:open:", "vFile:pread:3", "vFile:pread:x,1,0", "vFile:close:"]
    )
    def test_malformed_packets_fail(self, client: Client, packet: str) -> None:
        assert client.ask(packet).startswith(b"E")

    def test_only_so_many_files_are_open_at_once(self, client: Client) -> None:
        replies = [client.ask(f"vFile:open:{hexed('/program')},0,0") for _ in range(65)]
        assert replies[-1] == b"F-1,18"
        assert client.ask("vFile:close:3") == b"F0"
        assert client.ask(f"vFile:open:{hexed('/program')},0,0") == b"F3"

    def test_the_program_has_a_name(self, client: Client) -> None:
        assert client.ask("qXfer:exec-file:read:1:0,fff") == b"l/program"


class TestSearch:
    def test_a_pattern_is_found_wherever_it_lies(self, machine: Machine, client: Client) -> None:
        machine.memory[DATA - BASE + 5 : DATA - BASE + 8] = b"\x01#}"
        assert client.ask(b"qSearch:memory:1000;2000;\x01#}") == b"1,%x" % (DATA + 5)
        assert client.ask(b"qSearch:memory:1000;%x;\x01#}" % (DATA + 7 - BASE)) == b"0"
        assert client.ask(b"qSearch:memory:%x;100;\x01#}" % (DATA + 6)) == b"0"

    def test_a_match_over_the_end_of_a_piece_is_found(self, machine: Machine, client: Client) -> None:
        machine.read_memory = lambda thread, address, length: bytes(  # type: ignore[method-assign]
            machine.memory[address - BASE : address - BASE + min(length, 7)]
        )
        machine.memory[100:110] = b"0123456789"
        assert client.ask(b"qSearch:memory:1000;200;0123456789") == b"1,1064"

    @pytest.mark.parametrize(
        "packet", [b"qSearch:memory:1000;2001;\xfe\xfe\xfe", b"qSearch:memory:0;10;a", b"qSearch:memory:1000;10;",
                   b"qSearch:memory:1000;10", b"qSearch:disk:0;1;a", b"qSearch:memory:ffffffffffffffff;2;a"],
    )  # fmt: skip
    def test_what_cannot_be_searched_fails(self, client: Client, packet: bytes) -> None:
        assert client.ask(packet).startswith(b"E")

    @pytest.mark.parametrize("length", [0, 1, 9, SIZE])
    def test_the_sum_is_gdbs(self, machine: Machine, client: Client, length: int) -> None:
        assert client.ask(f"qCRC:{BASE:x},{length:x}") == b"C%x" % crc32_msb_first(bytes(machine.memory[:length]))

    def test_there_is_no_sum_of_memory_that_is_not_there(self, client: Client) -> None:
        assert client.ask(f"qCRC:{BASE:x},{SIZE + 1:x}").startswith(b"E")


class TestQemu:
    def test_steps_may_hold_interrupts_back(self, machine: Machine, client: Client) -> None:
        assert client.ask("qqemu.sstepbits") == b"ENABLE=1,NOIRQ=2,NOTIMER=4"
        assert client.ask("qqemu.sstep") == b"0x1"
        assert client.ask("Qqemu.sstep=3") == b"OK"
        assert (machine.steps_take_interrupts, client.ask("qqemu.sstep")) == (False, b"0x3")
        assert client.ask("Qqemu.sstep=0x1") == b"OK"
        assert machine.steps_take_interrupts

    def test_that_no_timer_runs_is_taken_since_none_does(self, machine: Machine, client: Client) -> None:
        assert client.ask("Qqemu.sstep=0x7") == b"OK"
        assert (machine.steps_take_interrupts, client.ask("qqemu.sstep")) == (False, b"0x7")
        assert client.ask("Qqemu.sstep=5") == b"OK"
        assert (machine.steps_take_interrupts, client.ask("qqemu.sstep")) == (True, b"0x5")

    @pytest.mark.parametrize(
        ("packet", "reply"),
        [("Qqemu.sstepbits", b"ENABLE=1,NOIRQ=2,NOTIMER=4"), ("Qqemu.sstep", b"0x1"), ("Qqemu.PhyMemMode", b"0")],
    )
    def test_questions_may_begin_with_a_capital_letter(self, client: Client, packet: str, reply: bytes) -> None:
        assert client.ask(packet) == reply

    @pytest.mark.parametrize("packet", ["Qqemu.sstep=8", "Qqemu.sstep=2", "Qqemu.sstep=0", "Qqemu.sstep=x"])
    def test_other_flags_are_refused(self, machine: Machine, client: Client, packet: str) -> None:
        assert client.ask(packet).startswith(b"E")
        assert machine.steps_take_interrupts

    def test_memory_can_be_physical(self, client: Client) -> None:
        assert client.ask("qqemu.PhyMemMode") == b"0"
        assert client.ask("m0,2").startswith(b"E")
        assert client.ask("Qqemu.PhyMemMode:1") == b"OK"
        assert client.ask("qqemu.PhyMemMode") == b"1"
        assert client.ask("m0,2") == LOOP[:2].hex().encode()
        assert client.ask("Qqemu.PhyMemMode:0") == b"OK"
        assert client.ask("Qqemu.PhyMemMode:2").startswith(b"E")
