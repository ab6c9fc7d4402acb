"""Steps by line of source, and out of functions: `step`, `next`, `finish`, `until`, on our own guests."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from gdb_runs import GDB, under_dbgvmm

from dbgvmm import Machine
from dbgvmm.commands import CommandError, CommandTable, Session
from dbgvmm.commands.run_control import StopReport
from dbgvmm.debug.source_steps import SourceSteps
from dbgvmm.debug.stops import StopKind
from dbgvmm.debug.symbols import load_symbols
from dbgvmm.debug.symbols.line_unit import SourceLine

Guest = Callable[[str], Path]
Begin = Callable[[str, str], Session]


@pytest.fixture
def begin(booted: Callable[..., Machine], guest: Guest, table: CommandTable) -> Begin:
    """`begin("frames", "kmain")` is a session with that guest in front of that place."""

    def session_at(name: str, place: str) -> Session:
        session = Session(booted(name), load_symbols(guest(name).with_suffix(".elf64")), table=table)
        session.command(f"until {place}")
        return session

    return session_at


def test_next_goes_from_line_to_line_and_over_calls(begin: Begin) -> None:
    session = begin("hello", "kmain")
    report: StopReport = session.command("next")
    assert report.source is not None
    assert (report.source.file, report.source.text) == ("hello/hello.c", 'print("Hello from long mode.\\n");')
    assert report.stop.kind is StopKind.STEP
    assert f"hello/hello.c:{report.source.line}   print(" in str(report)
    assert not list(session.machine.breakpoints)
    assert session.machine.last_stop is report.stop


def test_step_goes_into_a_call_and_finish_out_of_it(begin: Begin) -> None:
    session = begin("frames", "omitted")
    inside = session.command("step")
    assert session.symbols.describe(inside.rip) == "deepest"
    out = session.command("finish")
    assert out.stop.text == "returned"
    assert session.symbols.describe(out.rip).startswith("omitted+")
    assert session.machine.registers.rax == 10, "what deepest(5) returns"


def test_a_function_without_lines_is_run_as_a_whole(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    session = begin("frames", "omitted")
    deepest, known = session.symbols["deepest"], session.symbols.source_line

    def source_line(address: int, cr3: int | None = None, *, statement: bool = False) -> SourceLine | None:
        return None if deepest.address <= address < deepest.end else known(address, cr3, statement=statement)

    monkeypatch.setattr(session.symbols, "source_line", source_line)
    report = session.command("step")
    assert session.symbols.describe(report.rip).startswith("kmain+"), "omitted has but one line"


def test_without_lines_it_is_an_instruction_and_says_so(booted: Callable[..., Machine], table: CommandTable) -> None:
    session = Session(booted("hello"), table=table)
    report = session.command("step")
    assert (report.count, report.source) == (1, None)
    assert "no line of source is known here: one instruction, as `stepi`" in str(report)
    assert "as `nexti`" in str(session.command("next"))


def test_next_stays_in_its_frame_of_a_recursive_function(begin: Begin) -> None:
    session = begin("cpubound", "fib")
    registers, caller = session.machine.registers, session.machine.unwinder.returns_to()
    while session.machine.unwinder.returns_to().sp == caller.sp:
        report = session.command("next")
        assert report.stop.kind is StopKind.STEP
        assert registers.rsp > caller.sp - 256, "not in a call of itself"
    assert session.machine.cpu.rip == caller.pc


def test_a_breakpoint_within_a_call_stops_next_and_finish(begin: Begin) -> None:
    session = begin("frames", "omitted_with_locals")
    session.command("break deepest")
    report = session.command("finish")
    assert (report.number, session.symbols.describe(report.rip)) == (1, "deepest")
    assert str(report).startswith("breakpoint 1, ")
    session.command("finish")
    session.command("until frames/main.c:26")
    report = session.command("next 9")
    assert (report.number, session.symbols.describe(report.rip)) == (1, "deepest")
    assert session.command("info breakpoints").lines[0].hits == 2
    assert len(session.machine.breakpoints) == 1


def test_finish_leads_from_a_handler_to_what_was_interrupted(begin: Begin) -> None:
    session = begin("frames", "on_breakpoint")
    names = []
    for _ in range(3):
        report = session.command("finish")
        names.append(session.symbols.describe(report.rip).partition("+")[0])
    assert names == ["trap_dispatch", "isr_return", "omitted_and_trapping"]


def test_out_of_the_outermost_function_nothing_leads(begin: Begin) -> None:
    with pytest.raises(CommandError, match="nothing is known to which this returns"):
        begin("hello", "halt_forever").command("finish")


def test_in_32_bit_code_finish_steps_to_the_return_and_says_so(booted: Callable[..., Machine], table: CommandTable) -> None:
    session = Session(booted("hello"), table=table)
    machine = session.machine
    machine.memory.poke(0x5000, bytes.fromhex("e801000000f4b903000000e2fec3"))  # call f; hlt; f: mov ecx, 3; loop $; ret
    machine.registers.rsp = 0x8000
    machine.registers.rip = 0x5000
    session.command("stepi")
    assert machine.cpu.rip == 0x5006
    report = session.command("finish")
    assert machine.cpu.rip == 0x5005
    assert "by single steps" in str(report)


@pytest.mark.parametrize("line", ["until {}", "advance {}", "tbreak {}", "break {}", "jump {}"])
def test_a_line_of_a_file_is_a_place(begin: Begin, line: str) -> None:
    session = begin("hello", "kmain")
    place = session.symbols.places("hello.c", 10)[0]
    if line.startswith("jump"):
        session.command("watch $rsp-8 8")  # where the call there puts its return address
    report = session.command(line.format("hello.c:10"))
    if "break" in line:
        assert report.address == place.start
        report = session.command("continue")
    if line.startswith("jump"):
        assert session.symbols.source_line(session.machine.memory.u64[session.machine.registers.rsp] - 1).line == 10
    else:
        assert report.rip == place.start


def test_steps_change_nothing_of_the_run(begin: Begin) -> None:
    left = begin("frames", "kmain")
    whole = left.command("continue")
    session = begin("frames", "kmain")
    for line in (
        "next 2", "until omitted_with_locals", "step 5", "finish", "next", "step", "until omitted_and_trapping", "step",
        "next 2",
    ):  # fmt: skip
        assert session.command(line).stop.kind in (StopKind.STEP, StopKind.BREAKPOINT)
    end = session.command("continue")
    size = left.machine.ram.size
    assert (end.count, end.stop) == (whole.count, whole.stop)
    assert session.machine.ram.read(0, size) == left.machine.ram.read(0, size)


def test_a_loop_within_a_line_is_no_single_steps(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    session = begin("frames", "omitted_with_locals")
    runs = 0
    run = session.run

    def counted(*, steps: int | None = None):  # type: ignore[no-untyped-def]  # as Session.run
        nonlocal runs
        runs += 1
        return run(steps=steps)

    steps = SourceSteps(session.machine, counted)
    before = session.machine.count
    steps.finish()
    assert session.machine.count - before > 1000
    assert runs == 1


@pytest.mark.skipif(GDB is None, reason="gdb is not installed")
@pytest.mark.parametrize(
    ("name", "place", "moves"),
    [
        ("frames", "kmain", ["next"] * 10),
        ("frames", "omitted_with_locals", ["step"] * 12),
        ("exceptions", "catch_trap", ["next"] * 6),
        ("frames", "deepest", ["finish"] * 2 + ["next"]),
    ],
)
def test_each_step_ends_where_gdbs_does(
    begin: Begin, guest: Guest, tmp_path: Path, name: str, place: str, moves: list[str]
) -> None:
    pcs = [word for move in moves for word in (move, "printf \"pc=%lx\\n\", $pc")]
    shown = under_dbgvmm(guest(name), tmp_path / "gdb", f"thbreak *{place}", "continue", *pcs)
    theirs = [int(line[3:], 16) for line in shown.splitlines() if line.startswith("pc=")]
    session = begin(name, place)
    ours = [session.command(move).rip for move in moves]
    assert list(map(hex, ours)) == list(map(hex, theirs)), shown
