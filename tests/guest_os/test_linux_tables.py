"""Lists, trees and rings in a kernel's memory, whole and damaged."""

from __future__ import annotations

import struct

import pytest
from tiny_kernel import BtfBuilder, TinyKernel, names

from dbgvmm.guest_os import GuestOsError, LogLine
from dbgvmm.guest_os.linux.areas import read_areas
from dbgvmm.guest_os.linux.btf import Btf
from dbgvmm.guest_os.linux.printk import read_log
from dbgvmm.guest_os.linux.records import BrokenList, Records
from dbgvmm.guest_os.linux.syscalls import syscall_names
from dbgvmm.guest_os.linux.tasks import state_letter

RECORDS, BYTES = 4, 256
FINALIZED = 2 << 62


@pytest.mark.parametrize(
    ("state", "exit_state", "letter"),
    [
        (0, 0, "R"), (1, 0, "S"), (2, 0, "D"), (4, 0, "T"), (8, 0, "t"), (0, 0x10, "X"), (0, 0x20, "Z"), (0x40, 0, "P"),
        (0x402, 0, "I"), (0x1002, 0, "D"), (0x100, 0, "R"),
    ],
)  # fmt: skip
def test_states_have_the_letters_of_ps(state: int, exit_state: int, letter: str) -> None:
    assert state_letter(state, exit_state) == letter


# -- rings


def ring_of(kernel: TinyKernel, count: int) -> tuple[Records, int, list[int]]:
    types = BtfBuilder()
    link = types.structure("list_head", 16, [("next", types.pointer, 0), ("prev", types.pointer, 8)])
    types.structure("item", 32, [("number", types.u64, 0), ("link", link, 8)])
    head = kernel.take(16)
    items = [kernel.take(32) for _ in range(count)]
    for number, (item, following) in enumerate(zip(items, [*items, head - 8][1:], strict=True)):
        kernel.put(item, struct.pack("<QQ", number, following + 8))
    kernel.put64(head, items[0] + 8 if items else head)
    return Records(kernel.space, Btf(types.build())), head, items


def test_a_ring_is_followed_back_to_its_head() -> None:
    records, head, items = ring_of(TinyKernel(), 5)
    found = list(records.ring(head, "item", "link"))
    assert [record.address for record in found] == items
    assert [record["number"] for record in found] == [0, 1, 2, 3, 4]


def test_an_empty_ring_has_nothing() -> None:
    records, head, _ = ring_of(TinyKernel(), 0)
    assert list(records.ring(head, "item", "link")) == []


@pytest.mark.parametrize(("target", "words"), [(1, "runs in circles"), (None, "leads astray")])
def test_a_ring_that_does_not_come_back_ends(target: int | None, words: str) -> None:
    kernel = TinyKernel()
    records, head, items = ring_of(kernel, 5)
    kernel.put64(items[3] + 8, 0xDEAD_0000 if target is None else items[target] + 8)
    found = []
    with pytest.raises(BrokenList, match=words):
        for record in records.ring(head, "item", "link"):
            found.append(record["number"])
    assert found[:4] == [0, 1, 2, 3]


# -- the log


class Log:
    """A printk ring buffer of RECORDS records and BYTES bytes of text."""

    def __init__(self, kernel: TinyKernel) -> None:
        self.kernel = kernel
        types = BtfBuilder()
        counter = types.structure("counter", 8, [("counter", types.u64, 0)])
        place = types.structure("place", 16, [("begin", types.u64, 0), ("next", types.u64, 8)])
        types.structure("prb_desc", 24, [("state_var", counter, 0), ("text_blk_lpos", place, 8)])
        types.structure("printk_info", 24, [
            ("seq", types.u64, (0, 64)), ("ts_nsec", types.u64, (64, 64)), ("text_len", types.u16, (128, 16)),
            ("level", types.u8, (157, 3)),
        ])  # fmt: skip
        descs = types.structure("descs", 40, [
            ("count_bits", types.u32, 0), ("descs", types.pointer, 8), ("infos", types.pointer, 16), ("head_id", counter, 24),
            ("tail_id", counter, 32),
        ])  # fmt: skip
        data = types.structure("data", 16, [("size_bits", types.u32, 0), ("data", types.pointer, 8)])
        types.structure("printk_ringbuffer", 56, [("desc_ring", descs, 0), ("text_data_ring", data, 40)])
        self.records = Records(kernel.space, Btf(types.build()))
        self.descs, self.infos, self.data = (kernel.take(size) for size in (24 * RECORDS, 24 * RECORDS, BYTES))
        self.ring, self.pointer = kernel.take(56), kernel.take(8)
        kernel.put64(self.pointer, self.ring)
        self.bounds(0, 0)

    def bounds(self, tail: int, head: int, count_bits: int = 2) -> None:
        self.kernel.put(self.ring, struct.pack(
            "<QQQQQQQ", count_bits, self.descs, self.infos, head, tail, BYTES.bit_length() - 1, self.data,
        ))  # fmt: skip

    def record(self, number: int, begin: int, end: int, text: bytes, state: int = FINALIZED) -> None:
        at = number % RECORDS
        self.kernel.put(self.descs + 24 * at, struct.pack("<QQQ", state | number, begin, end))
        self.kernel.put(self.infos + 24 * at, struct.pack("<QQHBBI", number, 1000 * number, len(text), 0, 6 << 5, 0))
        if not begin & 1:
            start = 0 if begin // BYTES != end // BYTES and end % BYTES else begin % BYTES
            self.kernel.put(self.data + start, struct.pack("<Q", number) + text)

    def read(self) -> list[LogLine]:
        listing = read_log(self.records, names({"prb": self.pointer}))
        assert listing.problem == ""
        return list(listing.items)


