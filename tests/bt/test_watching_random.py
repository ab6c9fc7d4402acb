"""Random code under watchpoints: no change to watched memory is missed, and the code does what it does without them."""

from __future__ import annotations

from functools import cache

import lockstep_layout as layout
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from lockstep import DETERMINISTIC, Translated
from lockstep_random import Genes, assemble, genes, leaves_flags_undefined
from lockstep_state import Program

from dbgvmm import Machine
from dbgvmm.bt.watching import Watch
from dbgvmm.debug.stops import StopKind

FRAMES = slice(layout.DATA_FRAME, layout.DATA_FRAME + layout.DATA_PAGES * layout.PAGE)


@cache
def world() -> Translated:
    return Translated()


def steps_that_change_data(program: Program, length: int) -> tuple[list[int], bytes]:
    """Instruction counts at which the data frames differ from those one instruction earlier; and all of RAM at the end."""
    machine = _loaded(program)
    began, changed = machine.count, []
    before = bytes(machine.ram.bytes[FRAMES])
    for _ in range(length):
        stop = machine.step()
        after = bytes(machine.ram.bytes[FRAMES])
        if after != before:
            changed.append(machine.count - began)
        before = after
        if stop.kind is not StopKind.STEP or world().faulted:
            break
    return changed, bytes(machine.ram.bytes)


def watched_steps(program: Program, length: int, watch: Watch) -> tuple[set[int], bytes]:
    """Instruction counts at which the watchpoint stopped; and all of RAM at the end."""
    machine = _loaded(program)
    began, hits = machine.count, set()
    machine.watchpoints.add(watch)
    while True:
        stop = machine.run(max_count=began + length)
        if stop.kind is not StopKind.WATCHPOINT:
            break
        hits.add(machine.count - began)
    machine.watchpoints.clear()
    return hits, bytes(machine.ram.bytes)


def _loaded(program: Program) -> Machine:
    world().load(program)
    return world().machine


@settings(DETERMINISTIC, max_examples=100)
@given(
    sequence=st.lists(genes(), min_size=1, max_size=16),
    base=st.sampled_from(layout.BASES),
    cpl=st.sampled_from((0, 3)),
    reads=st.booleans(),
)
def test_no_change_is_missed_and_nothing_else_changes(sequence: list[Genes], base: int, cpl: int, reads: bool) -> None:
    program = Program(b"\x90" + assemble(sequence, base, 0x101), base=base, cpl=cpl)
    assume(not leaves_flags_undefined(program.code, program.start))
    length = len(sequence) + 1
    changed, memory = steps_that_change_data(program, length)
    watch = Watch(layout.DATA_FRAME, layout.DATA_PAGES * layout.PAGE, reads=reads, physical=True)
    hits, watched_memory = watched_steps(program, length, watch)
    missed = [count for count in changed if count not in hits and count - 1 not in hits]  # a repeated one stops before its end
    assert not missed
    assert watched_memory == memory
