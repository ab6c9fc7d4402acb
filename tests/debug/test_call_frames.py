"""Call frame information and its expressions, compared with readelf and with what the expressions' standard says."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from elftools.dwarf.dwarf_expr import DWARFExprParser
from elftools.dwarf.structs import DWARFStructs

from dbgvmm import Machine
from dbgvmm.debug.symbols import load_symbols
from dbgvmm.debug.symbols.call_frames import Expression
from dbgvmm.debug.unwind import Registers, StackMemory, Unreadable, UnwindEnd
from dbgvmm.debug.unwind.expressions import evaluate

LIT, BREG, PLUS, MINUS, AND, SHL, GE, DEREF = 0x30, 0x70, 0x22, 0x1C, 0x1A, 0x24, 0x2A, 0x06
DUP, DROP, SWAP, ROT, OVER, SKIP, BRA, NEG, SHRA, CONST1S = 0x12, 0x13, 0x16, 0x17, 0x14, 0x2F, 0x28, 0x1F, 0x26, 0x09


@pytest.fixture
def value(booted: Callable[..., Machine]) -> Callable[..., int]:
    """`value(0x35, 0x36, 0x22)`: what those bytes leave, with RSP = 1000h, RBP = 2000h, RIP = 40101ah."""
    machine = booted("hello")
    machine.ram.write(0x3000, (0x1234_5678_9ABC_DEF0).to_bytes(8, "little"))
    parser = DWARFExprParser(DWARFStructs(little_endian=True, dwarf_format=32, address_size=8))
    frame = Registers(0x40101A, {7: 0x1000, 6: 0x2000}, True, False)
    stack = StackMemory(machine.memory, machine.ram.u64)

    def run(*code: int, initial: tuple[int, ...] = ()) -> int:
        expression = Expression(tuple(parser.parse_expr(bytes(code))), len(code))
        return evaluate(expression, frame, stack, initial)

    return run


@pytest.mark.parametrize(
    ("code", "result"),
    [
        ((BREG + 7, 8), 0x1008),
        ((BREG + 6, 0x78), 0x1FF8),
        ((LIT + 5, LIT + 3, MINUS), 2),
        ((LIT + 3, LIT + 5, MINUS), (1 << 64) - 2),
        ((LIT + 1, LIT + 2, SWAP, DROP), 2),
        ((LIT + 1, LIT + 2, OVER, PLUS), 3),
        ((LIT + 1, LIT + 2, LIT + 3, ROT, DROP, MINUS), 2),
        ((LIT + 1, SKIP, 1, 0, LIT + 2, DUP, PLUS), 2),
        ((LIT + 7, LIT + 0, BRA, 2, 0, LIT + 1, PLUS), 8),
        ((LIT + 7, LIT + 1, BRA, 2, 0, LIT + 1, PLUS), 7),
        ((CONST1S, 0x80, LIT + 4, SHRA), (1 << 64) - 8),
        ((CONST1S, 0x80, NEG), 128),
        ((LIT + 3, LIT + 12, SHL, DEREF), 0x1234_5678_9ABC_DEF0),
        # What the linker writes for a PLT: RSP + 8 + ((RIP & 15) >= 11) << 3
        ((BREG + 7, 8, BREG + 16, 0, LIT + 15, AND, LIT + 10, GE, LIT + 3, SHL, PLUS), 0x1010),
        ((BREG + 7, 8, BREG + 16, 0, LIT + 15, AND, LIT + 11, GE, LIT + 3, SHL, PLUS), 0x1008),
    ],
)
def test_expressions_compute_what_the_standard_says(value: Callable[..., int], code: tuple[int, ...], result: int) -> None:
    assert value(*code) == result


def test_an_expression_may_begin_with_the_cfa_on_its_stack(value: Callable[..., int]) -> None:
    assert value(LIT + 8, MINUS, initial=(0x5000,)) == 0x4FF8


@pytest.mark.parametrize("code", [(PLUS,), (), (BREG + 3, 0), (0xE1,), (0x91, 0), (SKIP, 1, 0), (SKIP, 0x70, 0)])
def test_expressions_without_sense_are_an_end(value: Callable[..., int], code: tuple[int, ...]) -> None:
    with pytest.raises((UnwindEnd, KeyError)):
        value(*code)


def test_an_endless_expression_comes_to_an_end(value: Callable[..., int]) -> None:
    with pytest.raises(UnwindEnd, match="does not come to an end"):
        value(SKIP, 0xFD, 0xFF)
    with pytest.raises(UnwindEnd, match="does not come to an end"):
        value(LIT + 1, DUP, SKIP, 0xFC, 0xFF)


def test_memory_that_is_not_there_is_unreadable(value: Callable[..., int]) -> None:
    with pytest.raises(Unreadable):
        value(LIT + 1, LIT + 30, SHL, DEREF)


def test_rows_are_those_of_readelf(guest: Callable[[str], Path]) -> None:
    path = guest("frames").with_suffix(".elf64")
    frames = load_symbols(path).call_frames
    assert frames is not None
    command = ["readelf", "--debug-dump=frames-interp", "-W", path]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    compared = 0
    for match in re.finditer(r"^([0-9a-f]{16}) (rsp|rbp|r10)([+-]\d+)", text, re.MULTILINE):
        address, register, offset = int(match[1], 16), {"rsp": 7, "rbp": 6, "r10": 10}[match[2]], int(match[3])
        row = frames.row(address)
        if address == 0:
            continue  # a CIE's
        assert row is not None, match[0]
        assert (row.start, row.cfa) == (address, (register, offset)), match[0]
        compared += 1
    assert compared > 100
