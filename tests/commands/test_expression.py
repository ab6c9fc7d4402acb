"""Numbers and addresses as people type them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dbgvmm import Machine
from dbgvmm.commands import CommandError, Session
from dbgvmm.commands.expression import evaluate
from dbgvmm.cpu.bits import GPR

KMAIN = "kmain"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10", 10),
        ("0x10", 16),
        ("1_000", 1000),
        ("-1", (1 << 64) - 1),
        ("2+3-1", 4),
        ("10-(2+3)", 5),
        ("$rbx", 0x1234),
        ("rbx+0x10", 0x1244),
        ("$rip", 0x10000C),
        ("pc", 0x10000C),
    ],
)
def test_an_expression_has_its_value(hello: Session, text: str, value: int) -> None:
    hello.machine.cpu.gpr[GPR.RBX] = 0x1234
    assert evaluate(hello, text) == value


def test_a_symbol_is_its_address(hello: Session) -> None:
    symbol = hello.symbols.find(KMAIN)
    assert symbol is not None
    assert evaluate(hello, "kmain+4") == symbol.address + 4


def test_a_star_reads_memory(hello: Session) -> None:
    hello.machine.memory.poke(0x5000, (0x1122334455667788).to_bytes(8, "little"))
    assert evaluate(hello, "*0x5000") == 0x1122334455667788
    assert evaluate(hello, "*(0x4ff8+8)-8") == 0x1122334455667780


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("1+", "missing at the end"),
        ("(1", "')'"),
        ("1 2", "'2' was not expected"),
        ("ff", "begin with 0x"),
        ("12ab", "cannot be read"),
        ("$kmain", "no number, register or symbol"),
        ("a;b", "cannot be read"),
        ("*0xfffff000", "not RAM"),
        (")", "not expected"),
    ],
)
def test_what_is_no_expression_is_said_so(hello: Session, text: str, words: str) -> None:
    with pytest.raises(CommandError) as caught:
        evaluate(hello, text)
    assert words in str(caught.value)


def test_without_symbols_the_message_says_how_to_load_some(booted: Callable[[str], Machine]) -> None:
    with pytest.raises(CommandError, match="--symbols"):
        evaluate(Session(booted("hello")), KMAIN)
