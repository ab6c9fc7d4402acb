"""Execution counts are exact: each instruction's is what the bare engine's trace says, however the run was cut up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import cache

import lockstep_layout as layout
import lockstep_reference
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from iced_x86 import Code, Instruction, Register
from lockstep import DETERMINISTIC, Translated, compare_end
from lockstep_assembler import Assembler, relative_to_rip
from lockstep_random import Genes, assemble, genes
from lockstep_state import Outcome, Program

from dbgvmm.bt.counting import UNKNOWN
from dbgvmm.bt.emit_counting import SLOTS
from dbgvmm.hardware.layout import TC_OFFSET, TC_VA

RINGS = pytest.mark.parametrize("cpl", [0, 3])


@cache
def world() -> Translated:
    """A machine that counts."""
    translated = Translated()
    translated.machine.counters.start()
    return translated


def expected_counts(outcome: Outcome, program: Program) -> Counter[int]:
    """Executions by address, out of the reference's trace."""
    counts = Counter(state.rip for state in outcome.states)
    counts[outcome.states[-1].rip] -= 1  # the last one did not run, or has faulted
    return +counts


def measure(run: Callable[[Translated], None], program: Program, outcome: Outcome, how: str) -> None:
    """Run it and compare: the end's state with the reference's, each instruction's count, and the sum with the clock."""
    counters = world().machine.counters
    counters.clear()
    began = world().machine.count
    run(world())
    compare_end(world(), outcome, program, how)
    counts = counters.counts()
    assert sum(counts.instructions.values()) == world().machine.count - began == counts.total, how
    code = range(program.base, program.base + layout.CODE_PAGES * layout.PAGE)
    found = {address: times for (_, address), times in counts.by_address.items() if address in code}
    assert found == expected_counts(outcome, program), how
    assert sum(unit.instructions for unit in counts.units) == counts.total, how
    if not world().faulted:
        assert all(user == (program.cpl == 3) for user, _ in counts.by_address)


def check_counts(program: Program, stops: tuple[int, ...] = ()) -> None:
    """Run a program freely into a cold and a warm cache, to a count, in steps, and with stops."""
    outcome = lockstep_reference.run(program)
    length = len(outcome.states) - 1
    through = length + 2 * (outcome.fault is not None)
    visits = sum(state.rip == outcome.final.rip for state in outcome.states[1:])

    def freely(machine: Translated) -> None:
        if outcome.fault is not None:
            machine.run_freely(layout.SYSTEM, 1)
        elif length:
            machine.run_freely(outcome.final.rip, visits)

    def stepping(machine: Translated) -> None:
        for _ in range(length):
            machine.machine.step()
        if outcome.fault is not None:
            machine.run_to(through)

    def with_stops(machine: Translated) -> None:
        for stop in sorted(stops):
            machine.run_to(stop % (length + 1))
        machine.run_to(through)

    for how, run in (("freely", freely), ("to a count", lambda machine: machine.run_to(through)), ("stepped", stepping),
                     ("with stops", with_stops)):  # fmt: skip
        world().load(program)
        measure(run, program, outcome, how)


@settings(DETERMINISTIC, max_examples=80)
@given(
    sequence=st.lists(genes(), min_size=1, max_size=40), base=st.sampled_from(layout.BASES), cpl=st.sampled_from((0, 3)),
    stops=st.lists(st.integers(0, 40), max_size=3),
)  # fmt: skip
def test_any_straight_line_code_and_its_faults(sequence: list[Genes], base: int, cpl: int, stops: list[int]) -> None:
    code = b"\x90" + assemble(sequence, base, 0x101)
    check_counts(Program(code, base=base, cpl=cpl), tuple(stops))


