"""`frame`, `up`, `down`, `info frame`: expressions and places of a caller, in the guest `frames`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dbgvmm.commands import CommandError, CommandTable, Session
from dbgvmm.commands.expression import evaluate
from dbgvmm.cpu.bits import GPR

CALLERS = 7
"""Frames in `deepest`, when `omitted_and_aligned` has led there."""


@pytest.fixture
def run(deepest: Session, table: CommandTable) -> Callable[[str], Any]:
    """`run("up 2")`"""
    return lambda line: table.execute(deepest, line)


def test_registers_are_those_of_the_selected_frame(deepest: Session, run: Callable[[str], Any]) -> None:
    frames = deepest.machine.unwinder.frames()
    cpu = deepest.machine.cpu
    for level in (3, 1, 0):
        assert run(f"frame {level}").frame.level == level
        assert evaluate(deepest, "$rip") == evaluate(deepest, "pc") == frames[level].pc
        assert evaluate(deepest, "$rsp + 8") == frames[level].sp + 8
        assert evaluate(deepest, "$esp") == frames[level].sp & 0xFFFF_FFFF
    assert evaluate(deepest, "$rip") == cpu.rip
    assert evaluate(deepest, "*($rsp)") == frames[1].pc, "in front of the first instruction the return address is on top"


def test_a_callers_registers_are_what_it_finds_when_the_callee_has_returned(
    deepest: Session, run: Callable[[str], Any]
) -> None:
    run("frame 1")
    expected = run("info frame").registers
    assert len(expected) > 6
    run("frame 0")
    run("finish")
    cpu = deepest.machine.cpu
    names = {"rbx": GPR.RBX, "rbp": GPR.RBP, "rsp": GPR.RSP, **{f"r{number}": number for number in range(12, 16)}}
    assert {name: cpu.gpr[number] for name, number in names.items()} | {"rip": cpu.rip} == expected


def test_finish_returns_from_the_selected_frame(deepest: Session, run: Callable[[str], Any]) -> None:
    frames = deepest.machine.unwinder.frames()
    run("frame 3")
    stop = run("finish")
    assert (stop.rip, deepest.machine.cpu.gpr[GPR.RSP]) == (frames[4].pc, frames[4].sp)
    run("up 100")
    with pytest.raises(CommandError, match="nothing is known to which this returns"):
        run("finish")


def test_what_is_not_known_of_a_caller_is_said_to_be_unknown(deepest: Session, run: Callable[[str], Any]) -> None:
    run("up")
    for text in ("$rax", "ecx + 1", "*$rdi", "{u8}$al"):
        with pytest.raises(CommandError, match="is not known in frame 1"):
            evaluate(deepest, text)
    assert evaluate(deepest, "$cr3") == deepest.machine.cpu.cr3, "which no frame has for itself"


def test_up_and_down_end_at_the_outermost_and_the_innermost_frame(run: Callable[[str], Any]) -> None:
    assert run("up").frame.level == 1
    assert run("up 3").frame.level == 4
    assert run("down").frame.level == 3
    assert run("up 100").frame.level == CALLERS - 1
    with pytest.raises(CommandError, match="frame 6 is the outermost one"):
        run("up")
    assert run("down 100").frame.level == 0
    with pytest.raises(CommandError, match="innermost"):
        run("down")
    with pytest.raises(CommandError, match="there is no frame 7: the last one is 6"):
        run("frame 7")


def test_source_code_and_breakpoints_are_those_of_the_selected_frame(deepest: Session, run: Callable[[str], Any]) -> None:
    selected = run("frame 5")
    assert "omitted_and_aligned(4)" in selected.source.text
    assert run("list").current == selected.source.line
    assert run("info line").lines[0].line == selected.source.line
    assert run("disassemble").lines[0].address == run("disassemble").current == selected.frame.pc
    assert run("break").address == selected.frame.pc
    assert run("continue").rip == selected.frame.pc


def test_a_selected_frame_lasts_until_the_guest_goes_on(deepest: Session, run: Callable[[str], Any]) -> None:
    run("frame 2")
    assert run("frame").frame.level == 2
    run("stepi")
    assert run("frame").frame.level == 0
    assert evaluate(deepest, "$rip") == deepest.machine.cpu.rip
    run("frame 2")
    run("frame 0")
    run("set $rbx = $rbx + 1")
    assert run("frame").frame.level == 0


def test_only_the_cpus_registers_can_be_set(deepest: Session, run: Callable[[str], Any]) -> None:
    run("frame 1")
    before = list(deepest.machine.cpu.gpr)
    for text in ("set $rbx = 1", "set ebx = 1", "set rip 5"):
        with pytest.raises(CommandError, match="`frame 0` selects the CPU's own"):
            run(text)
    assert list(deepest.machine.cpu.gpr) == before
    frame = deepest.frame
    assert frame is not None
    run("set {u64}($rsp - 8) = 7")
    assert deepest.machine.memory.peek(frame.sp - 8, 8) == (7).to_bytes(8, "little"), "memory of the frame can"


def test_a_breakpoints_condition_asks_the_cpu(deepest: Session, run: Callable[[str], Any]) -> None:
    run("frame 1")
    run("break deepest if $rip == deepest")
    stop = run("continue")
    assert stop.rip == evaluate(deepest, "deepest")


def test_info_frame_says_how_it_was_found_and_who_called(run: Callable[[str], Any]) -> None:
    assert "the CPU stands in it" in str(run("info frame"))
    run("up")
    details = run("info frame")
    assert "found by cfi" in str(details)
    assert details.caller.level == 2
    run("up 100")
    assert run("info frame").caller is None
    assert "outermost" in run("info frame").end
