"""Compiled conditions: they agree with the interpreter of agent expressions, and the guest does not notice them."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import lockstep_layout as layout
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lockstep import DETERMINISTIC, Translated
from lockstep_assembler import Assembler
from lockstep_state import Program

from dbgvmm import Machine
from dbgvmm.debug.address_space import InAddressSpace
from dbgvmm.debug.agent import MachineAgent, ProgrammedCondition
from dbgvmm.debug.gdb_description import GDB_REGISTERS
from dbgvmm.debug.stops import StopKind
from dbgvmm.hardware.layout import MASK64
from dbgvmm.hardware.paging import PTE
from gdbstub import BreakpointPrograms
from gdbstub.agent import EvaluationError, Op, decode, evaluate

DATA = layout.LOW + layout.DATA + 0x1000
STACK = layout.LOW + layout.STACK + 0x1000


@cache
def world() -> Translated:
    return Translated()


def const(number: int) -> bytes:
    return bytes((Op.CONST64,)) + (number & MASK64).to_bytes(8, "big")


def reg(number: int) -> bytes:
    return bytes((Op.REG,)) + number.to_bytes(2, "big")


BINARY = (
    Op.ADD, Op.SUB, Op.MUL, Op.DIV_SIGNED, Op.DIV_UNSIGNED, Op.REM_SIGNED, Op.REM_UNSIGNED, Op.LSH, Op.RSH_SIGNED,
    Op.RSH_UNSIGNED, Op.BIT_AND, Op.BIT_OR, Op.BIT_XOR, Op.EQUAL, Op.LESS_SIGNED, Op.LESS_UNSIGNED,
)  # fmt: skip
numbers = st.one_of(st.integers(0, 70), st.integers(0, MASK64), st.sampled_from((1 << 63, MASK64, 1 << 31, 1 << 32)))
leaves = st.one_of(
    numbers.map(const),
    st.integers(0, 15).map(reg),
    st.tuples(st.integers(0, 64), st.sampled_from((Op.REF8, Op.REF16, Op.REF32, Op.REF64))).map(
        lambda pair: const(DATA + pair[0]) + bytes((pair[1],))
    ),
)


def compound(parts: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    narrow = st.tuples(st.sampled_from((Op.EXT, Op.ZERO_EXT)), st.integers(0, 66)).map(bytes)
    unary = st.one_of(st.sampled_from((Op.LOG_NOT, Op.BIT_NOT)).map(lambda op: bytes((op,))), narrow)
    return st.one_of(
        st.tuples(parts, parts, st.sampled_from(BINARY)).map(lambda t: t[0] + t[1] + bytes((t[2],))),
        st.tuples(parts, unary).map(b"".join),
        st.tuples(parts, parts).map(lambda t: t[0] + t[1] + bytes((Op.SWAP, Op.PICK, 1, Op.ADD, Op.SUB))),
        st.tuples(parts, parts, parts).map(lambda t: b"".join(t) + bytes((Op.ROT, Op.SUB, Op.DUP, Op.ADD, Op.BIT_XOR))),
    )


expressions = st.recursive(leaves, compound, max_leaves=6)


class Counting:
    """A condition that counts how often the monitor asks it."""

    def __init__(self, machine: Machine, code: bytes) -> None:
        self._condition = ProgrammedCondition(
            MachineAgent(machine, lambda text: None), BreakpointPrograms((decode(code),))
        )
        self.probe = self._condition.probe
        self.asked = 0

    def __call__(self) -> bool:
        self.asked += 1
        return self._condition()


class Run(NamedTuple):
    """How a run with a condition went, and how often it stopped there."""

    machine: Machine
    condition: Counting
    hits: int


def run(code: bytes, cpl: int = 0, flags: int = 2) -> Run:
    """A program with the condition in front of its second nop, run to its end. It loads from DATA first."""
    registers = {f"r{n}": 0x1111 * n for n in range(8, 16)} | {"rsp": STACK, "rax": 5, "rbx": MASK64, "rcx": 7, "rdx": DATA}
    program = Assembler().raw("48 8b 3a 90 90 90").program(gpr=registers, cpl=cpl, rflags=flags)
    machine = loaded(program)
    condition = Counting(machine, code)
    machine.breakpoints.add(program.start + 4, condition)
    return Run(machine, condition, hits_before(machine, program.end))


def hits_before(machine: Machine, end: int) -> int:
    machine.breakpoints.add(end)
    hits = 0
    while machine.run(max_count=machine.count + 1_000_000).kind is StopKind.BREAKPOINT and machine.cpu.rip != end:
        hits += 1
    assert machine.cpu.rip == end
    machine.breakpoints.clear()
    return hits


def loaded(program: Program) -> Machine:
    world().load(program)
    return world().machine


@settings(DETERMINISTIC, max_examples=300)
@given(expression=expressions, cpl=st.sampled_from((0, 3)))
def test_a_compiled_condition_holds_exactly_when_the_interpreter_says_so(expression: bytes, cpl: int) -> None:
    code = expression + bytes((Op.END,))
    done = run(code, cpl)
    assert done.condition.probe is not None
    agent = MachineAgent(done.machine, lambda text: None)
    try:
        expected = evaluate(decode(code), agent) != 0  # nops changed nothing that it looks at
    except EvaluationError:
        expected = True
    assert done.hits == int(expected)


EDGES = (0, 1, 63, 64, 65, 1 << 31, 1 << 63, MASK64)


@pytest.mark.parametrize("op", BINARY)
def test_compiled_operators_agree_at_the_edges(op: Op) -> None:
    agent = MachineAgent(world().machine, lambda text: None)
    wrong = []
    asked = runs = 0
    for left in EDGES:
        for right in EDGES:
            try:
                result = evaluate(decode(const(left) + const(right) + bytes((op, Op.END))), agent)
            except EvaluationError:
                continue
            equal = const(left) + const(right) + bytes((op,)) + const(result) + bytes((Op.EQUAL,))
            unequal = run(equal + bytes((Op.LOG_NOT, Op.END)))
            if unequal.hits or not run(equal + bytes((Op.END,))).hits:
                wrong.append((left, right))
            asked += unequal.condition.asked
            runs += 1
    assert wrong == []
    assert asked < runs // 2  # where the next tick of the timer is near, and at an overflow


def jump(op: Op, to: int) -> bytes:
    return bytes((op,)) + to.to_bytes(2, "big")


@pytest.mark.parametrize("left", [0, 5])
@pytest.mark.parametrize("right", [0, 7])
def test_jumps_are_compiled(left: int, right: int) -> None:
    """As gdb writes `left && right`, and `left || right`."""
    size, step = len(const(0)), len(jump(Op.GOTO, 0))
    second = size + 2 * step
    third = second + size + 2 * step
    end = third + 2 * size + step
    both = (
        const(left) + jump(Op.IF_GOTO, second) + jump(Op.GOTO, third + size + step)
        + const(right) + jump(Op.IF_GOTO, third) + jump(Op.GOTO, third + size + step)
        + const(1) + jump(Op.GOTO, end) + const(0) + bytes((Op.END,))
    )  # fmt: skip
    either = (
        const(left) + jump(Op.IF_GOTO, third + size + step) + jump(Op.GOTO, second)
        + const(right) + jump(Op.IF_GOTO, third + size + step) + jump(Op.GOTO, third)
        + const(0) + jump(Op.GOTO, end) + const(1) + bytes((Op.END,))
    )  # fmt: skip
    for code, expected in ((both, bool(left and right)), (either, bool(left or right))):
        done = run(code)
        assert done.condition.probe is not None
        assert done.hits == int(expected)


@settings(DETERMINISTIC, max_examples=60)
@given(expression=expressions, flags=st.integers(0, 0xFFF), cpl=st.sampled_from((0, 3)))
def test_the_guest_does_not_notice(expression: bytes, flags: int, cpl: int) -> None:
    flags = flags & 0xCD5 | 2
    cpu = run(expression + bytes((Op.LOG_NOT, Op.DUP, Op.BIT_XOR, Op.END)), cpl, flags).machine.cpu
    assert [cpu.gpr[number] for number in range(4)] == [5, 7, DATA, MASK64]
    assert [cpu.gpr[number] for number in range(8, 16)] == [0x1111 * number for number in range(8, 16)]
    assert cpu.rflags & 0xCD5 == flags & 0xCD5


def visits(text: str, at: int, code: bytes, rounds: int) -> tuple[int, int]:
    """Stops at offset `at` of a loop that runs `rounds` times, and how often the monitor was asked."""
    program = Assembler().raw(text).program(gpr={"rsp": STACK, "rcx": rounds, "rsi": DATA})
    machine = loaded(program)
    condition = Counting(machine, code)
    machine.breakpoints.add(program.start + at, condition)
    return hits_before(machine, program.end), condition.asked


LOOP = "90 48 ff c8 90 48 ff c9 75 f7"
"""nop; 1: dec rax; nop; dec rcx; jne 1b"""


@pytest.mark.parametrize("at", [1, 4, 5, 8])
def test_a_condition_is_evaluated_at_every_arrival_and_costs_no_exit(at: int) -> None:
    third = reg(2) + const(3) + bytes((Op.EQUAL, Op.END))  # rcx == 3
    stops, asked = visits(LOOP, at, third, 500)
    assert stops == 1
    assert asked < 10  # the first arrivals, and those where the count ends a slice


def test_a_condition_that_cannot_be_compiled_is_asked_each_time() -> None:
    flags = reg(17) + const(1) + bytes((Op.BIT_AND, Op.DUP, Op.BIT_XOR, Op.END))
    assert visits(LOOP, 4, flags, 50) == (0, 50)


def test_what_the_guest_may_not_read_is_read_by_the_monitor() -> None:
    hidden = const(layout.SYSTEM + layout.GDT) + bytes((Op.REF8, Op.CONST8, 0xFE, Op.EQUAL, Op.END))
    done = run(hidden, cpl=3)
    assert done.condition.probe is not None
    assert (done.hits, done.condition.asked) == (0, 1)


def test_reading_for_a_condition_sets_no_accessed_bit() -> None:
    program = Assembler().raw("90 90 90 90").program(gpr={"rsp": STACK})
    machine = loaded(program)
    leaf = machine.memory.translate(DATA).levels[-1]
    machine.mmu.guest_write_int(leaf.entry_gpa, leaf.entry & ~PTE.A, 8)
    code = const(DATA) + bytes((Op.REF64, Op.DUP, Op.BIT_XOR, Op.END))
    machine.breakpoints.add(program.start + 2, Counting(machine, code))
    assert hits_before(machine, program.end) == 0
    assert not machine.memory.translate(DATA).levels[-1].entry & PTE.A


def test_a_breakpoint_of_one_address_space_holds_in_that_one() -> None:
    program = Assembler().raw("90 90 90 90").program(gpr={"rsp": STACK})
    for table, stops in ((layout.ROOT, 1), (layout.ROOT + layout.PAGE, 0)):
        machine = loaded(program)
        machine.breakpoints.add(program.start + 2, InAddressSpace(machine.cpu, table | 0xFFF))
        assert program.start + 2 in machine.cache.probes
        assert hits_before(machine, program.end) == stops


def test_gdbs_conditions_on_cr3_are_compiled() -> None:
    code = reg(next(n for n, row in enumerate(GDB_REGISTERS) if row.name == "cr3")) + const(layout.ROOT)
    done = run(code + bytes((Op.EQUAL, Op.END)))
    assert done.condition.probe is not None and done.hits == 1


def test_memory_that_is_not_there_stops_and_says_so() -> None:
    assert run(const(layout.LOW + layout.HOLE) + bytes((Op.REF8, Op.END))).hits == 1


def test_long_conditions_at_many_instructions_in_a_row() -> None:
    """More code than a page of the translation cache holds."""
    program = Assembler().raw("90" * 31).program(gpr={"rsp": STACK, "rcx": 9})
    machine = loaded(program)
    long = (const(1) + reg(2) + bytes((Op.DIV_SIGNED,))) * 1 + (const(1 << 40) + bytes((Op.MUL,))) * 20
    conditions = [Counting(machine, long + bytes((Op.DUP, Op.BIT_XOR, Op.END))) for _ in range(20)]
    for at, condition in enumerate(conditions, program.start + 1):
        assert condition.probe is not None and len(condition.probe.body) > 300
        machine.breakpoints.add(at, condition)
    assert hits_before(machine, program.end) == 0
    assert sum(condition.asked for condition in conditions) < 20


def test_two_conditions_at_one_address_stop_where_one_holds() -> None:
    program = Assembler().raw(LOOP).program(gpr={"rsp": STACK, "rcx": 20})
    machine = loaded(program)
    for number in (3, 5):
        machine.breakpoints.add(program.start + 4, Counting(machine, reg(2) + const(number) + bytes((Op.EQUAL, Op.END))))
    assert program.start + 4 in machine.cache.probes
    machine.breakpoints.add(program.end)
    found = []
    while machine.run().kind is StopKind.BREAKPOINT and machine.cpu.rip != program.end:
        found.append(machine.cpu.gpr[1])
    machine.breakpoints.clear()
    assert found == [5, 3]