@settings(DETERMINISTIC, max_examples=60)
@given(
    pattern=st.lists(st.sampled_from(("forward", "count", "work", "leave", "live")), min_size=2, max_size=14),
    rounds=st.integers(1, 30), bits=st.integers(0, (1 << 30) - 1), cpl=st.sampled_from((0, 3)),
    stops=st.lists(st.integers(0, 400), max_size=2),
)  # fmt: skip
def test_loops_with_side_exits(pattern: list[str], rounds: int, bits: int, cpl: int, stops: list[int]) -> None:
    """Unrolled or not; forward branches that are taken in some rounds, ways out of the loop, flags that are live."""
    program = Assembler().load(Register.RCX, rounds).load(Register.RBX, bits).raw("31 c0").label("top")
    for piece in pattern:
        if piece == "forward":
            after = program.fresh()
            program.raw("d1 cb").branch(Code.JB_REL8_64, after).raw("48 ff c0 90").label(after)  # ror ebx, 1; jc
        elif piece == "leave":
            program.raw("0f ba e3 07").branch(Code.JB_REL32_64, "out").raw("d1 cb")  # bt ebx, 7; jc
        else:
            program.raw({"count": "83 c2 03", "work": "4c 8d 04 03 48 89 06", "live": "11 d2 11 d2"}[piece])
    program.raw("ff c9").branch(Code.JNE_REL32_64, "top").label("out").raw("90 90")
    check_counts(program.program(cpl=cpl, limit=2000), tuple(stops))


@RINGS
@pytest.mark.parametrize("length", [1, 2, 5, 11, 31, 32, 33, 70])
def test_a_loop_is_counted_round_by_round_however_it_is_unrolled(length: int, cpl: int) -> None:
    body = bytes((0x90,)) * (length - 1)
    program = Assembler().load(Register.RCX, 20).label("top").raw(body).branch(Code.LOOP_REL8_64_RCX, "top").raw("90")
    check_counts(program.program(cpl=cpl, limit=2000), (7, 100))


@RINGS
def test_calls_returns_and_calls_through_registers(cpl: int) -> None:
    program = Assembler().load(Register.RCX, 5).address(Register.RBX, "leaf").label("top").branch(Code.CALL_REL32_64, "leaf")
    program.raw("ff d3").branch(Code.LOOP_REL8_64_RCX, "top").branch(Code.JMP_REL32_64, "end").label("leaf").raw("48 ff c0 c3")
    check_counts(program.label("end").raw("90").program(cpl=cpl), (3, 9, 20))


@RINGS
@pytest.mark.parametrize("functions", [1, 3, SLOTS, SLOTS + 3])
def test_where_calls_through_pointers_go_is_counted_with_flags_alive(functions: int, cpl: int) -> None:
    """A table of functions is called in turn, again and again; each adds with the carry that was there at the call."""
    times = 12
    program = Assembler().load(Register.RCX, times * functions).address(Register.RBX, "first").load(Register.R9, functions)
    program.raw("4c 89 ce").label("top").raw("48 89 d8 f9 ff d0")  # mov rsi, r9; top: mov rax, rbx; stc; call rax
    program.raw("48 83 c3 08 48 ff ce").branch(Code.JNE_REL8_64, "next")  # add rbx, 8; dec rsi
    program.address(Register.RBX, "first").raw("4c 89 ce").label("next").branch(Code.LOOP_REL8_64_RCX, "top")
    program.branch(Code.JMP_REL32_64, "end").label("first")
    for number in range(functions):
        program.raw(bytes((0x48, 0x83, 0xD2, number, 0xC3, 0x90, 0x90, 0x90)))  # adc rdx, number; ret
    placed = program.label("end").raw("90").program(cpl=cpl, limit=4000)
    world().load(placed)
    check_counts(placed, (5, 17, 60))
    _, labels = program.code()
    site = labels["top"] + 4
    world().load(placed)
    counters = world().machine.counters
    counters.clear()
    world().run_freely(placed.end - 1, 1)
    counts = counters.counts()
    (targets,) = (found for item, found in counts.indirect_calls.items() if item.address == site)
    addresses = [labels["first"] + 8 * number for number in range(functions)]
    known = {target: found for target, found in targets.items() if target != UNKNOWN}
    assert sum(targets.values()) == counts.at(site) == times * functions
    assert set(known) <= set(addresses)
    if functions <= SLOTS:
        assert known == dict.fromkeys(addresses, times)
    else:
        assert sum(found == times for found in known.values()) >= SLOTS - 1 and targets[UNKNOWN] > times


