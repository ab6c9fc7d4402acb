"""Changing, searching and copying guest memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbgvmm.commands import CommandError, CommandTable, Session
from dbgvmm.commands.disassembly import disassemble
from dbgvmm.commands.monitor import Monitor
from dbgvmm.commands.parameters import PATH, Address, Count
from dbgvmm.debug.patches import NOPS, nops
from dbgvmm.debug.search import linear_pieces, search
from gdbstub import TargetError


def run(session: Session, table: CommandTable, *lines: str) -> str:
    return "\n".join(str(table.execute(session, line)) for line in lines)


@pytest.fixture
def sending(hello: Session, table: CommandTable) -> tuple[Session, int]:
    """In front of the `out` that sends the fifth character of "Hello from long mode."."""
    table.execute(hello, "until kmain")
    symbol = hello.symbols.find("print")
    assert symbol is not None
    lines = disassemble(hello, Address(symbol.address), Count(120)).lines
    out = next(line.address for line in lines if line.text == "out dx, al")
    table.execute(hello, f"break {out:#x} if $al == 'o'")
    table.execute(hello, "continue")
    return hello, out


def test_a_patch_of_code_that_is_running_takes_effect_and_can_be_undone(
    sending: tuple[Session, int], table: CommandTable
) -> None:
    session, out = sending
    assert run(session, table, f"patch {out:#x} nop").endswith(": ee -> 90")
    assert "ee   90" in run(session, table, "patch")
    run(session, table, "delete", f"break {out:#x} if $al == 'g'", "continue", "patch undo", "continue")
    assert session.machine.serial_log == b"Hellg mode.\r\n", "what was sent before the patch, and behind it"
    assert run(session, table, "patch").startswith("no patches")


def test_a_patch_is_bytes_or_text_or_nops(hello: Session, table: CommandTable) -> None:
    run(hello, table, "patch 0x5000 0f0b 90 0xcc", 'patch 0x5010 "a\\n" 00', "patch 0x5020 nop 11")
    peek = hello.machine.memory.peek
    assert peek(0x5000, 4).hex() == "0f0b90cc"
    assert peek(0x5010, 3) == b"a\n\0"
    assert peek(0x5020, 11) == NOPS[9] + NOPS[2]
    assert run(hello, table, "patch").count("\n") == 3


@pytest.mark.parametrize("length", range(1, 30))
def test_no_operations_are_as_long_as_asked_and_do_nothing_else(length: int) -> None:
    import iced_x86

    assert len(nops(length)) == length
    assert {one.mnemonic for one in iced_x86.Decoder(64, nops(length))} == {iced_x86.Mnemonic.NOP}


def test_patches_on_top_of_each_other_are_undone_in_order(hello: Session, table: CommandTable) -> None:
    run(hello, table, "patch 0x5000 aabbcc", "patch 0x5001 dd")
    with pytest.raises(CommandError, match="patch 2 is on top of patch 1"):
        run(hello, table, "patch undo 1")
    assert run(hello, table, "patch undo 1 2") == "2 patches undone"
    assert hello.machine.memory.peek(0x5000, 3) == b"\0\0\0"


def test_what_the_guest_has_written_over_a_patch_is_not_lost(hello: Session, table: CommandTable) -> None:
    run(hello, table, "patch 0x5000 aabb", "poke/b 0x5000 1")
    assert "not in place" in run(hello, table, "patch")
    with pytest.raises(CommandError, match="other bytes by now"):
        run(hello, table, "patch undo")
    run(hello, table, "poke/b 0x5000 0 0")
    assert run(hello, table, "patch undo") == "1 patch undone", "it was back already"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("patch 0x5000", "BYTES are missing"),
        ("patch 0x5000 5", "is no bytes"),
        ("patch 0x5000 xyz", "is no bytes"),
        ("patch 0x5000 nop 0", "is no number of bytes"),
        ("patch 0xfffff000 90", "not RAM"),
        ("patch undo", "there are no patches"),
        ("patch undo 3", "there is no patch 3"),
        ("fill 0x1fff000 0x2000", "nothing was written"),
        ("fill 0 0x80000000", "more than"),
        ("fill 0 16 5", "how many bytes is 5"),
        ("fill 0x1ffffff 16 --phys", "outside RAM"),
        ("find 1", "write find START"),
        ("find 0, +0, 0x1", "leaves nothing to search"),
        ("find 0x10, 0x8, 0x1", "leaves nothing to search"),
        ("find 0, +16, 5", "how many bytes is 5"),
        ('find 0, +16, ""', "nothing to search for"),
        ("find/x 0, +16, 0x1", "no format of find"),
        ("find/b 0, +16, 0x100", "does not fit into 1 byte"),
        ("find 0, +0x4000000, 0x1 --phys", "outside RAM"),
        ("find 0, 0xffffffffffffffff, 0x1", "too many"),
        ("dump /nowhere/file 0 16", "No such file"),
        ("load /nowhere/file 0", "No such file"),
        ("load /proc/self/mem 0", ""),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(hello: Session, table: CommandTable, line: str, words: str) -> None:
    with pytest.raises(CommandError) as caught:
        table.execute(hello, line)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_memory_is_filled_with_a_pattern(hello: Session, table: CommandTable) -> None:
    run(hello, table, 'fill 0x5000 7 "abc"', "fill 0x6000 8 0xdead --phys", "fill 0x5002 2")
    assert hello.machine.memory.peek(0x5000, 8) == b"ab\0\0bca\0"
    assert hello.machine.memory.peek(0x6000, 10).hex() == "addeaddeaddeadde0000"


def test_find_finds_text_numbers_and_several_of_them(hello: Session, table: CommandTable) -> None:
    hello.machine.memory.poke(0x7FFE, b"needle\x34\x12needle\x35\x12")
    assert run(hello, table, 'find 0x7000, +0x2000, "needle"').splitlines() == ["0x7ffe", "0x8006", "2 found"]
    assert run(hello, table, 'find 0x7000, 0x9000, "needle", 0x1235') == "0x8006\n1 found"
    assert run(hello, table, 'find 0x7000, 0x9000, "needle", (u16)0x1234 --phys') == "0x7ffe\n1 found"
    assert run(hello, table, "find/h 0x7000, +0x2000, 4660") == "0x8004\n1 found"
    assert run(hello, table, "find 0x7000, 0x8005, 0x1235").endswith("not found")
    assert "and more: find/2" in run(hello, table, 'find/1 0x7000, +0x2000, "needle"')
    assert "= 0x7ffe " in run(hello, table, "print $_")
    assert "= 0x1 " in run(hello, table, "print $numfound")


def test_find_shows_where_by_symbol(hello: Session, table: CommandTable) -> None:
    kmain = hello.symbols.find("kmain")
    assert kmain is not None
    code = hello.machine.memory.peek(kmain.address, 8)
    rest = int.from_bytes(code[1:], "little") & 0xFFFF_FFFF
    found = run(hello, table, f"find 0x100000, +0x10000, {code[0]:#04x}, (u32){rest:#x}")
    assert f"{kmain.address:#x} <kmain>" in found


def test_a_search_goes_over_the_edges_of_pieces_but_not_over_holes() -> None:
    pieces = [(0, b"..ab"), (4, b"cab"), (7, b"c"), (100, b"c..ab"), (200, b"c")]
    assert list(search(iter(pieces), b"abc")) == [2, 5]
    assert list(search(iter([(0, b"aaaa"), (4, b"aa")]), b"aaa")) == [0, 1, 2, 3], "overlapping ones too"


def test_a_search_passes_over_what_is_not_mapped(hello: Session) -> None:
    memory = hello.machine.memory
    end = hello.machine.ram.size
    found = list(linear_pieces(memory, end - 0x1000, 0x3000))
    assert [(address, len(data)) for address, data in found] == [(end - 0x1000, 0x1000)]


def test_control_c_ends_a_search(hello: Session, table: CommandTable) -> None:
    hello.interrupted = True
    with pytest.raises(CommandError, match="interrupted"):
        run(hello, table, 'find 0, +0, "x" --phys')
    assert "found" in run(hello, table, 'find 0x5000, +16, "x"'), "and only that"


def test_memory_goes_to_a_file_and_back(hello: Session, table: CommandTable, tmp_path: Path) -> None:
    kept = tmp_path / "some bytes"
    assert run(hello, table, f"dump '{kept}' 0x100000 0x1234").startswith("4660 bytes copied from 0x100000")
    assert kept.read_bytes() == hello.machine.memory.peek(0x100000, 0x1234)
    run(hello, table, f"load '{kept}' 0x800000 --phys")
    assert hello.machine.ram.read(0x800000, 0x1234) == kept.read_bytes()


def test_no_half_of_a_dump_is_left(hello: Session, table: CommandTable, tmp_path: Path) -> None:
    end = hello.machine.ram.size
    with pytest.raises(CommandError, match="not RAM"):
        run(hello, table, f"dump {tmp_path}/half {end - 0x200000:#x} 0x400000")
    assert not (tmp_path / "half").exists()


def test_gdbs_user_cannot_touch_files_of_the_host(hello: Session, table: CommandTable, tmp_path: Path) -> None:
    monitor = Monitor(hello, table)
    x = tmp_path / "x"
    for line in (
        f"dump {x} 0 16", f"dump 0 0 16 --phys {x}", f"load {x} 0", f"source {x}", f"report {x}", f"sample save {x}.svg",
        f"timeline save {x}", f"counters save --callgrind {x}", f"counters save --drcov {x}", f"symbols add {x}",
        f"symbols add {x} --cr3 --offset", f"symbols add --directory {tmp_path}", f"symbols find --directory {tmp_path}",
        f"tc graph kmain --svg {x}", f"tc graph kmain --dot {x}",
    ):  # fmt: skip
        with pytest.raises(TargetError, match="works with files of the host"):
            monitor(line, lambda text: None)
    assert not list(tmp_path.iterdir())


def test_gdbs_user_has_the_same_commands_without_files(hello: Session, table: CommandTable) -> None:
    table.execute(hello, "continue")
    monitor = Monitor(hello, table)
    assert "units" in monitor("tc graph kmain", lambda text: None)
    with pytest.raises(TargetError, match="no ELF image is mapped"):
        monitor("symbols find", lambda text: None)


def test_files_of_the_host_are_paths(table: CommandTable) -> None:
    names = ("file", "path", "directory", "folder", "svg", "dot", "output")
    named_only = {"coverage"}  # looks for a name among those that it knows
    for item in table.commands:
        for parameter in (*item.parameters, *item.options.values()):
            if parameter.name in names and item.name not in named_only:
                assert parameter.type is PATH, item.name


def test_files_are_completed(hello: Session, table: CommandTable, tmp_path: Path) -> None:
    (tmp_path / "first.bin").write_text("")
    (tmp_path / "folder").mkdir()
    (tmp_path / ".hidden").write_text("")
    assert table.complete(hello, f"load {tmp_path}/f") == [f"{tmp_path}/first.bin", f"{tmp_path}/folder/"]
    assert table.complete(hello, f"load {tmp_path}/") == [f"{tmp_path}/first.bin", f"{tmp_path}/folder/"]
    assert table.complete(hello, f"load {tmp_path}/.h") == [f"{tmp_path}/.hidden"]
    assert table.complete(hello, f"load {tmp_path}/first.bin kmai") == ["kmain"]
