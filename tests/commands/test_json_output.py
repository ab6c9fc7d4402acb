"""What `--json` shows of a command's data."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import pytest

from dbgvmm.commands import CommandTable, Session
from dbgvmm.commands.json_output import as_json, plain
from dbgvmm.commands.output import Lines
from dbgvmm.debug.stops import StopKind


class Colour(Enum):
    RED = "red"


class Point(NamedTuple):
    x: int
    y: int


@dataclass(frozen=True)
class Inner:
    raw: bytes


@dataclass(frozen=True)
class Outer:
    inner: Inner
    many: tuple[Inner, ...]
    by_number: dict[int, Colour]

    def __str__(self) -> str:
        return "only for people"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (Outer(Inner(b"\x00\xff"), (Inner(b""),), {7: Colour.RED}),
         {"inner": {"raw": "00ff"}, "many": [{"raw": ""}], "by_number": {"7": "red"}}),
        (Point(1, 2), {"x": 1, "y": 2}),
        (StopKind.POWER_OFF, "power-off"),
        ({StopKind.HALT: 3}, {"halt": 3}),
        ((1 << 64) - 1, 18446744073709551615),
        ({3, 1}, [1, 3]),
        (Path("/a"), "/a"),
        (Fraction(1, 3), "1/3"),
        (True, True),
        (Lines(lambda: iter(("a", "b"))), ["a", "b"]),
        (Lines(lambda: iter(("a",)), lambda: [Point(0, 1)]), [{"x": 0, "y": 1}]),
    ],
)  # fmt: skip
def test_data_becomes_what_json_can_say(value: object, shown: object) -> None:
    assert plain(value) == shown


def test_what_is_no_data_is_refused() -> None:
    with pytest.raises(TypeError, match="no data"):
        plain(object())


def test_text_alone_says_that_it_went_well() -> None:
    assert as_json("3 breakpoints removed").data == {"ok": True, "text": "3 breakpoints removed"}
    assert as_json(None).data == {"ok": True}


def test_a_commands_json_has_all_its_fields_and_takes_its_arguments(hello: Session, table: CommandTable) -> None:
    shown = json.loads(str(table.execute(hello, "peek --json 0x100000 4")))
    assert shown == {"address": 0x100000, "data": "02b0ad1b"}
    stop = json.loads(str(table.execute(hello, "stepi 3 --json")))
    assert (stop["stop"]["kind"], stop["count"]) == ("step", 3)


def test_a_list_of_breakpoints_can_be_read_by_programs(hello: Session, table: CommandTable) -> None:
    table.execute(hello, "break kmain")
    table.execute(hello, "watch 0x5000 4 access")
    shown = json.loads(str(table.execute(hello, "info breakpoints --json")))
    kmain = hello.symbols.find("kmain")
    assert kmain is not None
    assert [line["address"] for line in shown["lines"]] == [kmain.address]
    watch = shown["watchpoints"][0]["watch"]
    assert (watch["start"], watch["length"], watch["reads"], watch["writes"]) == (0x5000, 4, True, True)
