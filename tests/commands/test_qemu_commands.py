"""Commands that QEMU has too, at the edges that no guest of ours has."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dbgvmm.commands import CommandError, CommandTable, Session
from dbgvmm.commands.monitor import Monitor
from dbgvmm.commands.output import Lines, pieces
from dbgvmm.debug.stops import Stop, StopKind
from dbgvmm.hardware.memory import PhysicalMemory
from dbgvmm.hardware.paging import PTE
from dbgvmm.mmu.mappings import mappings
from dbgvmm.version import VERSION

NO_APIC = "this CPU has no local APIC (CPUID says so to the guest): interrupts come from two 8259, see `info pic`"
TABLE = PTE.P | PTE.W | PTE.U


@pytest.fixture
def ram() -> Iterator[PhysicalMemory]:
    yield PhysicalMemory(1 << 20)


def test_a_table_that_maps_itself_is_seen_as_the_pages_that_it_makes(ram: PhysicalMemory) -> None:
    ram.u64[0x1000 // 8 + 511] = 0x1000 | TABLE
    (found,) = mappings(ram, 0x1000, 0)
    assert (found.va, found.gpa, found.size) == (0xFFFF_FFFF_FFFF_F000, 0x1000, 4096)


def test_entries_that_fault_and_tables_outside_ram_map_nothing(ram: PhysicalMemory) -> None:
    ram.u64[0x1000 // 8] = 1 << 30 | TABLE
    ram.u64[0x1000 // 8 + 1] = 0x2000 | TABLE | PTE.NX
    ram.u64[0x1000 // 8 + 2] = 0x2000 | TABLE | PTE.PS
    assert list(mappings(ram, 0x1000, PTE.NX)) == []


def test_rights_are_those_of_all_levels(ram: PhysicalMemory) -> None:
    ram.u64[0x1000 // 8] = 0x2000 | TABLE
    ram.u64[0x2000 // 8] = 0x4000_0000 | PTE.P | PTE.PS | PTE.U
    (found,) = mappings(ram, 0x1000, 0)
    assert (found.size, found.gpa, found.rights & (PTE.W | PTE.U)) == (1 << 30, 0x4000_0000, PTE.U)


def test_the_last_pages_end_is_written_as_qemu_writes_it(hello: Session, table: CommandTable) -> None:
    table.execute(hello, "until kmain")
    machine = hello.machine
    for gpa, entry in ((0x200000, 0x201000), (0x201FF8, 0x202000), (0x202FF8, 0x203000), (0x203FF8, 0x204000)):
        machine.ram.u64[gpa // 8] = entry | TABLE
    machine.ram.u64[0x200FF8 // 8] = 0x201000 | TABLE
    machine.cpu.cr3 = 0x200000
    assert str(table.execute(hello, "info mem")).endswith("fffffffffffff000-0001000000000000 0000000000001000 urw")


def test_long_output_goes_out_in_pieces_before_it_is_whole() -> None:
    made: list[int] = []

    def lines() -> Iterator[str]:
        for number in range(1000):
            made.append(number)
            yield str(number)

    first = next(pieces(Lines(lines)))
    assert first.startswith("0\n1\n")
    assert len(made) < 1000


def test_a_monitor_shows_all_but_the_last_piece_at_once(hello: Session, table: CommandTable) -> None:
    table.execute(hello, "until kmain")
    shown: list[str] = []
    rest = Monitor(hello, table)("info tlb", shown.append)
    whole = str(table.execute(hello, "info tlb"))
    assert len(shown) > 1
    assert "".join(shown) + rest == whole


@pytest.mark.parametrize(
    ("line", "shown"), [("print/x 255", "0xff"), ("print /d -1", "-1"), ("print/u -1", str(2**64 - 1)), ("print/t 5", "101")]
)
def test_print_takes_a_format(hello: Session, table: CommandTable, line: str, shown: str) -> None:
    assert str(table.execute(hello, line)) == f"$1 = {shown}"
    hello.as_qemu = True
    assert str(table.execute(hello, line)) == shown


def test_a_format_that_print_has_not_is_named(hello: Session, table: CommandTable) -> None:
    with pytest.raises(CommandError, match="'s' is no format"):
        table.execute(hello, "print/s 5")


def test_at_the_prompt_registers_are_for_people(hello: Session, table: CommandTable) -> None:
    assert "protected32, CPL 0" in str(table.execute(hello, "info registers"))


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("info status", "VM status: paused (prelaunch)"),
        ("info cpus", "* CPU #0: pc=0x000000000010000c"),
        ("info irq", "IRQ statistics for i8259:\n all: 0"),
        ("info version", f"dbgvmm {VERSION}"),
        ("gva2gpa 0x100000", "gpa: 0x100000"),
        (
            "info mtree",
            "FlatView #0\n AS \"memory\", root: system\n Root memory region: system\n"
            "  0000000000000000-0000000001ffffff (prio 0, ram): ram",
        ),
        ("info lapic", NO_APIC),
    ],
)  # fmt: skip
def test_what_qemus_users_parse_has_its_form(hello: Session, table: CommandTable, line: str, shown: str) -> None:
    assert str(table.execute(hello, line)) == shown


def test_what_they_parse_is_data_too(hello: Session, table: CommandTable) -> None:
    shown = {line: table.execute(hello, f"info {line} --json").data for line in ("status", "cpus", "irq", "mtree")}
    assert shown == {
        "status": {"status": "paused", "reason": "prelaunch"},
        "cpus": {"cpus": [{"index": 0, "pc": 0x10000C, "halted": False}]},
        "irq": {"taken": 0},
        "mtree": {"regions": [{"base": 0, "size": 32 << 20, "kind": "ram", "name": "ram"}]},
    }


def test_a_halted_guest_is_paused_and_one_that_has_left_is_shut_down(hello: Session, table: CommandTable) -> None:
    table.execute(hello, "continue")
    assert str(table.execute(hello, "info status")) == "VM status: paused (halted with interrupts off)"
    assert str(table.execute(hello, "info cpus")).endswith(" (halted)")
    hello.machine.last_stop = Stop(StopKind.EXIT, "the guest left with code 3", exit_code=3)
    assert str(table.execute(hello, "info status")) == "VM status: shutdown (the guest left with code 3)"
