"""Registers, segments, memory and devices as commands show and change them."""

from __future__ import annotations

import pytest

from dbgvmm.commands import CommandError, CommandTable, Session
from dbgvmm.commands.memory import peek, translate, x
from dbgvmm.commands.parameters import Address, Count, Format
from dbgvmm.commands.registers import info_registers
from dbgvmm.commands.time import info_time
from dbgvmm.debug.registers import read_register


@pytest.fixture
def in_kmain(hello: Session, table: CommandTable) -> Session:
    """The guest `hello` in long mode, in front of kmain."""
    table.execute(hello, "until kmain")
    return hello


def test_info_registers_gives_values_to_scripts_and_words_to_people(in_kmain: Session) -> None:
    registers = info_registers(in_kmain)
    assert registers.values["rdi"] == 0x2BADB002
    assert registers.mode == "long64"
    assert "rdi 000000002badb002" in str(registers)
    assert "<kmain>" in str(registers)


def test_info_control_names_the_bits(in_kmain: Session, table: CommandTable) -> None:
    text = str(table.execute(in_kmain, "info control"))
    assert "PE MP ET NE WP PG" in text
    assert "LME LMA" in text


def test_set_register_sets_what_the_cpu_would_take(in_kmain: Session, table: CommandTable) -> None:
    table.execute(in_kmain, "set rax -1")
    table.execute(in_kmain, "set $xmm3 0x55")
    assert read_register(in_kmain.machine, "rax") == (1 << 64) - 1
    assert read_register(in_kmain.machine, "xmm3") == 0x55
    with pytest.raises(CommandError, match="cr0 cannot be 0x0"):
        table.execute(in_kmain, "set cr0 0")
    with pytest.raises(CommandError, match="'foo' is no number, register"):
        table.execute(in_kmain, "set foo 0")


def test_info_gdt_and_segments_show_the_guests_code_segment(in_kmain: Session, table: CommandTable) -> None:
    assert "0008" in str(table.execute(in_kmain, "info gdt"))
    assert "CPL 0, long64" in str(table.execute(in_kmain, "info segments"))


def test_info_msrs_shows_efer_and_counts_no_try_of_the_guests(in_kmain: Session, table: CommandTable) -> None:
    assert "c0000080  0x500" in str(table.execute(in_kmain, "info msrs"))
    assert str(table.execute(in_kmain, "info unknown-msrs")) == "the guest used no unknown MSR"
    in_kmain.machine.msrs.unknown_msrs[0x1234] = 3
    assert "00001234  0x3" in str(table.execute(in_kmain, "info unknown-msrs"))


def test_x_shows_memory_in_the_format_asked_for(hello: Session) -> None:
    hello.machine.memory.poke(0x5000, bytes(range(16)))
    units = x(hello, Format("2xg"), Address(0x5000))
    assert str(units) == "0x5000:  0x0706050403020100  0x0f0e0d0c0b0a0908"
    assert "0x5010:" in str(x(hello, Format("")))
    assert str(x(hello, Format("2db"), Address(0x5001))).split() == ["0x5001:", "1", "2"]


def test_x_shows_strings_instructions_and_symbols(hello: Session) -> None:
    hello.machine.memory.poke(0x5000, b"one\0two\0")
    assert str(x(hello, Format("2s"), Address(0x5000))).split() == ["0x5000:", '"one"', "0x5004:", '"two"']
    symbol = hello.symbols.find("kmain")
    assert symbol is not None
    hello.machine.memory.poke(0x5000, symbol.address.to_bytes(8, "little"))
    assert "<kmain>" in str(x(hello, Format("a"), Address(0x5000)))
    assert "<boot_entry32>:" in str(x(hello, Format("1i"), Address(hello.machine.cpu.rip)))


@pytest.mark.parametrize("fmt", ["0x", "4q", "x4"])
def test_x_refuses_what_is_no_format(hello: Session, fmt: str) -> None:
    with pytest.raises(CommandError):
        x(hello, Format(fmt), Address(0x5000))


def test_x_of_an_unmapped_address_says_why(in_kmain: Session, table: CommandTable) -> None:
    with pytest.raises(CommandError, match="PDPTE not present"):
        table.execute(in_kmain, "x/xg 0x1000000000")


def test_poke_writes_and_peek_reads(hello: Session, table: CommandTable) -> None:
    assert "4 bytes" in str(table.execute(hello, "poke/h 0x5000 0x4241 0x4443"))
    assert peek(hello, Address(0x5000), Count(4)).data == b"ABCD"
    assert "ABCD" in str(peek(hello, Address(0x5000)))
    table.execute(hello, "poke-physical/b 0x5000 -1")
    assert hello.machine.ram.read(0x5000, 2) == b"\xffB"
    assert "0xff42" not in str(table.execute(hello, "xp/1xh 0x5000"))
    with pytest.raises(CommandError, match="does not fit"):
        table.execute(hello, "poke/b 0x5000 0x100")
    with pytest.raises(CommandError, match="outside RAM"):
        table.execute(hello, "poke-physical 0x2000000 1")


def test_a_poke_into_translated_code_takes_effect(in_kmain: Session, table: CommandTable) -> None:
    table.execute(in_kmain, "stepi")
    code = in_kmain.machine.memory.peek(in_kmain.machine.cpu.rip, 1)
    table.execute(in_kmain, "poke/b rip 0x90")
    table.execute(in_kmain, "poke/h rip+1 0x9090")
    before = in_kmain.machine.cpu.rip
    table.execute(in_kmain, "stepi 3")
    assert code != b"\x90"
    assert in_kmain.machine.cpu.rip == before + 3


def test_translate_shows_every_level_and_the_physical_address(in_kmain: Session) -> None:
    report = translate(in_kmain, Address(in_kmain.machine.cpu.rip))
    assert [level.name for level in report.levels] == ["PML4E", "PDPTE", "PDE"]
    assert report.gpa == in_kmain.machine.cpu.rip
    assert "a page of 2 MiB" in str(report)
    assert "not mapped: PDPTE not present" in str(translate(in_kmain, Address(0x10_0000_0000)))


def test_translate_without_paging_is_the_identity(hello: Session) -> None:
    assert "paging is off" in str(translate(hello, Address(0x1000)))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("info pic", ("master", "08h", "11111000")),
        ("info pit", ("square wave", "18.21 Hz")),
        ("info uart", ("9600 baud", "FIFOs")),
        ("info rtc", ("2023-11-14", "UTC")),
        ("info time", ("PIT counter 0",)),
        ("info fpu", ("st0", "xmm15", "mxcsr")),
        ("print 0x10+1", ("0x11", "17")),
        ("disassemble", ("=>", "cli")),
        ("help x", ("repeat count",)),
        ("help", ("continue", "tc list")),
    ],
)
def test_a_command_shows_its_subject(hello: Session, table: CommandTable, line: str, words: tuple[str, ...]) -> None:
    text = str(table.execute(hello, line))
    assert all(word in text for word in words)


def test_info_time_is_a_function_of_the_count(in_kmain: Session) -> None:
    time = info_time(in_kmain)
    assert time.now_ns == int(time.count * in_kmain.machine.clock.ns_per_insn)
