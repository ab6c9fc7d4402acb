"""gdb's fields become values; without gdb. The records are such as gdb 13 sends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pygdbmi.gdbmiparser import parse_response

from dbgvmm.gdb.channel import quoted
from dbgvmm.gdb.results import (
    Breakpoint,
    Frame,
    Reason,
    Stop,
    Watched,
    parse_breakpoint,
    parse_integer,
    parse_register,
    parse_stop,
)


def fields(line: str) -> Mapping[str, Any]:
    payload = parse_response(line)["payload"]
    assert isinstance(payload, dict)
    return payload


FRAME = (
    'frame={addr="0x0000000000106a8e",func="check_eq",args=[{name="got",value="3"},{name="name",value="0x10 \\"a, b\\""}],'
    'file="lib/check.c",fullname="/lib/check.c",line="25",arch="i386:x86-64"},thread-id="1",stopped-threads="all"'
)
HERE = Frame(0, 0x106A8E, "check_eq", "lib/check.c", 25, {"got": "3", "name": '0x10 "a, b"'})


def test_a_breakpoints_stop() -> None:
    stop = parse_stop(fields(f'*stopped,reason="breakpoint-hit",disp="keep",bkptno="12",{FRAME}'), "text")
    assert stop == Stop(Reason.BREAKPOINT, HERE, 12, output="text")
    assert stop.pc == 0x106A8E and not stop.ended


@pytest.mark.parametrize(
    ("reason", "key", "values", "seen"),
    [
        ("watchpoint-trigger", "wpt", 'old="0",new="1"', ("0", "1")),
        ("read-watchpoint-trigger", "hw-rwpt", 'value="7"', (None, "7")),
        ("access-watchpoint-trigger", "hw-awpt", 'old="1",new="2"', ("1", "2")),
        ("access-watchpoint-trigger", "hw-awpt", 'new="2"', (None, "2")),
    ],
)
def test_a_watchpoints_stop_has_its_values(
    reason: str, key: str, values: str, seen: tuple[str | None, str | None]
) -> None:
    stop = parse_stop(fields(f'*stopped,reason="{reason}",{key}={{number="2",exp="checks"}},value={{{values}}},{FRAME}'), "")
    assert (stop.reason, stop.breakpoint, stop.watched) == (Reason(reason), 2, Watched("checks", *seen))


def test_the_guests_exit_code_is_octal_in_gdbs_words() -> None:
    stop = parse_stop(fields('*stopped,reason="exited",exit-code="041"'), "")
    assert (stop.exit_code, stop.pc, stop.ended) == (33, None, True)
    assert parse_stop(fields('*stopped,reason="exited-normally"'), "").exit_code == 0


def test_an_interrupt_and_what_a_function_returned() -> None:
    signal = parse_stop(fields(f'*stopped,reason="signal-received",signal-name="SIGINT",signal-meaning="x",{FRAME}'), "")
    assert (signal.reason, signal.signal) == (Reason.SIGNAL, "SIGINT")
    finished = parse_stop(
        fields(f'*stopped,reason="function-finished",{FRAME},gdb-result-var="$1",return-value="5"'), ""
    )
    assert finished.returned == "5"


def test_a_reason_of_a_later_gdb_is_a_stop_all_the_same() -> None:
    assert parse_stop(fields(f'*stopped,reason="no-history",{FRAME}'), "").reason is Reason.OTHER


def test_of_several_reasons_the_first_counts() -> None:
    """pygdbmi makes a list of a key that is there twice."""
    stop = parse_stop(fields(f'*stopped,reason="breakpoint-hit",reason="end-stepping-range",bkptno="1",{FRAME}'), "")
    assert stop.reason is Reason.BREAKPOINT


def test_a_frame_reads_as_in_a_backtrace() -> None:
    assert str(HERE) == '#0 0x106a8e check_eq(got=3, name=0x10 "a, b") at lib/check.c:25'
    assert str(Frame(2, 0x10)) == "#2 0x10 ??()"


def test_a_breakpoint() -> None:
    line = (
        '^done,bkpt={number="1",type="hw breakpoint",disp="del",enabled="n",addr="0x0000000000106000",func="kmain",'
        'cond="magic == 1",times="3",original-location="kmain"}'
    )
    expected = Breakpoint(1, "hw breakpoint", 0x106000, "kmain", "kmain", "magic == 1", False, True, 3)
    assert parse_breakpoint(fields(line)["bkpt"]) == expected


def test_a_breakpoint_in_several_places_has_no_address() -> None:
    line = (
        '^done,bkpt={number="1",type="breakpoint",disp="keep",enabled="y",addr="<MULTIPLE>",times="0",'
        'original-location="f",locations=[{number="1.1",addr="0x1"},{number="1.2",addr="0x2"}]}'
    )
    assert parse_breakpoint(fields(line)["bkpt"]).address is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12), ("-3", -3), ("0x106000 <kmain>", 0x106000), ("97 'a'", 97), ("(void *) 0x10", 16),
        ("(const char *) 0x20 \"x\"", 32), ("(void (*)(int)) 0x106000 <f>", 0x106000), ("true", None), ("1.5", None),
        ("{1, 2}", None), ("<optimized out>", None), ("", None),
    ],
)  # fmt: skip
def test_integers_among_gdbs_values(text: str, value: int | None) -> None:
    if value is None:
        with pytest.raises(ValueError, match="is not an integer"):
            parse_integer(text)
    else:
        assert parse_integer(text) == value


def test_a_vector_register_is_all_its_bits() -> None:
    assert parse_register("{v4_float = {0x0, 0x0}, v2_int64 = {0x4d, 0x0}, uint128 = 0x4d}") == 77
    assert parse_register("0x46") == 0x46
    with pytest.raises(ValueError, match="is not an integer"):
        parse_register("{base = 0x0, limit = 0xffff}")


def test_an_argument_with_quotes_and_lines_stays_one_argument() -> None:
    assert quoted('print "a\\n"') == r'"print \"a\\n\""'
    assert quoted("a\nb\r\n") == r'"a\nb\r\n"'


@given(st.text(st.characters(blacklist_categories=("Cc", "Cs"))) | st.text(st.sampled_from('a\\"\n\r ,{}')))
def test_any_text_can_be_quoted(text: str) -> None:
    """Read as gdb would: the quotes of its input are those of its output."""
    assert parse_response("~" + quoted(text))["payload"] == text