def test_records_are_read_from_the_oldest_to_the_newest_around_the_end_of_the_ring() -> None:
    log = Log(TinyKernel())
    for number in range(3, 7):
        log.record(number, 32 * number, 32 * number + 32, f"record {number}".encode())
    log.bounds(3, 6)
    assert log.read() == [LogLine(f"record {number}", number, 1000 * number, 6) for number in range(3, 7)]


def test_a_text_that_did_not_fit_at_the_end_is_at_the_beginning() -> None:
    log = Log(TinyKernel())
    log.record(0, BYTES - 16, BYTES + 32, b"wrapped around")
    assert [line.text for line in log.read()] == ["wrapped around"]


def test_a_text_that_ends_with_the_ring_is_not_wrapped() -> None:
    log = Log(TinyKernel())
    log.record(0, BYTES - 32, BYTES, b"up to the last byte")
    assert [line.text for line in log.read()] == ["up to the last byte"]


def test_a_record_of_several_lines_is_several_lines() -> None:
    log = Log(TinyKernel())
    log.record(0, 0, 32, b"one\ntwo\tthree")
    assert [(line.text, line.sequence) for line in log.read()] == [("one", 0), ("two\tthree", 0)]


def test_a_record_that_is_being_written_or_was_reused_is_left_out() -> None:
    log = Log(TinyKernel())
    log.record(0, 0, 32, b"whole")
    log.record(1, 32, 64, b"half", state=0)
    log.record(2, 64, 96, b"reusable", state=3 << 62)
    log.record(3, 1, 1, b"")
    log.bounds(0, 3)
    assert [line.text for line in log.read()] == ["whole", ""]


def test_what_would_disturb_a_terminal_is_escaped() -> None:
    log = Log(TinyKernel())
    log.record(0, 0, 32, b"\x1b[2J\xff ok")
    assert [line.text for line in log.read()] == ["\\x1b[2J\\xff ok"]


def test_a_ring_that_cannot_be_is_refused() -> None:
    log = Log(TinyKernel())
    for tail, head, bits in ((0, RECORDS, 2), (5, 4, 2), (0, 0, 40)):
        log.bounds(tail, head, bits)
        with pytest.raises(GuestOsError, match="damaged"):
            log.read()


def test_a_ring_whose_text_is_elsewhere_gives_what_can_be_read() -> None:
    kernel = TinyKernel()
    log = Log(kernel)
    log.record(0, 0, 32, b"first")
    log.data = 0x1234_5000
    log.bounds(0, 0)
    listing = read_log(log.records, names({"prb": log.pointer}))
    assert "damaged" in listing.problem


# -- mapped areas


