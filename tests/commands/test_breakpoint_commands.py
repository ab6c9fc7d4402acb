"""Conditions, counts and states of numbered breakpoints; jump and finish; what is displayed at each stop."""

from __future__ import annotations

import json

import pytest

from dbgvmm.commands import CommandError, CommandTable, Session
from dbgvmm.commands.disassembly import disassemble
from dbgvmm.commands.parameters import Address, Count
from dbgvmm.commands.run_control import StopReport
from dbgvmm.cpu.bits import GPR
from dbgvmm.debug.stops import StopKind

TEXT = "Hello from long mode.\r\n"


@pytest.fixture
def sending(hello: Session, table: CommandTable) -> tuple[Session, int]:
    """In kmain, and the address of the `out` that sends each character of TEXT."""
    table.execute(hello, "until kmain")
    symbol = hello.symbols.find("print")
    assert symbol is not None
    lines = disassemble(hello, Address(symbol.address), Count(120)).lines
    return hello, next(line.address for line in lines if line.text == "out dx, al")


def go(session: Session, table: CommandTable, line: str = "continue") -> StopReport:
    report = table.execute(session, line)
    assert isinstance(report, StopReport)
    return report


def al(session: Session) -> str:
    return chr(session.machine.cpu.gpr[GPR.RAX] & 0xFF)


def test_a_condition_stops_just_where_it_holds(sending: tuple[Session, int], table: CommandTable) -> None:
    session, out = sending
    line = str(table.execute(session, f"break {out:#x} if $al == 'l' || $al == 'm'"))
    assert line.endswith("if $al == 'l' || $al == 'm'")
    stops = []
    while go(session, table).stop.kind is StopKind.BREAKPOINT:
        stops.append(al(session))
    assert "".join(stops) == "".join(char for char in TEXT if char in "lm")


def test_a_condition_in_the_translation_changes_nothing(
    sending: tuple[Session, int], hello: Session, table: CommandTable
) -> None:
    session, out = sending
    table.execute(session, f"break {out:#x} if $al == 0xee && *$rsp == 0")
    data = json.loads(str(table.execute(session, "info breakpoints --json")))
    assert data["lines"][0]["compiled"] is True
    exits = session.machine.engine.exits
    assert go(session, table).count == 3569, "as without a breakpoint"
    with_condition = session.machine.engine.exits - exits
    table.execute(session, "restart")
    table.execute(session, "delete")
    table.execute(session, "until kmain")
    exits = session.machine.engine.exits
    go(session, table)
    assert with_condition <= session.machine.engine.exits - exits + 3, "no exit for each character"


def test_a_condition_that_cannot_be_compiled_is_asked_and_means_the_same(
    sending: tuple[Session, int], table: CommandTable
) -> None:
    session, out = sending
    table.execute(session, "set $letter = 'm'")
    table.execute(session, f"break {out:#x} if $al == $letter")
    assert not json.loads(str(table.execute(session, "info b --json")))["lines"][0]["compiled"]
    go(session, table)
    assert al(session) == "m"
    table.execute(session, "set $letter = 'd'")
    go(session, table)
    assert al(session) == "d", "the variable is asked each time"


def test_a_condition_without_a_value_stops_and_says_why(sending: tuple[Session, int], table: CommandTable) -> None:
    session, out = sending
    table.execute(session, f"break {out:#x} if *0xfffff000 == 1")
    assert "its condition has no value: 0xfffff000" in str(go(session, table))


@pytest.mark.parametrize("condition", ["frob == 1", "1 +", "$al = 1"])
def test_a_condition_that_cannot_be_read_is_refused(
    sending: tuple[Session, int], table: CommandTable, condition: str
) -> None:
    session, out = sending
    with pytest.raises(CommandError):
        table.execute(session, f"break {out:#x} if {condition}")
    assert str(table.execute(session, "info breakpoints")) == "no breakpoints"
    with pytest.raises(CommandError, match="begins with `if`"):
        table.execute(session, "break kmain when 1")


def test_a_temporary_breakpoint_stops_once(sending: tuple[Session, int], table: CommandTable) -> None:
    session, out = sending
    assert "temporary breakpoint 1" in str(table.execute(session, f"tbreak *{out:#x}"))
    assert go(session, table).number == 1
    assert str(table.execute(session, "info breakpoints")) == "no breakpoints"
    assert go(session, table).stop.kind is StopKind.HALT


def test_arrivals_are_ignored_and_counted(sending: tuple[Session, int], table: CommandTable) -> None:
    session, out = sending
    table.execute(session, f"break {out:#x}")
    table.execute(session, "ignore 1 6")
    go(session, table)
    assert al(session) == TEXT[6]
    assert "hit 7 times" in str(table.execute(session, "info breakpoints"))


def test_a_disabled_breakpoint_is_kept_and_does_not_stop(sending: tuple[Session, int], table: CommandTable) -> None:
    session, out = sending
    table.execute(session, f"break {out:#x} if $al == 'd'")
    table.execute(session, "break kernel_entry")
    assert str(table.execute(session, "disable 1")) == "1 breakpoint disabled"
    assert "if $al == 'd', disabled" in str(table.execute(session, "info breakpoints"))
    assert go(session, table, "until #3400").stop.kind is StopKind.STEP
    table.execute(session, "enable")
    go(session, table)
    assert al(session) == "d"
    table.execute(session, "delete 1")
    assert "kernel_entry" in str(table.execute(session, "info breakpoints"))