def test_a_call_through_a_pointer_that_is_never_reached_went_nowhere() -> None:
    """Its unit is left before it."""
    program = Assembler().raw("90 31 c0 85 c0").branch(Code.JE_REL8_64, "end").raw("ff d3").label("end").raw("90").program()
    world().load(program)
    world().machine.counters.clear()
    world().run_freely(program.end, 1)
    counts = world().machine.counters.counts()
    assert counts.at(program.start) == 1
    assert counts.indirect_calls == {}


@RINGS
@pytest.mark.parametrize("rounds", [6, 60])
def test_code_that_changes_itself_keeps_the_counts_of_what_it_was(rounds: int, cpl: int) -> None:
    """More often than a page may be written before it counts as data, too."""
    program = Assembler().load(Register.RCX, rounds).label("top").label("add").raw("05 01 00 00 00")
    program.late(
        lambda labels: Instruction.create_mem_reg(
            Code.MOV_RM8_R8, relative_to_rip(labels.get("add", layout.LOW) + 1), Register.CL
        )
    )
    program.branch(Code.LOOP_REL8_64_RCX, "top").raw("90")
    check_counts(program.program(cpl=cpl, limit=1000), (5, 10))
    versions = [item.data for item in world().machine.counters.counts().instructions if item.data[:1] == b"\x05"]
    assert len(versions) == len(set(versions)) == rounds


def test_what_ran_before_a_flush_is_not_lost() -> None:
    program = Assembler().load(Register.RCX, 1000).label("top").raw("90 90").branch(Code.LOOP_REL8_64_RCX, "top").program()
    machine = world().machine
    world().load(program)
    machine.counters.clear()
    for _ in range(5):
        machine.run(steps=100)
        machine.cache.flush()
    counts = machine.counters.counts()
    assert sum(counts.instructions.values()) == 500
    assert counts.at(program.start) == 1


def test_breakpoints_do_not_disturb_the_counts() -> None:
    program = Assembler().load(Register.RCX, 50).label("top").raw("48 ff c0 90").branch(Code.LOOP_REL8_64_RCX, "top")
    placed = program.program(limit=1000)
    machine = world().machine
    world().load(placed)
    machine.counters.clear()
    top = placed.start + 10
    machine.breakpoints.add(top)
    for _ in range(10):
        machine.run(max_count=machine.count + 1000)
    machine.breakpoints.remove(top)
    counts = machine.counters.counts()
    assert counts.at(placed.start) == 1
    assert counts.at(top) == 9  # the machine stands in front of the tenth
    assert sum(counts.instructions.values()) == counts.total == 1 + 9 * 3


def test_counting_stops_and_goes_on_where_it_stopped() -> None:
    program = Assembler().load(Register.RCX, 1000).label("top").raw("90 90").branch(Code.LOOP_REL8_64_RCX, "top").program()
    translated = Translated()
    machine = translated.machine
    translated.load(program)
    counters = machine.counters
    for counted, steps in ((True, 101), (False, 57), (True, 33)):
        counters.start() if counted else counters.stop()
        machine.run(steps=steps)
    assert counters.running
    assert counters.total == sum(counters.counts().instructions.values()) == 134
    assert counters.counts().total == 134
    counters.clear()
    assert counters.counts().instructions == {}
    machine.run(steps=10)
    assert sum(counters.counts().instructions.values()) == 10


def test_translations_are_the_same_bytes_after_counting_as_if_nobody_had_counted() -> None:
    program = Assembler().load(Register.RCX, 50).label("top").raw("48 ff c0 90").branch(Code.LOOP_REL8_64_RCX, "top")
    placed = program.raw("90").program(limit=1000)
    found = []
    for counts in (False, True):
        translated = Translated()
        if counts:
            translated.machine.counters.start()
        translated.load(placed)
        translated.run_to(40)
        if counts:
            translated.machine.counters.stop()
        translated.load(placed)
        translated.run_freely(placed.end, 1)
        frames = translated.machine.engine.frames.block.bytes
        units = sorted(translated.machine.cache.units(), key=lambda unit: unit.guest_rip)
        found.append([
            bytes(frames[TC_OFFSET + unit.tc_start - TC_VA : TC_OFFSET + unit.tc_end - TC_VA]) for unit in units
        ])  # fmt: skip
    assert found[0] == found[1]
    assert len(found[0]) > 1