class Process:
    """A task whose areas are in a maple tree of nodes that the test makes."""

    def __init__(self, kernel: TinyKernel, old: bool = False) -> None:
        self.kernel = kernel
        types = BtfBuilder()
        for name, pivots, slots in (("maple_range_64", 15, 16), ("maple_arange_64", 9, 10)):
            arrays = types.array(types.u64, pivots), types.array(types.u64, slots)
            types.structure(name, 256, [("pivot", arrays[0], 8), ("slot", arrays[1], 8 + 8 * pivots)])
        tree = types.structure("maple_tree", 16, [("ma_root", types.pointer, 8)])
        types.structure("task_struct", 8, [("mm", types.pointer, 0)])
        types.structure("mm_struct", 48, [
            ("mmap", types.pointer, 0) if old else ("mm_mt", tree, 0), ("start_brk", types.u64, 16), ("brk", types.u64, 24),
            ("start_stack", types.u64, 32),
        ])  # fmt: skip
        types.structure("vm_area_struct", 64, [
            ("vm_start", types.u64, 0), ("vm_end", types.u64, 8), ("vm_flags", types.u64, 16), ("vm_file", types.pointer, 24),
            ("vm_pgoff", types.u64, 32), ("vm_ops", types.pointer, 40), ("vm_next", types.pointer, 48),
        ])  # fmt: skip
        self.records = Records(kernel.space, Btf(types.build()))
        self.mm = kernel.place(struct.pack("<QQQQQQ", 0, 0, 0x60_0000, 0x62_0000, 0x7FFF_0000, 0))
        self.task = kernel.place(struct.pack("<Q", self.mm))

    def vma(self, start: int, end: int, flags: int = 3, following: int = 0) -> int:
        return self.kernel.place(struct.pack("<QQQQQQQQ", start, end, flags, 0, 0, 0, following, 0))

    def node(self, kind: int, slots: list[tuple[int, int]]) -> int:
        """An encoded node; slots are (entry, last index), the last one's 0 where the node ends."""
        wide = 9 if kind == 3 else 15
        pivots = [last for _, last in slots][:wide]
        data = struct.pack(f"<Q{wide}Q", 0, *pivots, *[0] * (wide - len(pivots)))
        data += struct.pack(f"<{len(slots)}Q", *(entry for entry, _ in slots))
        return self.kernel.place(data.ljust(256, b"\0"), 256) | kind << 3 | 2

    def areas(self) -> tuple[list[tuple[int, int, str, str]], str]:
        listing = read_areas(self.records, names({"x": 1 << 63}), self.task)
        return [(area.start, area.end, area.rights, area.file) for area in listing.items], listing.problem


def test_areas_are_read_out_of_a_tree_of_two_levels_in_order() -> None:
    process = Process(TinyKernel())
    text, heap = process.vma(0x1000, 0x2000, 5), process.vma(0x60_0000, 0x61_0000)
    low = process.node(1, [(0, 0xFFF), (text, 0x1FFF), (0, 0x5F_FFFF), (heap, 0x60_FFFF)])
    high = process.node(1, [(0, 0x7FFE_FFFF), (process.vma(0x7FFF_0000, 0x8000_0000, 0xB), 0x7FFF_FFFF), (0, 0)])
    process.kernel.put64(process.mm + 8, process.node(3, [(low, 0x60_FFFF), (high, 0)]))
    assert process.areas() == (
        [
            (0x1000, 0x2000, "r-xp", ""), (0x60_0000, 0x61_0000, "rw-p", "[heap]"),
            (0x7FFF_0000, 0x8000_0000, "rw-s", "[stack]"),
        ],
        "",
    )  # fmt: skip


def test_a_tree_of_a_single_area_has_no_node() -> None:
    process = Process(TinyKernel())
    process.kernel.put64(process.mm + 8, process.vma(0x1000, 0x2000))
    assert process.areas() == ([(0x1000, 0x2000, "rw-p", "")], "")


def test_older_kernels_have_a_list() -> None:
    process = Process(TinyKernel(), old=True)
    second = process.vma(0x3000, 0x4000)
    process.kernel.put64(process.mm, process.vma(0x1000, 0x2000, following=second))
    assert [area[0] for area in process.areas()[0]] == [0x1000, 0x3000]
    process.kernel.put64(second + 48, second)
    assert "in circles" in process.areas()[1]


def test_a_tree_that_leads_into_itself_or_nowhere_ends() -> None:
    process = Process(TinyKernel())
    leaf = process.node(1, [(process.vma(0x1000, 0x2000), 0x1FFF), (0, 0)])
    top = process.node(3, [(leaf, 0x1FFF), (leaf, 0)])
    process.kernel.put64(process.mm + 8, top)
    assert "in circles" in process.areas()[1]
    process.kernel.put64(process.mm + 8, 0xDEAD_0000_0012)
    assert "not mapped" in process.areas()[1]
    process.kernel.put64(process.mm + 8, top & ~0xFF | 9 << 3 | 2)
    assert "of a kind that there is not" in process.areas()[1]


def test_a_kernel_thread_has_no_areas() -> None:
    process = Process(TinyKernel())
    process.kernel.put64(process.task, 0)
    assert process.areas() == ([], "")


# -- system calls


def test_system_calls_are_named_by_what_the_table_points_to() -> None:
    kernel = TinyKernel()
    table = kernel.take(32)
    functions = {"__x64_sys_read": table + 64, "__x64_sys_ni_syscall": table + 80}
    known = names({"sys_call_table": table, "end": table + 32, **functions})
    kernel.put(table, struct.pack("<QQQQ", table + 64, table + 80, table + 64, table + 80))
    assert syscall_names(known, kernel.space) == {0: "read", 2: "read"}
    kernel.put64(table + 8, table + 65)
    with pytest.raises(GuestOsError, match="number 1 leads to"):
        syscall_names(known, kernel.space)