def test_watchpoints_and_catchpoints_are_disabled_too(hello: Session, table: CommandTable) -> None:
    table.execute(hello, "watch 0x5000 8")
    table.execute(hello, "catch mode")
    table.execute(hello, "disable")
    assert not len(hello.machine.watchpoints) and not len(hello.machine.catchpoints)
    assert str(table.execute(hello, "info b")).count("disabled") == 2
    table.execute(hello, "enable 1")
    assert len(hello.machine.watchpoints) == 1
    table.execute(hello, "delete")
    assert not len(hello.machine.watchpoints)


def test_a_condition_can_be_changed(sending: tuple[Session, int], table: CommandTable) -> None:
    session, out = sending
    table.execute(session, f"break {out:#x}")
    table.execute(session, "condition 1 $al == 'g'")
    go(session, table)
    assert al(session) == "g"
    table.execute(session, "condition 1")
    go(session, table)
    assert al(session) == " "


@pytest.mark.parametrize("line", ["ignore 9 1", "condition 9 1", "enable 9", "disable 9", "delete 9"])
def test_a_number_that_is_no_breakpoints_is_named(hello: Session, table: CommandTable, line: str) -> None:
    with pytest.raises(CommandError, match="there is no breakpoint 9"):
        table.execute(hello, line)


def test_a_physical_breakpoint_has_a_condition(sending: tuple[Session, int], table: CommandTable) -> None:
    session, out = sending
    table.execute(session, f"break {out:#x} if $al == 'g' --phys")
    assert go(session, table).number == 1
    assert al(session) == "g"


def test_a_condition_of_one_address_space_is_both(sending: tuple[Session, int], table: CommandTable) -> None:
    session, out = sending
    table.execute(session, f"break {out:#x} if $al == 'l' --cr3 0x103000")
    table.execute(session, f"break {out:#x} if $al == 'g' --cr3 $cr3")
    assert go(session, table).number == 2
    assert al(session) == "g"


def test_all_sessions_of_a_machine_have_the_same_numbers(hello: Session, table: CommandTable) -> None:
    other = Session(hello.machine)
    table.execute(hello, "break kmain")
    assert "breakpoint 2" in str(table.execute(other, "break kernel_entry"))
    assert str(table.execute(hello, "info breakpoints")) == str(table.execute(other, "info breakpoints"))
    table.execute(other, "delete 1")
    assert go(hello, table).number == 2


def test_finish_returns_to_the_caller(hello: Session, table: CommandTable) -> None:
    table.execute(hello, "until print")
    stack = hello.machine.cpu.gpr[GPR.RSP]
    back = int.from_bytes(hello.machine.memory.peek(stack, 8), "little")
    table.execute(hello, "stepi 10")
    report = go(hello, table, "finish")
    assert (report.rip, hello.machine.cpu.gpr[GPR.RSP]) == (back, stack + 8)


def test_finish_stops_at_a_breakpoint_on_the_way(sending: tuple[Session, int], table: CommandTable) -> None:
    session, out = sending
    table.execute(session, "until print")
    table.execute(session, f"break {out:#x} if $al == 'g'")
    assert go(session, table, "finish").number == 1


def test_jump_goes_on_elsewhere(hello: Session, table: CommandTable) -> None:
    table.execute(hello, "until kmain")
    table.execute(hello, "break halt_forever")
    count = hello.machine.count
    report = go(hello, table, "jump *halt_forever + 1 - 1")
    assert report.stop.kind is StopKind.HALT, "what it jumps to is not stopped at"
    assert report.count < count + 10


def test_what_is_displayed_is_shown_at_each_stop(hello: Session, table: CommandTable) -> None:
    table.execute(hello, "display $rip")
    table.execute(hello, "display/i $pc")
    table.execute(hello, "display/2xb $rip")
    with pytest.raises(CommandError, match="frob"):
        table.execute(hello, "display frob")
    report = go(hello, table, "until kmain")
    first, second, third = report.displayed
    assert str(first).startswith("1: $rip = 0x106000")
    assert "push rbp" in str(second)
    assert str(third) == "3: /2xb $rip\n0x106000:  0x55  0x48"
    assert "2: /i $pc" in str(report)
    table.execute(hello, "undisplay 2")
    assert [one.number for one in go(hello, table, "stepi").displayed] == [1, 3]
    table.execute(hello, "undisplay")
    assert go(hello, table, "stepi").displayed == ()


def test_a_display_that_has_no_value_now_says_so_and_stays(hello: Session, table: CommandTable) -> None:
    table.execute(hello, "set $p = 0x5000")
    table.execute(hello, "display u8[$p]")
    table.execute(hello, "set $p = 0xfffff000")
    assert "is not RAM" in str(go(hello, table, "stepi").displayed[0])


def test_displaying_memory_does_not_change_what_x_goes_on_with(hello: Session, table: CommandTable) -> None:
    table.execute(hello, "display/2xb 0x5000")
    table.execute(hello, "x/2xg 0x100000")
    table.execute(hello, "stepi")
    assert str(table.execute(hello, "x")).startswith("0x100010:")


def test_x_leaves_its_address_and_what_is_there(hello: Session, table: CommandTable) -> None:
    table.execute(hello, "x/3xw 0x100000")
    assert "= 0x100008 " in str(table.execute(hello, "print $_"))
    word = int.from_bytes(hello.machine.memory.peek(0x100008, 4), "little")
    assert f"= {word:#x} " in str(table.execute(hello, "print $__"))
