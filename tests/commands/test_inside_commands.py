"""What only the monitor can show."""

from __future__ import annotations

import pytest

from dbgvmm.commands import CommandTable, Session
from dbgvmm.commands.disassembly import disassemble_tc
from dbgvmm.commands.exits import exits, info_callouts
from dbgvmm.commands.parameters import Address


@pytest.fixture
def ended(hello: Session, table: CommandTable) -> Session:
    """The guest `hello` after its last instruction."""
    table.execute(hello, "continue")
    return hello


def entry(session: Session) -> Address:
    symbol = session.symbols.find("kernel_entry")
    assert symbol is not None
    return Address(symbol.address)


def test_disassemble_tc_puts_the_translation_beside_the_guests_code(ended: Session) -> None:
    translation = disassemble_tc(ended, entry(ended))
    guest = [line.mnemonic for line, _ in translation.pairs]
    assert guest == ["mov", "mov", "mov", "xor", "call"]
    first, translated = translation.pairs[0]
    assert [line.text for line in translated] == [first.text]
    assert all(line.text == "int 0x20" for line in translation.stubs)
    text = str(translation)
    assert "sub qword ptr [budget], 5" in text
    assert "edge to" in text


def test_every_tc_byte_of_a_unit_is_shown_once(ended: Session) -> None:
    for unit in ended.machine.cache.units():
        translation = disassemble_tc(ended, Address(unit.guest_rip))
        lines = [line for _, lines in translation.pairs for line in lines] + list(translation.stubs)
        assert sum(len(line.code) for line in lines) == unit.tc_end - unit.tc_start
        assert len({line.address for line in lines}) == len(lines)


def test_info_callouts_and_exits_count(ended: Session) -> None:
    assert info_callouts(ended).counts["out"] > 20
    assert "exits" in str(exits(ended))
    assert "hlt" in str(info_callouts(ended))


def test_info_stats_has_every_counter(ended: Session, table: CommandTable) -> None:
    text = str(table.execute(ended, "info stats"))
    assert all(name in text for name in ended.machine.stats())


def test_info_exceptions_counts_by_vector(booted: object, table: CommandTable) -> None:
    session = Session(booted("selftest"))  # type: ignore[operator]  # a fixture that makes machines
    table.execute(session, "continue")
    text = str(table.execute(session, "info exceptions"))
    assert "#UD" in text
    assert "external interrupts" in text
